"""Group-relative advantages, Eq. 1. Pure floats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

from ekipl.algorithm.objective import BASELINES, Objective
from ekipl.importing import imported

EPSILON = 1e-4  # in the denominator, as Reason-RFT and TRL have it

Rule = Callable[[Sequence[float], Sequence[float]], Sequence[float]]


def advantages(
    objective: Objective, selected: Sequence[float], pool: Sequence[float], own: Sequence[bool] | None = None
) -> tuple[float, ...]:
    """A_i = (R_i - mean) / (std + 1e-4) for each selected reward; R_i - mean where the baseline's rewards are equal.

    Args:
        objective: its ``baseline`` and ``std``. A baseline of your own is a function of the two arguments below.
        selected: rewards of the kept actions.
        pool: rewards of everything that was offered, the kept included.
        own: whether each selected action is the policy's own; None: all are.
    """
    if objective.baseline not in BASELINES:
        rule: Rule = imported("objective.baseline", objective.baseline)
        return tuple(rule(selected, pool))
    mine = [True] * len(selected) if own is None else own
    of_policy = [reward for reward, is_own in zip(selected, mine, strict=True) if is_own]
    references = {"selected": selected, "pool": pool, "none": ()}
    gains = _compared(objective, selected, references.get(objective.baseline, of_policy))
    if objective.baseline == "demonstrations":
        return tuple(gain if is_own else 1.0 for gain, is_own in zip(gains, mine, strict=True))
    return gains


def mixed(gains: Sequence[float], own: Sequence[bool], part: float) -> tuple[float, ...]:
    """Advantages whose mean over the group is (1 - part) x the mean over own actions + part x that over the others."""
    share = {True: (1 - part) * len(own) / max(1, sum(own)), False: part * len(own) / max(1, len(own) - sum(own))}
    return tuple(gain * share[is_own] for gain, is_own in zip(gains, own, strict=True))


def _compared(objective: Objective, selected: Sequence[float], reference: Sequence[float]) -> tuple[float, ...]:
    """The selected rewards against mean and deviation of ``reference``; 1 where there is nothing to compare with."""
    if not reference:
        return (1.0,) * len(selected)
    if min(reference) == max(reference):
        return tuple(r - reference[0] for r in selected)
    mean = sum(reference) / len(reference)
    if objective.std == "none":
        return tuple(r - mean for r in selected)
    degrees = len(reference) - (objective.std == "sample")
    deviation = sqrt(sum((r - mean) ** 2 for r in reference) / degrees)
    return tuple((r - mean) / (deviation + EPSILON) for r in selected)
