"""Pools without a network: simulated experts, recordings, nobody."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.algorithm.seams import Decoding, ExternalSamples
from ekipl.algorithm.types import Action, Reward
from ekipl.errors import UsageError
from ekipl.external import client, simulated
from ekipl.external.offline import NoPool, RecordedPool
from ekipl.external.pool import LiteLLMPool
from ekipl.external.request import Call, Question
from ekipl.external.settings import ExternalModel
from tests.test_external import problem

# Simulated experts

COUNT = {"problem_id": "p", "answer": "4", "kind": "number", "cot": "blue cube 1, red cube 4. Total 4", "sample": 0} | {
    "variants": [],
    "mistakes": [],
}


def draws(expert: simulated.Expert, known: dict[str, Any], n: int, seed: int = 0) -> list[str]:
    return [simulated.reply(expert, {**known, "problem_id": f"p{i // 8}", "sample": i % 8}, seed) for i in range(n)]


@pytest.mark.parametrize(("accuracy", "format_rate"), [(0.7, 0.95), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0)])
def test_an_expert_is_as_good_as_stated(accuracy: float, format_rate: float) -> None:
    n = 2000
    got = draws(simulated.Expert("a", accuracy, format_rate), COUNT, n)
    for rate, share in [
        (accuracy, sum("<answer>4</answer>" in text for text in got) / n),
        (
            format_rate,
            sum(re.fullmatch(r"<think>.+</think>\n<answer>.+</answer>", text) is not None for text in got) / n,
        ),
    ]:
        assert abs(share - rate) <= 3 * math.sqrt(rate * (1 - rate) / n)


def test_what_an_expert_says_depends_on_its_seed_its_name_the_problem_and_the_sample() -> None:
    expert = simulated.Expert("a", 0.5, 0.5)
    got = draws(expert, COUNT, 64)
    assert got == draws(expert, COUNT, 64)
    assert got != draws(replace(expert, name="b"), COUNT, 64)
    assert got != draws(expert, COUNT, 64, seed=1)
    assert len({tuple(got[i : i + 8]) for i in range(0, 64, 8)}) == 8


def test_right_answers_and_styles() -> None:
    sure = simulated.Expert("a", 1.0, 1.0)
    assert simulated.reply(sure, COUNT) == f"<think>{COUNT['cot']}</think>\n<answer>4</answer>"
    foreign = simulated.reply(replace(sure, style="foreign"), COUNT)
    assert foreign == f"<think>{simulated.OPENING}{COUNT['cot']}</think>\n<answer>4</answer>"
    assert simulated.reply(sure, {**COUNT, "cot": None}) == f"<think>{simulated.GENERIC}</think>\n<answer>4</answer>"


def test_right_reasoning_varies_and_mistakes_are_those_of_the_data() -> None:
    data = {**COUNT, "variants": ["red first. Total 4"], "mistakes": [("one overlooked. Total 3", "3")]}
    right = {f"<think>{cot}</think>\n<answer>4</answer>" for cot in (COUNT["cot"], "red first. Total 4")}
    assert set(draws(simulated.Expert("a", 1.0, 1.0), data, 50)) == right
    wrong = "<think>one overlooked. Total 3</think>\n<answer>3</answer>"
    assert set(draws(simulated.Expert("a", 0.0, 1.0), data, 50)) == {wrong}


def test_wrong_reasoning_leads_to_the_wrong_answer() -> None:
    wrong = simulated.Expert("a", 0.0, 1.0)
    for text in draws(wrong, COUNT, 50):
        thinking, answer = re.fullmatch(r"<think>(.*)</think>\n<answer>(.*)</answer>", text).groups()  # type: ignore[union-attr]
        assert answer in {"2", "3", "5", "6"}
        assert thinking == f"blue cube 1, red cube {answer}. Total {answer}"


def test_reasoning_that_does_not_spell_the_answer_loses_its_last_clause() -> None:
    assert simulated.misled("0 b2 b2 large red cube, 1 a1 c1 cyan", "left", "right") == "0 b2 b2 large red cube"
    assert simulated.misled("It is B 2.5 now. So both. Two.", "2", "3") == "It is B 2.5 now. So both"
    assert simulated.misled("moved to the left", "left", "right") == "moved to the right"
    assert simulated.misled("front_left of it", "left", "right") == simulated.GENERIC


@given(st.integers(-(10**6), 10**6) | st.decimals(-1000, 1000, places=2), st.integers())
def test_a_wrong_number_is_another_number_beyond_any_tolerance(gold: int | Decimal, seed: int) -> None:
    answer, _, _ = simulated.mistake(str(gold), "number", random.Random(seed))
    distance = abs(Decimal(answer) - Decimal(gold))
    assert distance >= 1 or distance >= abs(gold) / 10
    assert distance >= abs(Decimal(gold)) / 10
    assert gold < 0 or Decimal(answer) >= 0


@given(st.sampled_from("ABCD"), st.integers())
def test_a_wrong_letter_is_another_letter(gold: str, seed: int) -> None:
    answer, _, _ = simulated.mistake(gold, "choice", random.Random(seed))
    assert answer in set("ABCD") - {gold}


CALLS = [
    f"change_{what}({i}, {value})" for what, values in simulated.VALUES.items() for value in values for i in (0, 1)
]


@given(st.lists(st.sampled_from(CALLS), min_size=1, max_size=4, unique=True), st.integers())
def test_wrong_functions_are_another_set_of_known_functions(gold: list[str], seed: int) -> None:
    answer, said, instead = simulated.mistake(", ".join(gold), "functions", random.Random(seed))
    assert set(answer.split(", c")) != set(", ".join(gold).split(", c"))
    assert {call[0] for call in simulated.FUNCTION.finditer(answer)} <= set(CALLS)
    assert said != instead


@pytest.mark.parametrize("gold", [r"\frac{1}{2}", "2\\sqrt{3}", "1,000", "NaN", "1e99", "", "x + 1"])
def test_a_wrong_formula_is_one_more(gold: str) -> None:
    for kind in ("expression", "number"):
        assert simulated.mistake(gold, kind, random.Random(0))[0] == f"{gold} + 1"


def test_experts_answer_through_the_very_same_pool() -> None:
    params = {"accuracy": 0.5, "format_rate": 0.5, "style": "foreign"}
    models = [ExternalModel("one", "simulated/a", samples=1), ExternalModel("two", "simulated/b", params=params)]
    problems = [problem(f"p{i}", answer=str(i), metadata={"cot": f"Total {i}"}) for i in range(12)]
    experts = LiteLLMPool(models, Decoding(), 10, seed=3)
    try:
        answers = experts.sample(problems, 8)
        assert experts.sample(problems, 8) == answers
    finally:
        experts.close()
    b = simulated.Expert("b", 0.5, 0.5, "foreign")
    for asked, answer in zip(problems, answers, strict=True):
        assert [(a.source, a.index) for a in answer.actions] == [("one", 0), *(("two", k) for k in range(8))]
        expected = [simulated.reply(b, simulated.known(asked, k), seed=3) for k in range(8)]
        assert [a.text for a in answer.actions[1:]] == expected
        assert answer.failed == {}
        assert {a.finish for a in answer.actions} == {"stop"}


def test_an_expert_counts_its_tokens() -> None:
    known = {**COUNT, "answer": "4"}
    call = Call("simulated/a", Question(problem()).messages, {"accuracy": 1.0}, None, "none", 10, known)
    (completion,) = asyncio.run(client.complete(call))
    assert completion.prompt_tokens == 3  # "p0: how many?" has 13 characters
    assert completion.completion_tokens == len(completion.text) // 4


def test_a_bug_in_an_expert_is_no_failed_sample() -> None:
    broken = LiteLLMPool([ExternalModel("a", "simulated/a", params={"accuracy": 0.0})], Decoding(), 10)
    try:
        with pytest.raises(Exception, match="has no attribute"):
            broken.sample([problem(answer=None, kind="choice")], 1)
    finally:
        broken.close()


# Recordings and nobody


def recorded() -> Iterator[tuple[str, str, Action]]:
    def record(source: str, problem_id: str, index: int, text: str, split: str = "train") -> tuple[str, str, Action]:
        return "counting", split, Action(problem_id, source, index, text, "stop", (1,), (-0.5,), Reward(1, 1))

    yield from [record("a", "p0", i, f"a{i}") for i in (2, 0, 1)]
    yield from [record("b", "p0", 0, "b0"), record("a", "p0", 0, "new")]
    yield from [record("a", "p0", 0, "of another split", "id"), record("b", "p1", 0, "b1")]


def test_a_recording_gives_what_it_holds_and_counts_what_it_does_not() -> None:
    replay = RecordedPool(recorded(), ["b", "a"])
    p0, p1 = replay.sample([problem("p0"), problem("p1")], 2)
    assert [(a.source, a.index, a.text) for a in p0.actions] == [("b", 0, "b0"), ("a", 0, "new"), ("a", 1, "a1")]
    assert all((a.reward, a.tokens, a.logprobs) == (None, None, None) for a in p0.actions)
    assert p0.failed == {}
    assert [a.text for a in p1.actions] == ["b1"]
    assert p1.failed == {"not recorded": 2}
    assert RecordedPool(recorded(), ["a"]).sample([problem("p2")], 3) == [ExternalSamples((), {"not recorded": 3})]
    own = RecordedPool(recorded(), ["b", "a"], {"b": None, "a": 1})
    assert [(a.source, a.index) for a in own.sample([problem("p0")], 3)[0].actions] == [("b", 0), ("a", 0)]
    assert own.sample([problem("p1")], 3)[0].failed == {"not recorded": 1}


def test_a_recording_of_other_problems_only_is_a_mistake() -> None:
    replay = RecordedPool(recorded(), ["a"], file="run/actions.jsonl")
    replay.refuse_strangers([problem("p7"), problem("p0")])
    for stranger in (problem("p7"), problem("p0", split="ood"), problem("p0", task="spatial")):
        with pytest.raises(
            UsageError, match=r"external.path: run/actions.jsonl: none of the problems is in .*record the same"
        ):
            replay.refuse_strangers([stranger])


def test_a_recording_without_the_source_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="^f: gpt4o: no action of this source; the file's sources: a, b"):
        RecordedPool(recorded(), ["a", "gpt4o"], file="f")


def test_nobody_answers() -> None:
    nobody = NoPool()
    assert nobody.names == ()
    assert nobody.sample([problem(), problem()], 8) == [ExternalSamples(()), ExternalSamples(())]
    nobody.close()
