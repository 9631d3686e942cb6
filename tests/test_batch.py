"""A rank's groups are split into micro-batches within their limits, and a problem is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.algorithm.seams import Decoding
from ekipl.algorithm.types import Group
from ekipl.engine.batch import ids, split
from ekipl.engine.settings import EngineSettings
from ekipl.policy.encoding import encode_prompts
from ekipl.policy.hf import HFSampler
from ekipl.policy.model import load_model
from tests.test_engine import group, make
from tests.test_prefix import PROBLEMS


def limits(problems: int, tokens: int | None = None, accumulation: int = 1) -> EngineSettings:
    return EngineSettings(learning_rate=0.0, micro_batch=problems, micro_batch_tokens=tokens, accumulation=accumulation)


def shape(pieces: Sequence[Sequence[Group]]) -> list[list[tuple[str, int]]]:
    """(problem, number of its actions) of each part of each piece."""
    return [[(part.problem.id, len(part.kept)) for part in piece] for piece in pieces]


GROUPS = [group(0, (4, 2, 5), (1.0, -0.5, -0.5)), group(1, (3, 3), (0.7, -0.7)), group(2, (1, 6), (0.2, 0.1))]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (limits(1), [[("p0", 3)], [("p1", 2)], [("p2", 2)]]),
        (limits(2), [[("p0", 3), ("p1", 2)], [("p2", 2)]]),
        (limits(8, accumulation=2), [[("p0", 3), ("p1", 2)], [("p2", 2)]]),
        (limits(8, accumulation=8), [[("p0", 3)], [("p1", 2)], [("p2", 2)]]),
        # prompts of 10: 2 x 10 + 5 actions x 5 = 45; with the third 3 x 10 + 7 x 6 = 72
        (limits(8, 72), [[("p0", 3), ("p1", 2), ("p2", 2)]]),
        (limits(8, 71), [[("p0", 3), ("p1", 2)], [("p2", 2)]]),
        # 10 + 2 x 5 = 20: two actions of the first problem go together, the third with the next problem would be 29 + 6
        (limits(8, 20), [[("p0", 2)], [("p0", 1)], [("p1", 2)], [("p2", 1)], [("p2", 1)]]),
        (limits(8, 1), [[("p0", 1)]] * 3 + [[("p1", 1)]] * 2 + [[("p2", 1)]] * 2),
    ],
)
def test_pieces_by_hand(settings: EngineSettings, expected: list[list[tuple[str, int]]]) -> None:
    assert shape(split(settings, GROUPS, lambda problem: 10)) == expected
    assert split(settings, [], lambda problem: 10) == []


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), max_size=6),
    st.builds(limits, st.integers(1, 8), st.none() | st.integers(1, 90), st.integers(1, 8)),
)
def test_nothing_is_lost_and_no_limit_is_passed(lengths: list[list[int]], settings: EngineSettings) -> None:
    groups = [group(n % 3, row, [1.0] * len(row)) for n, row in enumerate(lengths)]
    pieces = split(settings, groups, lambda problem: 10)
    together = [action for piece in pieces for part in piece for action in part.actions]
    assert together == [action for g in groups for action in g.actions]
    share = -(-len({g.problem.id for g in groups}) // settings.accumulation)
    for piece in pieces:
        actions = [action for part in piece for action in part.actions]
        assert len({part.problem.id for part in piece}) <= min(settings.micro_batch, share)
        cost = 10 * len(piece) + len(actions) * max(2, *(len(ids(a)) for a in actions))
        limit = settings.micro_batch_tokens
        assert limit is None or cost <= limit or len(actions) == 1


def test_sampling_and_learning_encode_a_problem_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()
    vlm = engine.vlm
    processor, calls = vlm.image_processor, []

    def counted(images: list[Any], **options: Any) -> Any:
        calls.append(len(images))
        return processor(images=images, **options)

    vlm = replace(vlm, image_processor=counted)
    engine.vlm = vlm
    counted.merge_size = processor.merge_size  # type: ignore[attr-defined]
    problems = [replace(problem) for problem in PROBLEMS]
    HFSampler(vlm, Decoding(max_tokens=2), batch_size=2).sample(problems, 4, seed=0)
    engine.prepare([replace(g, problem=problem) for g, problem in zip(GROUPS, problems, strict=True)])
    assert calls == [1, 2]  # images of the first two problems; the third has none


def test_what_was_encoded_goes_with_its_problem() -> None:
    vlm = load_model("tiny", device="cpu")
    mine = replace(PROBLEMS[0])
    encode_prompts(vlm, [mine])
    assert len(vlm.encoded) == 1
    del mine
    assert not vlm.encoded
