"""Which G candidates are kept."""

from __future__ import annotations

import random
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.algorithm.schedule import Schedule
from ekipl.algorithm.selection import Selection
from ekipl.algorithm.types import POLICY, Action, Reward

candidates = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 2.0]), st.sampled_from([POLICY, "gpt", "gemini"])), min_size=1, max_size=24
)


def keep(selection: Selection, pairs: list[tuple[float, str]], size: int, seed: int = 0) -> tuple[int, ...]:
    """Of candidates with these rewards: 0 is ill-formed and wrong, 1 well-formed and wrong, 2 well-formed and right."""
    rewards = [Reward(format=min(r, 1.0), accuracy=max(r - 1, 0.0)) for r, _ in pairs]
    actions = [
        Action("p", s, i, "", "stop", reward=r) for i, ((_, s), r) in enumerate(zip(pairs, rewards, strict=True))
    ]
    return selection.keep(actions, size, random.Random(seed))


@given(candidates, st.integers(1, 24), st.integers(0, 99))
def test_top_g_keeps_the_highest_rewards(pairs: list[tuple[float, str]], size: int, seed: int) -> None:
    kept = keep(Selection(), pairs, size, seed)
    rewards = sorted((pairs[i][0] for i in kept), reverse=True)
    assert rewards == sorted((r for r, _ in pairs), reverse=True)[:size]
    assert len(set(kept)) == len(kept) == min(size, len(pairs))


@given(candidates, st.integers(2, 24), st.integers(1, 30), st.integers(0, 99))
def test_contrast_leaves_no_dead_group_while_candidates_disagree(
    pairs: list[tuple[float, str]], size: int, contrast: int, seed: int
) -> None:
    kept = keep(Selection(rule="contrast", contrast=contrast), pairs, size, seed)
    assert len(set(kept)) == len(kept) == min(size, len(pairs))
    if len({r for r, _ in pairs}) > 1:
        assert len({pairs[i][0] for i in kept}) > 1
        assert max(r for r, _ in pairs) in {pairs[i][0] for i in kept}


def test_contrast_by_hand() -> None:
    # G = 4, c = 2: the two lowest (0 at 1, 0 at 4) and the best two of the rest (2 at 0, 2 at 3); the 1 at 2 is left.
    pairs = [(2.0, POLICY), (0.0, POLICY), (1.0, "gpt"), (2.0, "gpt"), (0.0, "gpt")]
    assert keep(Selection(rule="contrast", contrast=2), pairs, 4) == (0, 1, 3, 4)


def test_controls_keep_one_kind_of_source_only() -> None:
    pairs = [(2.0, "gpt"), (1.0, POLICY), (0.0, POLICY), (2.0, "gemini"), (0.0, "gpt")]
    assert keep(Selection(rule="policy_only"), pairs, 3) == (1, 2)
    assert keep(Selection(rule="external_only"), pairs, 2) == (0, 3)


def test_random_g_ignores_rewards() -> None:
    pairs = [(2.0, POLICY)] * 5 + [(0.0, POLICY)] * 5
    kept = [i for seed in range(400) for i in keep(Selection(rule="random_g"), pairs, 5, seed)]
    share_of_losers = sum(i >= 5 for i in kept) / len(kept)
    assert abs(share_of_losers - 0.5) < 0.1


def test_ties_decide_the_provenance() -> None:
    pairs = [(2.0, POLICY)] * 4 + [(2.0, "gpt")] * 4
    assert keep(Selection(ties="policy_first"), pairs, 4) == (0, 1, 2, 3)
    assert keep(Selection(ties="external_first"), pairs, 4) == (4, 5, 6, 7)
    kept = [i for seed in range(400) for i in keep(Selection(), pairs, 4, seed)]
    assert abs(sum(i < 4 for i in kept) / len(kept) - 0.5) < 0.1


def test_the_same_seed_keeps_the_same() -> None:
    pairs = [(1.0, POLICY)] * 20
    assert keep(Selection(), pairs, 5, 7) == keep(Selection(), pairs, 5, 7)


