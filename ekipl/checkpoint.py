"""Checkpoints of a training run: whole or not there at all, newest first."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ekipl.processes import Processes

STATE = "state.json"  # written last: a folder without it is not a checkpoint


def checkpoints(directory: Path) -> list[Path]:
    """Complete checkpoints, newest first."""
    found = [p for p in directory.glob("step-*") if re.fullmatch(r"step-\d+", p.name) and (p / STATE).is_file()]
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """Steps done when it was written."""
    return int(checkpoint.name.removeprefix("step-"))


def save(directory: Path, step: int, write: Callable[[Path], None], keep: int, processes: Processes) -> None:
    """Write ``directory/step-N`` under another name, move it in place, then remove all but the newest ``keep``.

    Called by all processes; ``write`` runs on each of them, the rest is the first one's.
    """
    target = directory / f"step-{step}"
    partial = directory / f"step-{step}.partial"
    if processes.first:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    processes.wait()
    write(partial)
    processes.wait()
    if processes.first:
        (partial / STATE).write_text(json.dumps({"step": step}) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        for old in checkpoints(directory)[keep:]:
            shutil.rmtree(old)
    processes.wait()
