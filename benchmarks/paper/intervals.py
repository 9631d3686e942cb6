"""Means over seeds and problems with intervals, and what curves say. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from ekipl.report.stats import Estimate, Floats

SHARE = (0.0, 1.0)  # limits of a share
NOTHING = Estimate(math.nan, math.nan, math.nan)
COVERAGE, RESAMPLES = 0.95, 2000


def draws(number: int, rng: np.random.Generator, resamples: int = RESAMPLES) -> Floats:
    """Weights of resampled means, (resamples, number), each row of sum 1.

    Each draw takes one item fewer than there are (one of one), with replacement: the variance of the mean is then
    unbiased, which matters for three or five seeds. Source: Rao and Wu, JASA 83 (1988) 231-241.
    """
    taken = max(1, number - 1)
    weights: Floats = rng.multinomial(taken, np.full(number, 1 / number), size=resamples) / taken
    return weights


def widening(degrees: float, coverage: float = COVERAGE) -> float:
    """Student's quantile with these degrees of freedom, divided by the normal one.

    The Cornish-Fisher expansion, which is 3 % too small at 2 degrees and 0.3 % at 4. Fewer than 2 count as 2.
    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z, n = NormalDist().inv_cdf((1 + coverage) / 2), max(2.0, degrees)
    first = (z**3 + z) / (4 * n)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return (z + first + second + third) / z


def degrees_of_freedom(table: Floats) -> float:
    """Of the mean of a table of seeds and problems, by Welch and Satterthwaite; infinite where nothing varies."""
    parts = []
    for means in (table.mean(axis=1), table.mean(axis=0)):
        if len(means) > 1:
            parts.append((float(means.var(ddof=1)) / len(means), len(means) - 1))
    total = sum(part for part, _ in parts)
    return total**2 / sum(part**2 / n for part, n in parts) if total > 0 else math.inf


def two_level(
    values: ArrayLike,
    limits: tuple[float, float] = (-math.inf, math.inf),
    coverage: float = COVERAGE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The mean of a table with an interval over both its rows and its columns.

    Each draw takes seeds, and problems for all of these seeds: the pigeonhole bootstrap, whose intervals are rather too
    wide than too narrow (Owen, Ann. Appl. Stat. 1 (2007) 386-411). The percentiles of so few seeds are still too
    narrow, so they are widened as Student's quantile is wider than the normal one.

    Args:
        values: (seeds, problems), finite; one column for a value of a whole seed.
        limits: that the mean cannot leave; the interval is cut there.
        coverage: nominal.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        All NaN without data; the interval alone is NaN where all values are equal, or for one seed and one problem.
    """
    table = np.asarray(values, dtype=np.float64)  # (S, P)
    if table.ndim != 2:
        raise ValueError(f"a table of seeds and problems is needed, not {table.shape}")
    if not table.size:
        return NOTHING
    if not np.isfinite(table).all():
        raise ValueError("values must be finite")
    rng = np.random.default_rng(seed)
    seeds, problems = (draws(number, rng, resamples) for number in table.shape)  # (R, S), (R, P)
    means, mean = ((seeds @ table) * problems).sum(axis=1), float(table.mean())  # (R,)
    low, high = bounds(means, coverage, bool(np.ptp(table) > 1e-12))
    factor = widening(degrees_of_freedom(table), coverage)
    low, high = mean - factor * (mean - low), mean + factor * (high - mean)
    if math.isnan(low):
        return Estimate(mean, low, high)
    return Estimate(mean, max(limits[0], low), min(limits[1], high))


def bounds(means: Floats, coverage: float = COVERAGE, varies: bool = True) -> tuple[float, float]:
    """The percentile interval of resampled values, of which some may be infinite; NaN where nothing varies."""
    if not varies:
        return math.nan, math.nan
    tail = (1 - coverage) / 2
    low, high = np.quantile(means, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def crossing(x: Sequence[float], y: ArrayLike, target: float) -> float:
    """Where the line through the points first reaches ``target``; infinite where it does not.

    Args:
        x: ascending.
        y: as many.
        target: in the unit of y.
    """
    heights = np.asarray(y, dtype=np.float64)
    reached = np.flatnonzero(heights >= target)
    if not len(reached):
        return math.inf
    i = int(reached[0])
    if i == 0:
        return float(x[0])
    part = (target - heights[i - 1]) / (heights[i] - heights[i - 1])
    return float(x[i - 1] + part * (x[i] - x[i - 1]))


def needed(x: Sequence[float], y: ArrayLike, other_x: Sequence[float], other_y: ArrayLike, seed: int = 0) -> Estimate:
    """Where the mean curve first reaches the other's last mean accuracy, as a share of where the other's own does.

    Both curves are read in the same way, so that noise, which lets a curve reach an accuracy early, favours neither.
    The interval is over seeds, which are drawn for both together.

    Args:
        x: samples or steps at each evaluation.
        y: (seeds, evaluations).
        other_x: likewise of the other method.
        other_y: (seeds, evaluations), in the order of the seeds of ``y``.
        seed: of the draws.

    Returns:
        A share is infinite where the accuracy is not reached; the interval is NaN for one seed.
    """
    own, other = np.asarray(y, dtype=np.float64), np.asarray(other_y, dtype=np.float64)
    if len(own) != len(other):
        raise ValueError("both curves need the same seeds")
    if not own.size or not other.size:
        return NOTHING
    weights = draws(len(own), np.random.default_rng(seed))
    pairs = zip(weights @ own, weights @ other, strict=True)  # each (E,)
    shares = np.array([_share(x, curve, other_x, against) for curve, against in pairs])
    mean = _share(x, own.mean(axis=0), other_x, other.mean(axis=0))
    low, high = bounds(shares, varies=len(own) > 1)
    if 0 < mean < math.inf:  # a ratio is widened by factors
        factor = widening(len(own) - 1)
        low, high = mean * (low / mean) ** factor, mean * (high / mean) ** factor
    return Estimate(mean, low, high)


def _share(x: Sequence[float], curve: Floats, other_x: Sequence[float], other: Floats) -> float:
    """1 where both begin at the accuracy."""
    reached, there = crossing(x, curve, other[-1]), crossing(other_x, other, other[-1])
    if there == 0:
        return 1.0 if reached == 0 else math.inf
    return reached / there


def verdict(estimate: Estimate, border: float, above: bool) -> str:
    """``reproduced`` where the whole interval is on the claimed side of ``border``, ``not reproduced`` on the other.

    ``undecided`` where it is on both, or where there is none.
    """
    low, high = estimate.low, estimate.high
    if math.isnan(low) or math.isnan(high):
        return "undecided"
    claimed, refuted = (low > border, high < border) if above else (high < border, low > border)
    return "reproduced" if claimed else "not reproduced" if refuted else "undecided"