@pytest.mark.parametrize("selection", [Selection(), Selection(rule="contrast"), Selection(rule="random_g")])
def test_fewer_candidates_than_g_are_all_kept(selection: Selection) -> None:
    pairs = [(1.0, POLICY), (0.0, "gpt")]
    assert keep(selection, pairs, 16) == (0, 1)


def test_beyond_adds_external_actions_better_than_every_own() -> None:
    selection = Selection(rule="beyond")
    # best own reward 1: of the external 2, 2, 2, 1 two fit into G = 4 beside the own two; the 1 is not above 1
    pairs = [(1.0, POLICY), (0.0, POLICY), (2.0, "gpt"), (1.0, "gpt"), (2.0, "gemini"), (2.0, "gpt")]
    kept = keep(selection, pairs, 4)
    assert kept[:2] == (0, 1)
    assert set(kept[2:]) < {2, 4, 5}
    assert keep(selection, pairs, 8) == (0, 1, 2, 4, 5)
    # an own 2 closes the door: GRPO
    assert keep(selection, [(2.0, POLICY), (0.0, POLICY), (2.0, "gpt")], 4) == (0, 1)
    # more own than G: the best G of them
    assert keep(selection, [(0.0, POLICY), (1.0, POLICY), (1.0, POLICY), (2.0, "gpt")], 2) == (1, 2)


def test_external_right_keeps_right_external_actions_or_none() -> None:
    selection = Selection(rule="external_right")
    assert keep(selection, [(2.0, POLICY), (2.0, "gpt"), (1.0, "gpt"), (2.0, "gemini")], 8) == (1, 3)
    assert keep(selection, [(2.0, POLICY), (1.0, "gpt")], 8) == ()


def test_own_and_right_leaves_wrong_external_actions_out() -> None:
    pairs = [(0.0, POLICY), (1.0, POLICY), (1.0, "gpt"), (2.0, "gpt"), (2.0, "gemini")]
    assert keep(Selection(rule="own_and_right"), pairs, 8) == (0, 1, 3, 4)
    assert len(keep(Selection(rule="own_and_right"), pairs, 3)) == 3


def test_needed_adds_right_external_actions_until_enough_own_ones_are_right() -> None:
    pairs = [(2.0, POLICY), (1.0, POLICY), (2.0, "gpt"), (1.0, "gpt"), (2.0, "gemini")]
    assert keep(Selection(rule="needed", switch=0), pairs, 8) == (0, 1)  # one of two own is right: solved
    assert keep(Selection(rule="needed", switch=1), pairs, 8) == (0, 1, 2, 4)  # one right is too few
    assert len(keep(Selection(rule="needed", switch=1), pairs, 3)) == 3  # the own two, and one of the right two
    assert keep(Selection(rule="needed", switch=1), [(1.0, POLICY), (1.0, "gpt")], 8) == (0,)  # nobody knows


def test_hpt_takes_the_right_external_actions_where_the_policy_fails() -> None:
    failed = [(1.0, POLICY), (0.0, POLICY), (2.0, "gpt"), (1.0, "gpt"), (2.0, "gemini")]
    assert keep(Selection(rule="hpt"), failed, 4) == (2, 4)
    solved = [(2.0, POLICY), *failed[1:]]
    assert keep(Selection(rule="hpt"), solved, 4) == (0, 1)
    assert keep(Selection(rule="hpt", switch=1), solved, 4) == (2, 4)  # one right is too few
    assert keep(Selection(rule="hpt"), [(1.0, POLICY), (0.0, POLICY), (1.0, "gpt")], 4) == (0, 1)  # nobody knows


def test_a_schedule_by_hand() -> None:
    mu = Schedule(start=0.9, end=0.05, steps=200, warmup=10)
    assert [mu.at(step) for step in (0, 5, 10)] == pytest.approx([0, 0.45, 0.9])
    assert mu.at(110) == pytest.approx(0.475)  # half of 200 steps: 0.05 + 0.85 x (1 + cos(pi / 2)) / 2
    assert mu.at(60) == pytest.approx(0.05 + 0.85 * 0.853553)  # a quarter: (1 + cos(pi / 4)) / 2
    assert mu.at(210) == mu.at(9999) == 0.05
    assert Schedule(start=0.1, end=0.1).at(77) == 0.1


