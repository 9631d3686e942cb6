"""The best periodic evaluation so far, and whether a run has learned enough; part of each checkpoint."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekipl.files import write_json

if TYPE_CHECKING:
    from ekipl.config.sections import StopSettings
    from ekipl.config.settings import Settings

FILE = "best.json"  # in a checkpoint
ENDED = "ended.json"  # in the run directory: why it ended before its last step


class Ended(Exception):
    """A run has learned enough; the text says why, and ``step`` how many steps it did."""

    def __init__(self, reason: str, step: int) -> None:
        super().__init__(reason)
        self.step = step


@dataclass(frozen=True)
class Best:
    """The best evaluation so far on the watched split; of equal ones the earlier.

    Attributes:
        step: after which it was made; None: there was none with a graded completion.
        accuracy: from 0 to 1; -inf where there is none.
        since: evaluations after it.
        latest: accuracy of the last evaluation.
    """

    step: int | None = None
    accuracy: float = -math.inf
    since: int = 0
    latest: float = -math.inf

    def after(self, step: int, accuracy: float) -> Best:
        """With the evaluation after a further step; an accuracy that is NaN is no better than any."""
        if accuracy > self.accuracy:
            return Best(step, accuracy, 0, accuracy)
        return replace(self, since=self.since + 1, latest=accuracy)

    def enough(self, stop: StopSettings, split: str) -> str | None:
        """Why the run ends after the last evaluation, which was on this split; None: it goes on."""
        if stop.at is not None and self.latest >= stop.at:
            return f"an accuracy of {self.latest:.1%} on {split} (stop.at={stop.at:g})"
        if stop.patience is not None and self.since >= stop.patience:
            best = f"{self.accuracy:.1%} of step {self.step}" if self.step is not None else "none"
            return f"{self.since} evaluations on {split} that are not above {best} (stop.patience={stop.patience})"
        return None

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint."""
        write_json(folder / FILE, asdict(self))


def best_of(checkpoint: Path | None) -> Best:
    """That of a checkpoint; of none, or of one of an earlier version, nothing so far."""
    if checkpoint is None or not (checkpoint / FILE).is_file():
        return Best()
    told = json.loads((checkpoint / FILE).read_text())
    accuracy, latest = (-math.inf if told[key] is None else told[key] for key in ("accuracy", "latest"))
    return Best(told["step"], accuracy, told["since"], latest)


def watched(settings: Settings, splits: tuple[str, ...]) -> str:
    """The split that decides: ``checkpoint.best``, else the first that is evaluated."""
    return settings.checkpoint.best or (settings.evaluation.splits or splits)[0]


def keep_end(directory: Path, step: int, reason: str, stop: StopSettings) -> None:
    """Note in the run directory why the run has ended."""
    write_json(directory / ENDED, {"step": step, "reason": reason, "at": stop.at, "patience": stop.patience})


def end_of(directory: Path) -> dict[str, Any]:
    """What ``keep_end`` has noted; empty where the run has not ended early."""
    try:
        found: dict[str, Any] = json.loads((directory / ENDED).read_text())
    except (OSError, ValueError):
        return {}
    return found
