"""Group-relative advantages, Eq. 1. Pure floats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

from ekipl.algorithm.objective import BASELINES, Objective
from ekipl.importing import imported

EPSILON = 1e-4  # in the denominator, as Reason-RFT and TRL have it

Rule = Callable[[Sequence[float], Sequence[float]], Sequence[float]]


def advantages(objective: Objective, selected: Sequence[float], pool: Sequence[float]) -> tuple[float, ...]:
    """A_i = (R_i - mean) / (std + 1e-4) for each selected reward; exactly 0 where the baseline's rewards are equal.

    Args:
        objective: its ``baseline`` and ``std``. A baseline of your own is a function of the two arguments below.
        selected: rewards of the kept actions.
        pool: rewards of everything that was offered, the kept included.
    """
    if objective.baseline == "none":
        return (1.0,) * len(selected)
    if objective.baseline not in BASELINES:
        rule: Rule = imported("objective.baseline", objective.baseline)
        return tuple(rule(selected, pool))
    reference = selected if objective.baseline == "selected" else pool
    if len(reference) < 2 or min(reference) == max(reference):
        return (0.0,) * len(selected)
    mean = sum(reference) / len(reference)
    degrees = len(reference) - (objective.std == "sample")
    deviation = sqrt(sum((r - mean) ** 2 for r in reference) / degrees)
    return tuple((r - mean) / (deviation + EPSILON) for r in selected)
