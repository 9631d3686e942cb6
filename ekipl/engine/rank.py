"""The rank of this process, without importing torch."""

from __future__ import annotations

import os


def launched_rank() -> int | None:
    """The global rank from 0, as the launcher set it in ``RANK``; None in a process that no launcher started."""
    rank = os.environ.get("RANK")
    return None if rank is None else int(rank)
