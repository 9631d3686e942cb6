from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.report.stats import (
    bootstrap_means,
    cluster_interval,
    cluster_means,
    mean_intervals,
    paired_difference,
    wilson,
)


def test_wilson_by_hand() -> None:
    # z = 1.959964, z^2 = 3.841459, p = 8/10:
    # centre (0.8 + 3.841459/20) / (1 + 3.841459/10) = 0.992073/1.384146 = 0.716740
    # half 1.959964 * sqrt(0.16/10 + 3.841459/400) / 1.384146 = 1.959964 * 0.160010 / 1.384146 = 0.226575
    mean, low, high = wilson(8, 10)
    assert mean == 0.8
    assert low == pytest.approx(0.716740 - 0.226575, abs=1e-5)
    assert high == pytest.approx(0.716740 + 0.226575, abs=1e-5)


def test_wilson_at_the_ends() -> None:
    # c = n: low = 1 / (1 + z^2/n) = 1 / (1 + 3.841459/20) = 0.838875, high = 1; and the mirror image at c = 0.
    assert wilson(20, 20) == pytest.approx((1.0, 0.838875, 1.0), abs=1e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.0, 1 - 0.838875), abs=1e-5)


def test_wilson_of_nothing_is_nan_and_of_nonsense_an_error() -> None:
    assert np.isnan(wilson(0, 0)).all()
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson(3, 2)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_wilson_holds_its_mean_and_stays_in_the_unit_interval(cn: tuple[int, int], coverage: float) -> None:
    mean, low, high = wilson(*cn, coverage)
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1


def test_bootstrap_of_two_values_by_hand() -> None:
    # Resamples of {0, 1} have means 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the middle 40 % lies on 1/2, 60 % on 0..1.
    values = [[0.0], [1.0]]
    assert [x.item() for x in bootstrap_means(values, coverage=0.4)] == [0.5, 0.5]
    assert [x.item() for x in bootstrap_means(values, coverage=0.6)] == [0.0, 1.0]


def test_bootstrap_agrees_with_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    low, high = bootstrap_means(values[:, None], resamples=10_000)
    half = 1.959964 * values.std() / 20  # sqrt(400) = 20
    assert low[0] == pytest.approx(values.mean() - half, abs=0.02)
    assert high[0] == pytest.approx(values.mean() + half, abs=0.02)


@pytest.mark.parametrize("interval", ["bootstrap", "wilson"])
def test_intervals_cover_the_truth_as_often_as_they_say(interval: str) -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(400):
        if interval == "wilson":
            _, low, high = wilson(int(rng.binomial(40, 0.3)), 40)
        else:
            lows, highs = bootstrap_means(rng.beta(1, 2, size=(60, 1)), resamples=400, seed=trial)  # mean 1/3
            low, high = lows[0], highs[0]
        hits += low <= (0.3 if interval == "wilson" else 1 / 3) <= high
    assert 0.92 <= hits / 400 <= 0.98  # 0.95 within about 2.7 standard errors of 0.011


def test_the_bootstrap_repeats_with_its_seed_only() -> None:
    values = np.random.default_rng(0).random((30, 2))
    first, again, other = (bootstrap_means(values, seed=s) for s in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_columns_share_their_draws() -> None:
    values = np.random.default_rng(0).random(50)
    low, high = bootstrap_means(np.stack([values, values, 1 - values], axis=1))
    assert low[0] == low[1]
    assert low[2] == pytest.approx(1 - high[0])


def test_memory_is_bounded_and_blocks_change_nothing_of_substance(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((100, 1))
    whole = bootstrap_means(values, resamples=5000)
    monkeypatch.setattr("ekipl.report.stats._BLOCK", 1700)  # 17 draws at a time, and a rest
    np.testing.assert_allclose(bootstrap_means(values, resamples=5000), whole, atol=0.01)


@pytest.mark.parametrize("problems", [1, 20])
def test_equal_values_have_no_interval(problems: int) -> None:
    # That 2 of 3 samples of every problem were right does not show that it is so for all problems.
    one, other = mean_intervals([[2 / 3, i / 30] for i in range(problems)])
    assert one.mean == pytest.approx(2 / 3)
    assert np.isnan([one.low, one.high]).all()
    assert problems == 1 or other.low < other.mean < other.high
    assert np.isnan(paired_difference([0.0] * problems, [1.0] * problems)[1:]).all()


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        bootstrap_means([[np.nan], [1.0]])


def test_a_perfect_score_is_not_certain() -> None:
    perfect, mixed = mean_intervals(np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 1.0]] * 10))
    assert perfect == wilson(30, 30)
    assert mixed.mean == 0.5
    assert mixed.low < 0.5 < mixed.high


def test_cluster_means_by_hand() -> None:
    # b: (1 + 0)/2, a: (1 + 1 + 0)/3, in order of appearance
    got = cluster_means([1, 1, 0, 1, 0], ["b", "a", "b", "a", "a"])
    assert list(got) == ["b", "a"]
    assert got == pytest.approx({"b": 0.5, "a": 2 / 3})
    assert cluster_means([], []) == {}


def test_copies_of_a_sample_do_not_narrow_the_interval() -> None:
    scores = np.random.default_rng(3).random(40)
    names = [str(i) for i in range(40)]
    once = cluster_interval(scores, names)
    eight_times = cluster_interval(np.repeat(scores, 8), [name for name in names for _ in range(8)])
    assert eight_times == pytest.approx(once)


def test_pairing_sees_a_difference_that_lies_below_the_spread_of_the_problems() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.random(200) * 0.9
    mean, low, high = paired_difference(difficulty, difficulty + 0.02 + rng.normal(0, 0.01, 200))
    assert low > 0
    assert mean == pytest.approx(0.02, abs=0.003)
    (first,) = mean_intervals(difficulty[:, None])
    assert high - low < (first.high - first.low) / 10


def test_paired_difference_is_antisymmetric_and_needs_the_same_problems() -> None:
    a, b = np.random.default_rng(0).random((2, 30))
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there == pytest.approx((-back.mean, -back.high, -back.low))
    with pytest.raises(ValueError, match="not of the same problems"):
        paired_difference(a, b[:-1])
    assert np.isnan(paired_difference([], [])).all()
