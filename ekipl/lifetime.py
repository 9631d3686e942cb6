"""A training process ends with the one that started it, and has its run directory to itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ekipl.errors import UsageError

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def end_with_parent() -> None:
    """Let Linux end this process with SIGTERM when its parent ends, by kill -9 too; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


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
