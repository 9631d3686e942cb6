"""The one exception a user is meant to see: what is wrong, where, and the way out."""


class UsageError(Exception):
    """Bad input of the user's: the commands print its text without a traceback and exit with 2.

    The text names the key or file, the value, the reason and the way out. Several problems are one error, a line each.
    """


class MissingSplit(UsageError):
    """A split of the task that the data at hand have no file for."""


class GraderError(Exception):
    """A completion that could not be graded (deadline, crash of the grading process). Never a reward of 0."""
