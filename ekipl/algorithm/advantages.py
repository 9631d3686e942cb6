"""Group-relative advantages, Eq. 1. Pure floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

EPSILON = 1e-4  # in the denominator, as Reason-RFT and TRL have it


@dataclass(frozen=True)
class AdvantageRule:
    """How rewards become advantages.

    Attributes:
        over: mean and standard deviation of the ``selected`` actions (the paper), or of the whole ``pool``, which keeps
            a gradient when the selected are all correct and the pool is not; ``none`` gives every kept action the
            advantage 1: with the ratio ``unit``, that is supervised learning.
        std: ``sample`` divides by n - 1 (Reason-RFT, TRL), ``population`` by n.
    """

    over: Literal["selected", "pool", "none"] = "selected"
    std: Literal["sample", "population"] = "sample"

    def advantages(self, selected: Sequence[float], pool: Sequence[float]) -> tuple[float, ...]:
        """A_i = (R_i - mean) / (std + 1e-4) for each selected reward; exactly 0 where the baseline's rewards are equal.

        Args:
            selected: rewards of the kept actions.
            pool: rewards of everything that was offered, the kept included.
        """
        if self.over == "none":
            return (1.0,) * len(selected)
        reference = selected if self.over == "selected" else pool
        if len(reference) < 2 or min(reference) == max(reference):
            return (0.0,) * len(selected)
        mean = sum(reference) / len(reference)
        degrees = len(reference) - (self.std == "sample")
        deviation = sqrt(sum((r - mean) ** 2 for r in reference) / degrees)
        return tuple((r - mean) / (deviation + EPSILON) for r in selected)
