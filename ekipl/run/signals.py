"""How a training process ends: with its parent, or after the current step when a signal asks for it; and its lock.

On Linux every process of a run asks the kernel to be killed when its parent ends, so none outlives the command. The
first SIGTERM or SIGINT is stored in ``Stop.requested``; the recorder reads it after each step, agrees on it with the
other ranks, saves a checkpoint and raises ``Stopped``. A later signal ends the process at once.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ekipl.engine.rank import launched_rank
from ekipl.errors import UsageError

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PARENT = "EKIPL_PARENT"  # environment variable: the process id of the parent
TELL_S = 0.5  # after a signal
ECHO_S = 1.0  # the scheduler signals every rank and the launcher forwards its signal: repeats within 1 s count as one


def as_parent() -> dict[str, str]:
    """The environment of a child process that calls ``end_with_parent``."""
    return {**os.environ, PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Let Linux kill this process when its parent ends, by kill -9 too; no effect on other systems."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        parent = str(os.getppid())
        if os.environ.get(PARENT, parent) != parent:  # the parent ended before the call above
            os.kill(os.getpid(), signal.SIGKILL)


class Stopped(Exception):
    """Training stopped on a signal and can be resumed."""

    def __init__(self, number: int) -> None:
        """``number`` is the signal's."""
        super().__init__(number)
        self.number = number


class Stop:
    """A context that stores the first SIGTERM or SIGINT; another one, a second or more later, ends the process.

    Attributes:
        requested: the number of the signal, 0 while there is none.
    """

    def __init__(self) -> None:
        self._began, self._took = time.monotonic(), [0.0]  # of this step, and the seconds of those before
        self.requested = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}
        # A while later, so that a rank that is ended because another one failed says nothing.
        self._teller = threading.Timer(TELL_S, self._tell)
        self._teller.daemon = True

    def __enter__(self) -> Stop:
        """Install the handlers."""
        self._before = {number: signal.signal(number, self._store) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Restore the handlers.

        Raises:
            Stopped: a collective failed after this rank was asked to stop: another rank exited first and has already
                reported the reason.
        """
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._teller.cancel()
        if self.requested and isinstance(error, RuntimeError) and launched_rank() is not None:
            raise Stopped(self.requested) from error

    def _store(self, number: int, frame: FrameType | None) -> None:
        if self.requested and time.monotonic() - self._since >= ECHO_S:
            os._exit(128 + number)
        if not self.requested:
            self.requested, self._since = number, time.monotonic()
            if launched_rank() in (None, 0):
                self._teller.start()

    def _tell(self) -> None:
        print(f"ekipl train: {self.told()}", file=sys.stderr, flush=True)

    def step_done(self) -> None:
        """A step has ended, and the next one begins."""
        now = time.monotonic()
        self._took = [*self._took[-9:], now - self._began]
        self._began = now

    def told(self) -> str:
        """What happens next, and how long it will take."""
        name, now = signal.Signals(self.requested).name, time.monotonic() - self._began
        known = max(self._took)
        left = (
            f"in about {max(1.0, known - now):.0f} s, as steps take up to {known:.0f} s"
            if known
            else f"after the first step, which has run for {now:.0f} s"
        )
        return (
            f"{name}: stops {left}; then it saves a checkpoint and the model. A second signal ends it at once, and "
            "loses this step"
        )


@contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Lock ``directory`` against other commands. The kernel releases the lock when this process ends.

    Raises:
        UsageError: another command holds the lock.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"hydra.run.dir: {directory}: another ekipl command is at work there; wait, or give another directory"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
