"""Whether an external model is called at all: it is set aside while it keeps failing."""

from __future__ import annotations

import sys
import time

IN_A_ROW = 20  # failures in a row after which a model is set aside; more than the samples of one problem
FIRST_REST_S = 60.0  # doubles whenever the model still fails after it
LONGEST_REST_S = 960.0


class Health:
    """Sets a model aside that keeps failing, and then lets one sample at a time test whether it has recovered."""

    def __init__(self, name: str) -> None:
        """``name`` is the model's, for warnings."""
        self.has_answered = False  # in this run or in the cache: the settings are right
        self._name = name
        self._failures = 0  # in a row
        self._rest_s = FIRST_REST_S
        self._until: float | None = None  # set aside until then; None = not set aside
        self._asked_until = 0.0  # the provider has asked for a pause until then
        self._is_tested = False  # one sample is testing the model

    def admits(self) -> bool:
        """Whether to call the model now. On True, report ``answered``, ``failed`` or ``cancelled`` afterwards."""
        if self._until is None:
            return True
        if self._is_tested or time.monotonic() < self._until:
            return False
        self._is_tested = True
        return True

    def answered(self) -> None:
        """Records an answer and takes the model back, unless it was sent before a pause that the provider asked for."""
        self.has_answered = True
        if time.monotonic() < self._asked_until:
            return
        if self._until is not None:
            warn(self._name, "answers again")
        self._is_tested = False
        self._failures, self._until, self._rest_s = 0, None, FIRST_REST_S

    def failed(self, reason: str, *, permanent: bool = False) -> None:
        """Records a failure. ``permanent``: the next call would fail too, so set the model aside now."""
        self._failures += 1
        resting = self._until is not None and not self._is_tested  # the call was sent before the model was set aside
        if resting or not (self._is_tested or permanent or self._failures >= IN_A_ROW):
            return
        self._is_tested = False
        self._until = time.monotonic() + self._rest_s
        warn(self._name, f"set aside for {self._rest_s:.0f} s ({reason}); the run goes on without it")
        self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)

    def rest(self, reason: str, seconds: float) -> None:
        """Sets the model aside for a pause that the provider asks for and that is too long to wait for."""
        until = time.monotonic() + seconds
        if self._until is None or until > self._until + 1.0:  # calls sent together get the same request: warn once
            self._until, self._asked_until, self._is_tested = until, until, False
            pause = f"set aside for {seconds:.0f} s, as its provider asks ({reason})"
            warn(self._name, f"{pause}; the run goes on without it")

    def cancelled(self) -> None:
        """Records that an admitted sample ended without a result."""
        self._is_tested = False


def warn(model: str, text: str) -> None:
    """Print a warning about an external model to stderr."""
    print(f"ekipl: warning: external model {model}: {text}", file=sys.stderr)
