"""Checkpoints of a training run: whole or not there at all, newest first."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

STATE = "state.json"  # written last: a folder without it is not a checkpoint


def checkpoints(directory: Path) -> list[Path]:
    """Complete checkpoints, newest first."""
    found = [p for p in directory.glob("step-*") if re.fullmatch(r"step-\d+", p.name) and (p / STATE).is_file()]
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """Steps done when it was written."""
    return int(checkpoint.name.removeprefix("step-"))


def save(directory: Path, step: int, write: Callable[[Path], None], keep: int) -> Path:
    """Write ``directory/step-N`` under another name, move it in place, then remove all but the newest ``keep``."""
    target = directory / f"step-{step}"
    partial = directory / f"step-{step}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    (partial / STATE).write_text(json.dumps({"step": step}) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    for old in checkpoints(directory)[keep:]:
        shutil.rmtree(old)
    return target