def test_the_share_of_external_candidates_follows_its_schedule() -> None:
    selection = Selection(external_share=Schedule(start=1, end=0, steps=10))
    actions = [Action("p", POLICY if i < 2 else "gpt", i, "", "stop") for i in range(5)]

    def offered(step: int, seed: int) -> list[Action]:
        return list(selection.share(actions, step, random.Random(seed)))

    assert offered(0, 0) == actions
    assert offered(10, 0) == actions[:2]
    halves = [offered(5, seed) for seed in range(400)]  # 0.5 x 3 = 1.5: one or two, equally often
    assert {len(some) for some in halves} == {3, 4}
    assert abs(sum(map(len, halves)) / 400 - 3.5) < 0.1
    assert all(some[:2] == actions[:2] for some in halves)
    assert Selection().share(actions, 7, random.Random(0)) == actions


def test_rescue_replaces_own_actions_only_where_none_is_right() -> None:
    selection = Selection(rule="rescue", rank="random")
    failed = [(1.0, POLICY)] * 4 + [(2.0, "gpt"), (1.0, "gpt"), (2.0, "gemini"), (2.0, "gpt")]
    kept = keep(selection, failed, 4)
    assert (len(kept), sum(i < 4 for i in kept)) == (4, 2)
    assert set(kept) - {0, 1, 2, 3} < {4, 6, 7}  # the wrong external one never helps
    seen = {i for seed in range(50) for i in keep(selection, failed, 4, seed)}
    assert seen == {0, 1, 2, 3, 4, 6, 7}  # who goes and who comes is drawn
    assert keep(selection, [(2.0, POLICY), *failed[1:]], 4) == (0, 1, 2, 3)
    assert keep(selection, failed[:4] + [(1.0, "gpt")], 4) == (0, 1, 2, 3)
    assert len(keep(Selection(rule="rescue", rank="random", rescue=1), failed, 4)) == 4


def external(index: int, p: list[float], answer: tuple[int, int] | None) -> Action:
    return Action("p", "gpt", index, "", "stop", answer=answer, logprobs=tuple(map(log, p)), reward=Reward(1.0, 1.0))


def test_comprehension_by_hand() -> None:
    # the answer's two tokens: (0.5 + 0.1) / 2 = 0.3, (0.2 + 0.2) / 2 = 0.2, (0.9 + 0.5) / 2 = 0.7; without tags 0
    others = [
        external(0, [0.9, 0.5, 0.1], (1, 3)),
        external(1, [0.9, 0.2, 0.2], (1, 3)),
        external(2, [0.9, 0.5, 0.01], (0, 2)),
        external(3, [0.9, 0.9, 0.9], None),
    ]
    assert [a.comprehension for a in others] == pytest.approx([0.3, 0.2, 0.7, 0])
    own = [Action("p", POLICY, i, "", "stop", reward=Reward(1.0, 0.0)) for i in range(4)]
    kept = Selection(rule="rescue").keep([*own, *others], 4, random.Random(0))
    assert {*kept} & {4, 5, 6, 7} == {4, 6}
    assert Selection(rule="rescue").needs_likelihoods
    assert not Selection(rule="rescue", rank="random").needs_likelihoods


def test_the_gate_asks_for_the_least_likely_token() -> None:
    # least likely tokens: 0.1, 0.2, 0.01
    others = [external(0, [0.9, 0.5, 0.1], None), external(1, [0.2, 0.9], None), external(2, [0.01, 1.0], None)]
    assert [Selection(gate=0.15).within_reach(a) for a in others] == [False, True, False]
    assert [Selection(gate=0.05).within_reach(a) for a in others] == [True, True, False]
    assert Selection(gate=0.15).within_reach(Action("p", POLICY, 0, "", "stop"))
    assert Selection(gate=0.15).needs_likelihoods
    assert not Selection().needs_likelihoods
