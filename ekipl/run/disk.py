"""A full disk is told in one line."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ekipl.errors import UsageError

FULL = (errno.ENOSPC, errno.EDQUOT)
SCRAP = 2**20  # bytes that may be left where a larger write has failed


@contextmanager
def room_in(directory: Path) -> Iterator[None]:
    """Raises UsageError in place of what a write into ``directory`` raises when its disk is full."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save hides the reason, safetensors words it
        told = any(f"os error {number}" in str(error) for number in FULL)
        hidden = isinstance(error, RuntimeError) and shutil.disk_usage(directory).free < SCRAP
        if told or hidden or (isinstance(error, OSError) and error.errno in FULL):
            raise UsageError(
                f"hydra.run.dir: {directory}: no space left on its disk; make room, or give another directory"
            ) from error
        raise
