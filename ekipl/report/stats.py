"""Means with intervals. The unit is always the problem: samples of one problem are not independent of each other."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_BLOCK = 2**22  # problem draws held in memory at once


class Estimate(NamedTuple):
    """A mean and its interval; all NaN over nothing, the interval alone where it cannot be known."""

    mean: float
    low: float
    high: float


def wilson(successes: float, n: int, coverage: float = 0.95) -> Estimate:
    """A proportion with Wilson's score interval, which stays inside [0, 1] and is honest at 0 and n successes.

    Args:
        successes: 0..n.
        n: independent trials.
        coverage: of the interval, in (0, 1), nominal.

    Source: E. B. Wilson, JASA 22 (1927) 209-212.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan)
    z = NormalDist().inv_cdf((1 + coverage) / 2)
    p = successes / n
    centre = p + z**2 / (2 * n)
    half = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    scale = 1 + z**2 / n
    return Estimate(p, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def bootstrap_means(
    values: ArrayLike, coverage: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Percentile intervals of the means over problems; the columns share their draws.

    Args:
        values: (problems, columns), finite.
        coverage: nominal; the true one is lower below about 30 problems.
        resamples: draws of as many problems, with replacement.
        seed: of the draws.

    Returns:
        low and high, (columns,); NaN where all problems have one value, which says nothing about their spread.

    Source: B. Efron, Ann. Statist. 7 (1979) 1-26.
    """
    table = np.asarray(values, dtype=np.float64)  # (P, C)
    if not np.isfinite(table).all():
        raise ValueError("values must be finite")
    problems, columns = table.shape
    if problems == 0:
        return np.full(columns, np.nan), np.full(columns, np.nan)
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // problems)
    means = [_resample(table, min(block, resamples - done), rng) for done in range(0, resamples, block)]
    tail = (1 - coverage) / 2
    bounds = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)  # (2, C)
    bounds[:, np.ptp(table, axis=0) < 1e-12] = np.nan
    return bounds[0], bounds[1]


def _resample(table: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Means of ``draws`` resamples: (P, C) -> (draws, C)."""
    problems = len(table)
    chosen = rng.integers(problems, size=(draws, problems)) + problems * np.arange(draws)[:, None]
    times = np.bincount(chosen.ravel(), minlength=draws * problems).reshape(draws, problems)  # how often each was drawn
    means: Floats = times @ table / problems
    return means


def mean_intervals(
    values: ArrayLike, coverage: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[Estimate, ...]:
    """The mean of each column, with Wilson's interval where all its scores are 0 or 1, else by bootstrap.

    So a perfect result on 20 problems is reported as 0.84-1.00, where the bootstrap would say 1.00-1.00.

    Args:
        values: (problems, columns).
        coverage: nominal.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    table = np.asarray(values, dtype=np.float64)  # (P, C)
    low, high = bootstrap_means(table, coverage, resamples, seed)
    estimates = []
    for column, bottom, top in zip(table.T, low, high, strict=True):
        if np.isin(column, (0.0, 1.0)).all():
            estimates.append(wilson(float(column.sum()), len(column), coverage))
        else:
            estimates.append(Estimate(float(column.mean()), float(bottom), float(top)))
    return tuple(estimates)


def cluster_means(values: ArrayLike, clusters: Sequence[str]) -> dict[str, float]:
    """Each cluster's mean, in the order in which the clusters first appear.

    Args:
        values: (samples,).
        clusters: (samples,), the problem that each sample belongs to.
    """
    place = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    index = np.array([place[name] for name in clusters], dtype=np.intp)  # (S,)
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64), minlength=len(place))
    return dict(zip(place, (sums / np.bincount(index, minlength=len(place))).tolist(), strict=True))


def cluster_interval(
    values: ArrayLike, clusters: Sequence[str], coverage: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """The mean over clusters of each cluster's mean, with an interval that holds a problem's samples together.

    Whole clusters are drawn, and count alike whatever their size.

    Args:
        values: (samples,).
        clusters: (samples,), the problem that each sample belongs to.
        coverage: nominal.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    means = np.array(list(cluster_means(values, clusters).values()))
    return mean_intervals(means[:, None], coverage, resamples, seed)[0]


def paired_difference(
    first: ArrayLike, second: ArrayLike, coverage: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """The mean of second - first over the same problems, drawn together; an interval without 0 tells the two apart.

    Args:
        first: (problems,).
        second: (problems,), in the order of ``first``.
        coverage: nominal.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{a.shape} and {b.shape} scores are not of the same problems")
    if not len(a):
        return Estimate(np.nan, np.nan, np.nan)
    low, high = bootstrap_means((b - a)[:, None], coverage, resamples, seed)
    return Estimate(float((b - a).mean()), float(low[0]), float(high[0]))
