"""Exceptions that the commands handle. UsageError is the only one whose text is written for users."""


class UsageError(Exception):
    """Invalid input of the user: the commands print the text without a traceback and exit with 2.

    The text names the key or file, the value, the reason and the way out. One exception holds all errors, one per line.
    """


class MissingSplit(UsageError):
    """The data have no file for a split of the task."""


class BadRow(UsageError):
    """A row that cannot be read, though it was sound when the run began."""

    def __init__(self, text: str, *, skip: bool) -> None:
        """``skip`` says whether the run is to go on without it."""
        super().__init__(text)
        self.skip = skip


class GraderError(Exception):
    """A completion that could not be graded (deadline, crash of the grading process). Never a reward of 0."""
