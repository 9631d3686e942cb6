"""Which G candidates are kept."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.algorithm.selection import Contrast, Selection
from ekipl.algorithm.types import POLICY

candidates = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 2.0]), st.sampled_from([POLICY, "gpt", "gemini"])), min_size=1, max_size=24
)


def keep(selection: Selection | Contrast, pairs: list[tuple[float, str]], size: int, seed: int = 0) -> tuple[int, ...]:
    return selection.keep([r for r, _ in pairs], [s for _, s in pairs], size, random.Random(seed))


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
    kept = keep(Contrast(contrast=contrast), pairs, size, seed)
    assert len(set(kept)) == len(kept) == min(size, len(pairs))
    if len({r for r, _ in pairs}) > 1:
        assert len({pairs[i][0] for i in kept}) > 1
        assert max(r for r, _ in pairs) in {pairs[i][0] for i in kept}


def test_contrast_by_hand() -> None:
    # G = 4, c = 2: the two lowest (0 at 1, 0 at 4) and the best two of the rest (2 at 0, 2 at 3); the 1 at 2 is left.
    pairs = [(2.0, POLICY), (0.0, POLICY), (1.0, "gpt"), (2.0, "gpt"), (0.0, "gpt")]
    assert keep(Contrast(contrast=2), pairs, 4) == (0, 1, 3, 4)


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


@pytest.mark.parametrize("selection", [Selection(), Contrast(), Selection(rule="random_g")])
def test_fewer_candidates_than_g_are_all_kept(selection: Selection | Contrast) -> None:
    pairs = [(1.0, POLICY), (0.0, "gpt")]
    assert keep(selection, pairs, 16) == (0, 1)
