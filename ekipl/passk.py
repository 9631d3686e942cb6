"""pass@k: the chance that at least one of k samples solves a problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ekipl.errors import UsageError
from ekipl.stats import Estimate, Floats, mean_intervals, paired_difference


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> Floats:
    """The unbiased estimate 1 - C(n-c, k) / C(n, k), as the product 1 - prod_{i=n-c+1..n} (1 - k/i).

    Args:
        n: samples of each problem.
        c: how many of them are right, 0..n; broadcast with n.
        k: samples allowed, >= 1.

    Returns:
        In [0, 1], of the broadcast shape; NaN where n < k, as fewer than k samples cannot tell.

    Source: Chen et al., Evaluating Large Language Models Trained on Code, arXiv 2107.03374, Eq. 1.
    """
    samples, right = np.broadcast_arrays(np.asarray(n), np.asarray(c))
    if k < 1 or (right < 0).any() or (right > samples).any():
        raise ValueError(f"pass@{k} needs k >= 1 and 0 <= c <= n")
    i = np.arange(1, samples.max(initial=0) + 1)  # (max n,)
    wrong = (samples - right)[..., None]  # (..., 1)
    factors = np.where((wrong < i) & (i <= samples[..., None]), 1 - k / i, 1.0)  # (..., max n)
    passed: Floats = np.where(samples < k, np.nan, 1 - factors.prod(axis=-1))
    return passed


@dataclass(frozen=True)
class Curve:
    """pass@k of one model.

    Attributes:
        label: the model.
        problems: their ids, (P,).
        ks: (K,).
        passed: each problem's estimate, (P, K).
        means: over problems, with intervals, (K,).
        samples: the fewest samples that a problem has.
    """

    label: str
    problems: tuple[str, ...]
    ks: tuple[int, ...]
    passed: Floats
    means: tuple[Estimate, ...]
    samples: int


def curve(
    label: str,
    counts: Mapping[str, tuple[int, int]],
    ks: Sequence[int],
    coverage: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Curve:
    """pass@k at every k, averaged over problems, with intervals over problems.

    Args:
        label: the model's name.
        counts: problem id -> (samples n, right ones c).
        ks: at most the smallest n.
        coverage: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UsageError: no problems, or a problem with fewer samples than the largest k.
    """
    if not counts:
        raise UsageError(f"{label}: no scored actions to draw pass@k from")
    fewest = min(counts, key=lambda problem: counts[problem][0])
    if max(ks) > counts[fewest][0]:
        raise UsageError(
            f"passk.k: {max(ks)}: pass@k needs k samples or more, problem {fewest} of {label} has {counts[fewest][0]}; "
            "take more samples (passk.samples) or a smaller k"
        )
    n, c = np.array(list(counts.values()), dtype=np.int64).T
    passed = np.stack([pass_at_k(n, c, k) for k in ks], axis=1)  # (P, K)
    means = mean_intervals(passed, coverage, resamples, seed)
    return Curve(label, tuple(counts), tuple(ks), passed, means, counts[fewest][0])


def difference(first: Curve, second: Curve, coverage: float = 0.95, seed: int = 0) -> tuple[Estimate, ...]:
    """second - first at every k over the problems that both have, paired by problem: (K,)."""
    row = {problem: i for i, problem in enumerate(second.problems)}
    common = [(i, row[problem]) for i, problem in enumerate(first.problems) if problem in row]
    a, b = first.passed[[i for i, _ in common]], second.passed[[j for _, j in common]]  # (shared P, K)
    return tuple(paired_difference(a[:, i], b[:, i], coverage, seed=seed) for i in range(len(first.ks)))
