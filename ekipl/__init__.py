"""Vision-EKIPL: reinforcement learning of vision-language models with external knowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ekipl.run.frames import Frames

__version__ = "0.1.0.dev0"


def load(run: str | Path) -> Frames:
    """The run in a folder as pandas data frames: ``metrics``, ``actions`` and ``evaluations`` (docs/view.md)."""
    from ekipl.run import frames

    return frames.load(run)
