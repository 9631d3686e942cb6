"""A number that changes over the steps of a run. Pure, so that a resumed run goes on with the same values."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from ekipl.algorithm.ranges import Count, Share, Whole


@dataclass(frozen=True)
class Schedule:
    """From 0 to ``start`` in a line, then to ``end`` along half a cosine, where it stays.

    Attributes:
        start: value after the warm-up.
        end: value after ``warmup`` + ``steps`` steps.
        steps: from ``start`` to ``end``.
        warmup: steps from 0 to ``start``; 0: none.
    """

    start: Share
    end: Share
    steps: Count = 200
    warmup: Whole = 0

    def at(self, step: int) -> float:
        """The value at a step, counted from 0 over the whole run."""
        if step < self.warmup:
            return self.start * step / self.warmup
        done = min(1.0, (step - self.warmup) / self.steps)
        return self.end + (self.start - self.end) * (1 + cos(pi * done)) / 2
