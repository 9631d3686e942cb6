from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.errors import UsageError
from ekipl.report.passk import Tally, curve, difference, pass_at_k, tally

n_c_k = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


def test_by_hand() -> None:
    # n = 5, c = 2, k = 3: 1 - C(3,3)/C(5,3) = 1 - 1/10
    assert pass_at_k(5, 2, 3) == pytest.approx(0.9)
    # n = 4, c = 1, k = 2: 1 - C(3,2)/C(4,2) = 1 - 3/6
    assert pass_at_k(4, 1, 2) == pytest.approx(0.5)


@given(n_c_k)
def test_the_product_is_the_binomial_formula(nck: tuple[int, int, int]) -> None:
    n, c, k = nck
    assert pass_at_k(n, c, k) == pytest.approx(1 - comb(n - c, k) / comb(n, k), abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(6, 0, 3), (6, 1, 1), (6, 2, 4), (6, 3, 3), (6, 6, 2)])
def test_it_is_the_share_of_k_subsets_with_a_right_sample(n: int, c: int, k: int) -> None:
    subsets = list(combinations(range(n), k))  # samples 0..c-1 are right
    share = sum(min(subset) < c for subset in subsets) / len(subsets)
    assert pass_at_k(n, c, k) == pytest.approx(share)


def test_it_is_unbiased() -> None:
    # p = 0.3, k = 4: true pass@4 = 1 - 0.7^4 = 0.7599; the plug-in 1 - (1 - c/n)^k is biased low at n = 8.
    n, p, k = 8, 0.3, 4
    chances = np.array([comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)])
    assert chances @ pass_at_k(n, np.arange(n + 1), k) == pytest.approx(1 - (1 - p) ** k)
    assert chances @ (1 - (1 - np.arange(n + 1) / n) ** k) < 0.75


# With n - c < k the product formula alone would say 1.0 even when only n < k samples were drawn: an evaluation
# that lost samples would look better than a complete one.
@pytest.mark.parametrize("c", [0, 1, 3])
def test_too_few_samples_is_nan_never_one(c: int) -> None:
    assert np.isnan(pass_at_k(3, c, 4))


def test_shapes_and_ends() -> None:
    got = pass_at_k([[4], [8]], [0, 1, 4], 4)
    assert got.shape == (2, 3)
    assert (got[:, 0] == 0).all()
    assert got[0, 1:].tolist() == [1.0, 1.0]
    assert pass_at_k([], [], 2).shape == (0,)


def test_large_numbers_are_stable() -> None:
    # k = n - c is the last k that may fail; 1 / C(10000, 5000) is far below the smallest float.
    assert pass_at_k(10_000, 5_000, 5_000) == 1.0
    assert pass_at_k(10_000, 1, 100) == pytest.approx(0.01)  # one right sample of n: k/n


@given(n_c_k)
def test_more_tries_never_hurt(nck: tuple[int, int, int]) -> None:
    n, c, k = nck
    assert pass_at_k(n, c, k) <= pass_at_k(n, c, min(k + 1, n)) + 1e-12


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_nonsense_is_an_error(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="needs k >= 1 and 0 <= c <= n"):
        pass_at_k(n, c, k)


def of(**counts: tuple[int, int]) -> dict[str, Tally]:
    """n graded of n drawn, c right."""
    return {problem: Tally(n, n, c) for problem, (n, c) in counts.items()}


def test_tally() -> None:
    got = tally([("a", True), ("b", False), ("a", None), ("a", False), ("b", False)])
    assert got == {"a": (3, 2, 1), "b": (2, 2, 0)}


def test_curve_by_hand() -> None:
    # pass@1: mean of 0/4, 1/4, 4/4; pass@2: 0, 1 - C(3,2)/C(4,2) = 0.5, 1; pass@4: 0, 1, 1
    got = curve("m", of(a=(4, 0), b=(4, 1), c=(4, 4)), [1, 2, 4])
    assert [e.mean for e in got.means] == pytest.approx([1.25 / 3, 0.5, 2 / 3])
    assert all(0 <= e.low <= e.mean <= e.high <= 1 for e in got.means)
    assert (got.means[2].low, got.means[2].high) == (0.0, 1.0)  # of 27 resamples of 0, 1, 1 one is all 0, eight all 1
    assert (got.problems, got.samples, got.left_out) == (("a", "b", "c"), 4, 0)


def test_where_all_problems_agree_there_is_no_interval() -> None:
    got = curve("m", of(a=(4, 3), b=(4, 2)), [1, 4])
    assert got.means[1].mean == 1.0
    assert np.isnan(got.means[1][1:]).all()
    assert not np.isnan(got.means[0]).any()


def test_a_curve_stops_where_the_samples_stop() -> None:
    with pytest.raises(UsageError, match=r"passk.k: 8: .*m has 4 of b; take more samples"):
        curve("m", of(a=(8, 1), b=(4, 1)), [1, 8])
    with pytest.raises(UsageError, match=r"m has 4 of a and too few of 1 other problems"):
        curve("m", of(a=(4, 1), b=(4, 1)), [1, 8])


def test_a_problem_that_could_not_be_graded_is_left_out_and_counted() -> None:
    got = curve("m", of(a=(4, 2)) | {"b": Tally(4, 3, 3)}, [1, 4])
    assert (got.problems, got.left_out) == (("a",), 1)
    assert curve("m", of(a=(4, 2)) | {"b": Tally(4, 3, 3)}, [1, 3]).left_out == 0
    with pytest.raises(UsageError, match="m: no problem has the 4 graded samples"):
        curve("m", {"b": Tally(4, 3, 3)}, [4])


def test_difference_pairs_problems_by_name() -> None:
    first = curve("a", of(p=(4, 0), q=(4, 4), only_a=(4, 2)), [1, 4])
    second = curve("b", of(q=(4, 4), only_b=(4, 0), p=(4, 2)), [1, 4])
    # shared p, q: pass@1 0 -> 1/2 and 1 -> 1; pass@4 0 -> 1 and 1 -> 1
    assert [e.mean for e in difference(first, second)] == pytest.approx([0.25, 0.5])
    assert np.isnan(difference(first, curve("c", of(x=(4, 1)), [1, 4]))[0].mean)
