"""When a training process ends: with the one that started it, or when asked to; it has its directory to itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ekipl.errors import UsageError

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PARENT = "EKIPL_PARENT"  # environment variable
ECHO_S = 1.0  # a cluster signals every process, and the command hands its own on: within this time they are one


def as_parent() -> dict[str, str]:
    """The environment of a process that is to end with this one."""
    return {**os.environ, PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Let Linux kill this process when its parent ends, by kill -9 too; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        parent = str(os.getppid())
        if os.environ.get(PARENT, parent) != parent:  # it has ended already
            os.kill(os.getpid(), signal.SIGKILL)


class Stopped(Exception):
    """Training has ended because it was asked to, and can be gone on with."""

    def __init__(self, number: int) -> None:
        """By signal ``number``."""
        super().__init__(number)
        self.number = number


class Stop:
    """Inside, SIGTERM and Ctrl-C are wishes to end, kept for a good moment; a second one ends the process at once.

    Attributes:
        wish: the number of the signal, 0 while there is none.
    """

    def __init__(self) -> None:
        self.wish = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        """Begin to keep wishes."""
        self._before = {number: signal.signal(number, self._keep) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Let the signals do what they did before.

        Raises:
            Stopped: a collective has failed in a process that was asked to end: another one has gone, and has told why.
        """
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.wish and isinstance(error, RuntimeError) and "RANK" in os.environ:
            raise Stopped(self.wish) from error

    def _keep(self, number: int, frame: FrameType | None) -> None:
        if self.wish and time.monotonic() - self._since >= ECHO_S:
            os._exit(128 + number)
        if not self.wish:
            self.wish, self._since = number, time.monotonic()


@contextmanager
def sole_user(directory: Path) -> Iterator[None]:
    """Inside, no other training writes into ``directory``. The lock ends with this process, however that ends.

    Raises:
        UsageError: another training is at work there.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"hydra.run.dir: {directory}: another ekipl train is at work there; wait, or give another directory"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
