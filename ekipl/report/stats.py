"""Means with intervals over problems, since the samples of one problem are not independent of each other."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_BLOCK = 2**22  # problem draws held in memory at once


class Estimate(NamedTuple):
    """A mean and its interval. All NaN without data; the interval alone is NaN where it cannot be estimated."""

    mean: float
    low: float
    high: float


def wilson(successes: float, n: int, coverage: float = 0.95) -> Estimate:
    """A proportion with Wilson's score interval, which stays inside [0, 1] and has a width at 0 and n successes.

    Args:
        successes: 0..n.
        n: independent trials.
        coverage: nominal, in (0, 1).

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
    """Percentile bootstrap intervals of the means over problems; all columns use the same draws.

    Args:
        values: (problems, columns), finite.
        coverage: nominal; the true coverage is lower for fewer than about 30 problems.
        resamples: number of draws, each of as many problems with replacement.
        seed: of the draws.

    Returns:
        low and high, (columns,); NaN where all problems have the same value, which gives no estimate of the spread.

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
    times = np.bincount(chosen.ravel(), minlength=draws * problems).reshape(draws, problems)  # draws of each problem
    means: Floats = times @ table / problems
    return means


def mean_intervals(
    values: ArrayLike, coverage: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[Estimate, ...]:
    """The mean of each column, with Wilson's interval where all its scores are 0 or 1, else by bootstrap.

    A perfect result on 20 problems thus has the interval 0.84-1.00, not 1.00-1.00 as by bootstrap.

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
    """The mean of each cluster, in the order of first appearance.

    Args:
        values: (samples,).
        clusters: (samples,), the problem of each sample.
    """
    place = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    index = np.array([place[name] for name in clusters], dtype=np.intp)  # (S,)
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64), minlength=len(place))
    return dict(zip(place, (sums / np.bincount(index, minlength=len(place))).tolist(), strict=True))


def cluster_interval(
    values: ArrayLike, clusters: Sequence[str], coverage: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """The mean over clusters of the mean of each cluster, with an interval over clusters.

    The bootstrap draws whole clusters; each has the same weight whatever its size.

    Args:
        values: (samples,).
        clusters: (samples,), the problem of each sample.
        coverage: nominal.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    means = np.array(list(cluster_means(values, clusters).values()))
    return mean_intervals(means[:, None], coverage, resamples, seed)[0]


def paired_difference(
    first: ArrayLike, second: ArrayLike, coverage: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """The mean of second - first over the same problems, by a bootstrap of pairs.

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
