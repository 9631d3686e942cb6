"""pass@k: the chance that at least one of k samples solves a problem."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ekipl.errors import UsageError
from ekipl.report.stats import Estimate, Floats, bootstrap_means, paired_difference

T = TypeVar("T", bound=Hashable)


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


class Tally(NamedTuple):
    """What became of a problem's samples: ``drawn`` >= ``graded`` (the grader did not fail) >= ``right``."""

    drawn: int
    graded: int
    right: int


def tally(outcomes: Iterable[tuple[T, bool | None]]) -> dict[T, Tally]:
    """By problem, from pairs of a problem and whether a sample of it is right (None: the grader failed)."""
    found: dict[T, list[bool | None]] = {}
    for problem, right in outcomes:
        found.setdefault(problem, []).append(right)
    return {p: Tally(len(seen), sum(r is not None for r in seen), seen.count(True)) for p, seen in found.items()}


@dataclass(frozen=True)
class Curve:
    """pass@k of one model.

    Attributes:
        model: its name.
        problems: their names, (P,).
        ks: (K,).
        passed: each problem's estimate, (P, K).
        means: over problems, with intervals, (K,).
        samples: the fewest graded samples of a problem.
        left_out: problems with enough samples, but too few that could be graded.
    """

    model: str
    problems: tuple[str, ...]
    ks: tuple[int, ...]
    passed: Floats
    means: tuple[Estimate, ...]
    samples: int
    left_out: int


def curve(
    model: str,
    tallies: Mapping[str, Tally],
    ks: Sequence[int],
    coverage: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Curve:
    """pass@k at every k, averaged over problems, with bootstrap intervals (none where all problems agree).

    Args:
        model: its name.
        tallies: by problem.
        ks: at most the fewest samples that a problem has.
        coverage: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UsageError: a problem has fewer samples than the largest k, or no problem has that many graded ones.
    """
    largest = max(ks)
    few = [problem for problem, tally in tallies.items() if tally.drawn < largest]
    if few:
        raise UsageError(
            f"passk.k: {largest}: pass@k needs k samples or more, but {model} has {tallies[few[0]].drawn} of {few[0]}"
            f"{f' and too few of {len(few) - 1} other problems' if few[1:] else ''}; "
            "take more samples (passk.samples) or a smaller k"
        )
    whole = {problem: tally for problem, tally in tallies.items() if tally.graded >= largest}
    if not whole:
        raise UsageError(f"{model}: no problem has the {largest} graded samples that pass@{largest} needs")
    n = np.array([tally.graded for tally in whole.values()])  # (P,)
    c = np.array([tally.right for tally in whole.values()])  # (P,)
    passed = np.stack([pass_at_k(n, c, k) for k in ks], axis=1)  # (P, K)
    low, high = bootstrap_means(passed, coverage, resamples, seed)
    means = tuple(Estimate(*map(float, point)) for point in zip(passed.mean(axis=0), low, high, strict=True))
    return Curve(model, tuple(whole), tuple(ks), passed, means, int(n.min()), len(tallies) - len(whole))


def difference(first: Curve, second: Curve, coverage: float = 0.95, seed: int = 0) -> tuple[Estimate, ...]:
    """second - first at every k over the problems that both have, paired by problem: (K,)."""
    row = {problem: i for i, problem in enumerate(second.problems)}
    common = [(i, row[problem]) for i, problem in enumerate(first.problems) if problem in row]
    a, b = first.passed[[i for i, _ in common]], second.passed[[j for _, j in common]]  # (shared P, K)
    return tuple(paired_difference(a[:, i], b[:, i], coverage, seed=seed) for i in range(len(first.ks)))
