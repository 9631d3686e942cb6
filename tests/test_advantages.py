"""Eq. 1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.algorithm.advantages import advantages, mixed
from ekipl.algorithm.objective import Objective

rewards = st.lists(st.sampled_from([0.0, 0.1, 0.3, 1.0, 2.0]), min_size=1, max_size=16)


def test_by_hand() -> None:
    # mean 0.5; sample variance (4 x 0.25) / 3 = 1/3, deviation 0.57735; (1 - 0.5) / (0.57735 + 0.0001) = 0.865875
    a = advantages(Objective(), [1, 1, 0, 0], [1, 1, 0, 0])
    assert a == pytest.approx((0.865875, 0.865875, -0.865875, -0.865875), abs=1e-6)
    # population variance 0.25, deviation 0.5; 0.5 / 0.5001 = 0.99980
    a = advantages(Objective(std="population"), [1, 1, 0, 0], [1, 1, 0, 0])
    assert a[0] == pytest.approx(0.99980, abs=1e-5)


def test_pool_baseline_keeps_a_gradient_when_the_selected_agree() -> None:
    pool = [2, 2, 0, 0]
    assert advantages(Objective(), [2, 2], pool) == (0.0, 0.0)
    # pool mean 1, sample deviation sqrt(4 / 3) = 1.154701; (2 - 1) / 1.154801 = 0.865951
    assert advantages(Objective(baseline="pool"), [2, 2], pool) == pytest.approx((0.865951, 0.865951), abs=1e-6)


@given(rewards)
def test_they_sum_to_zero_and_a_constant_changes_nothing(r: list[float]) -> None:
    a = advantages(Objective(), r, r)
    assert sum(a) == pytest.approx(0, abs=1e-6)
    assert advantages(Objective(), [x + 3 for x in r], [x + 3 for x in r]) == pytest.approx(a, abs=1e-6)


@given(st.floats(-5, 5, allow_nan=False), st.integers(1, 16))
def test_equal_rewards_are_exactly_zero(value: float, n: int) -> None:
    assert advantages(Objective(), [value] * n, [value] * n) == (0.0,) * n


@given(rewards, st.randoms())
def test_a_permutation_permutes(r: list[float], rng: object) -> None:
    order = list(range(len(r)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    a = advantages(Objective(), r, r)
    b = advantages(Objective(), [r[i] for i in order], [r[i] for i in order])
    assert b == pytest.approx(tuple(a[i] for i in order), abs=1e-9)


def test_without_a_standard_deviation_by_hand() -> None:
    # mean (2 + 1 + 0) / 3 = 1
    assert advantages(Objective(std="none"), [2, 1, 0], [2, 1, 0]) == (1, 0, -1)


def test_the_own_actions_as_the_baseline_by_hand() -> None:
    objective, own = Objective(baseline="policy"), [True, True, False]
    # own rewards 1 and 0: mean 0.5, deviation sqrt(2 x 0.25 / 1) = 0.707107; the external 2: 1.5 / 0.707207 = 2.121020
    a = advantages(objective, [1, 0, 2], [1, 0, 2], own)
    assert a == pytest.approx((0.707007, -0.707007, 2.121020), abs=1e-6)
    # own rewards all 0: the deviation counts as 1, as in LUFFY's grpo_split
    assert advantages(objective, [0, 0, 2], [0, 0, 2], own) == (0, 0, 2)


def test_external_actions_as_demonstrations_have_the_advantage_1() -> None:
    objective = Objective(baseline="demonstrations")
    a = advantages(objective, [1, 0, 2], [1, 0, 2], [True, True, False])
    assert a == pytest.approx((0.707007, -0.707007, 1), abs=1e-6)
    assert advantages(objective, [0, 0, 2], [0, 0, 2], [True, True, False]) == (0, 0, 1)
    assert advantages(objective, [2, 2], [0, 0, 2, 2], [False, False]) == (1, 1)  # no own action is kept


@given(st.sampled_from(["selected", "pool", "policy", "demonstrations"]), rewards)
def test_without_external_actions_every_baseline_is_grpo(baseline: str, r: list[float]) -> None:
    assert advantages(Objective(baseline=baseline), r, r) == advantages(Objective(), r, r)


def test_a_mix_of_two_means_by_hand() -> None:
    # two own, one external, m = 0.3: own x 0.7 x 3 / 2 = 1.05, external x 0.3 x 3 / 1 = 0.9, so that the mean over all
    # three is 0.7 x mean(1, -1) + 0.3 x 1
    own = [True, True, False]
    assert mixed([1.0, -1.0, 1.0], own, 0.3) == pytest.approx((1.05, -1.05, 0.9))
    assert mixed([1.0, -1.0], [True, True], 0.3) == pytest.approx((0.7, -0.7))  # no external action: (1 - m) L_own
    assert mixed([1.0], [False], 0.3) == pytest.approx((0.3,))
    assert mixed([], [], 0.3) == ()
