"""Exceptions that the commands handle. UsageError is the only one whose text is written for users."""


class UsageError(Exception):
    """Invalid input of the user: the commands print the text without a traceback and exit with 2.

    The text names the key or file, the value, the reason and the way out. One exception holds all errors, one per line.
    """


class MissingSplit(UsageError):
    """The data have no file for a split of the task."""


class GraderError(Exception):
    """A completion that could not be graded (deadline, crash of the grading process). Never a reward of 0."""
