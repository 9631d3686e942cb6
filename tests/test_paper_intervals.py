"""Intervals over seeds and problems, and what the curves and claims of ``make paper`` are judged by."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.paper import intervals
from ekipl.report.stats import Estimate


def test_interval_over_seeds_and_problems_by_hand() -> None:
    """Two seeds: each draw takes one of them, so the mean of a draw is 0 or 1, both 0.5 from the mean."""
    two = intervals.widening(2)
    assert intervals.two_level([[0.0], [1.0]]) == pytest.approx((0.5, 0.5 - two * 0.5, 0.5 + two * 0.5))
    assert intervals.two_level([[0.0], [1.0]], (0, 1)) == (0.5, 0.0, 1.0)
    # Two seeds and two problems: a draw is one of the four values, at most 1.5 from the mean. The means of the seeds
    # are 0.5 and 2.5, those of the problems 1 and 2: variances 2 / 2 and 0.5 / 2, so 1.25^2 / (1 + 0.0625) degrees.
    assert intervals.degrees_of_freedom(np.array([[0.0, 1.0], [2.0, 3.0]])) == pytest.approx(1.470588)
    assert intervals.two_level([[0.0, 1.0], [2.0, 3.0]]) == pytest.approx((1.5, 1.5 - two * 1.5, 1.5 + two * 1.5))
    # One seed: only problems are drawn, here two of three: (0 + 0) / 2 to (3 + 3) / 2, with 2 degrees.
    assert intervals.two_level([[0.0, 0.0, 3.0]]) == pytest.approx((1.0, 1 - two, 1 + two * 2))
    mean, low, high = intervals.two_level([[0.5, 0.5], [0.5, 0.5]])
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)
    assert math.isnan(intervals.two_level(np.zeros((0, 3))).mean)
    with pytest.raises(ValueError, match="finite"):
        intervals.two_level([[math.nan]])


@pytest.mark.parametrize(("degrees", "quantile"), [(2, 4.303), (4, 2.776), (10, 2.228), (math.inf, 1.960)])
def test_widening_is_that_of_the_tables(degrees: float, quantile: float) -> None:
    assert 1.95996 * intervals.widening(degrees) == pytest.approx(quantile, rel=0.035 if degrees == 2 else 0.004)


def test_intervals_of_three_seeds_cover_the_mean() -> None:
    """Of 500 tables whose seeds and problems vary, about 475 intervals should hold the true mean 0."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        table = rng.normal(size=(3, 1)) * 0.2 + rng.normal(size=(1, 20)) + rng.normal(size=(3, 20))
        _, low, high = intervals.two_level(table, resamples=300)
        covered += low <= 0 <= high
    assert covered >= 460


def test_drawing_one_fewer_makes_the_variance_unbiased() -> None:
    """Of 0, 0, 0, 0, 1: s^2 = 0.8 / 4 = 0.2, so the variance of the mean is 0.2 / 5 = 0.04; five draws gave 0.032."""
    weights = intervals.draws(5, np.random.default_rng(0), 20_000)
    assert weights.sum(axis=1) == pytest.approx(1)
    assert (weights @ [0, 0, 0, 0, 1]).var() == pytest.approx(0.04, rel=0.05)


def test_samples_needed_by_hand() -> None:
    assert intervals.crossing([0, 10, 20], [0.0, 0.2, 0.4], 0.3) == pytest.approx(15)  # half-way from 10 to 20
    assert intervals.crossing([0, 10], [0.5, 0.6], 0.5) == 0
    assert intervals.crossing([0, 10], [0.1, 0.2], 0.3) == math.inf
    # Both seeds end at 0.4 after 40 samples; the other method is there after 20: 20 / 40.
    slow, fast = [[0.0, 0.4], [0.0, 0.4]], [[0.0, 0.4, 0.6], [0.0, 0.4, 0.6]]
    assert intervals.needed([0, 20, 40], fast, [0, 40], slow) == pytest.approx((0.5, 0.5, 0.5))
    # The other passes its own last accuracy early, by chance: 0.4 of 0.5 is there after 16 of 20, so 20 / 16.
    assert intervals.needed([0, 20, 40], fast, [0, 20, 40], [[0.0, 0.5, 0.4]] * 2).mean == pytest.approx(20 / 16)
    assert intervals.needed([0, 9], [[0.5, 0.5]], [0, 9], [[0.4, 0.4]]).mean == 1  # nobody needs a sample
    # One of two seeds never reaches it: the mean curve ends at 0.3 of 0.4.
    share = intervals.needed([0, 40], [[0.0, 0.6], [0.0, 0.0]], [0, 40], slow)
    assert share.mean == math.inf
    assert share.low == pytest.approx(0.4 / 0.6)  # it is not widened, as the mean is infinite
    assert share.high == math.inf


def test_verdicts() -> None:
    assert intervals.verdict(Estimate(2, 1, 3), 0, above=True) == "reproduced"
    assert intervals.verdict(Estimate(2, 1, 3), 0, above=False) == "not reproduced"
    assert intervals.verdict(Estimate(2, -1, 3), 0, above=True) == "undecided"
    assert intervals.verdict(Estimate(2, math.nan, math.nan), 0, above=True) == "undecided"
    assert intervals.verdict(Estimate(math.inf, math.inf, math.inf), 1, above=False) == "not reproduced"
