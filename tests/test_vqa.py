"""``task=vqa``: how it asks, of which kinds its answers are, and when a text is right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.algorithm.types import AnswerKind, Example, Problem, Reward
from ekipl.config import check
from ekipl.data.gold import Gold, gold
from ekipl.errors import GraderError, UsageError
from ekipl.reward import wording
from ekipl.reward.graders import grader
from ekipl.run import build
from ekipl.run.rewards import build_graders
from ekipl.tasks.vqa import VQA
from tests.test_config import composed

STRICT = grader("strict")


def graded(answer: str, gold: str, kind: AnswerKind = "text", name: str = "strict", **metadata: Any) -> Reward:
    problem = Problem("p", "vqa", "id", (), "?", "?", gold, kind, metadata)
    return grader(name)(problem, f"<think>so</think>\n<answer>{answer}</answer>")


# --- texts: the table of docs/tasks.md ---


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "red",
            ["red", "Red", " RED. ", "**red**", '"red"', "“red”", "(red)", "ｒｅｄ", "the red", "re\u200bd", "[Red]!"],
            ["not red", "red car", "it is red", "r e d", "", "reds", "red or blue", "the"],
        ),
        ("The Eiffel Tower", ["eiffel tower", "Eiffel  Tower!", "an Eiffel Tower"], ["Eiffel-Tower", "tower"]),
        ("don't", ["don’t", "Don't", "'don't'"][:2], ["dont", "do not"]),
        ("Vitamin A", ["vitamin a", "a vitamin A"], ["vitamin", "A"]),
        ("C++", ["c++", "C++."], ["C", "C#", "C+"]),
        ("yes", ["Yes", "Yes."], ["yes, it is", "yes or no", "no"]),
        ("a", ["A", "(a)", "a."], ["b", ""]),
        ("...", ["..."], ["", "."]),
        ("Straße", ["STRASSE", "straße"], ["Strase"]),
        ("(a) or (b)", ["(A) or (B)"], ["a) or (b"]),
        ("12:30", ["12:30", "12:30."], ["12.5", "1230"]),
    ],
)
def test_texts(gold: str, right: list[str], wrong: list[str]) -> None:
    assert {answer: graded(answer, gold).accuracy for answer in right} == dict.fromkeys(right, 1)
    assert {answer: graded(answer, gold).accuracy for answer in wrong} == dict.fromkeys(wrong, 0)


@given(st.text(max_size=40))
def test_the_normal_form_is_its_own(text: str) -> None:
    assert wording.same(text, text)
    once = wording.normal(text)
    assert wording.same(f"  {text.upper()} ".lower(), text.upper().lower())
    if not once.startswith(("a ", "an ", "the ")):  # one article is taken off, not two
        assert wording.normal(once) == once


def test_a_long_text_takes_little_time() -> None:
    for hostile in ("(" * 100_000, '"' * 100_000, "a " * 50_000, "." * 100_000, "(" * 5_000 + "x" + ")" * 5_000):
        assert not wording.same(hostile, "red")


# --- accepted answers ---


def test_any_accepted_answer_is_right() -> None:
    accepted = ("red", "dark red")
    assert graded("Dark Red", "red", accepted=accepted).accuracy == 1
    assert graded("dark", "red", accepted=accepted).accuracy == 0
    assert graded("3.0", "3", "number", accepted=("2", "3")).accuracy == 1
    assert graded("c", "B", "choice", accepted=("B", "C")).accuracy == 1
    assert graded("dark red", "red", name="reason_rft_reward", accepted=accepted).accuracy == 1


def test_one_that_cannot_be_compared_does_not_hide_one_that_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(answer: str, gold: str) -> bool:
        if gold == "hard":
            raise GraderError("no answer in time")
        return answer == gold

    monkeypatch.setattr("ekipl.reward.comparison.same", same)
    assert graded("x", "hard", "expression", accepted=("hard", "x")).accuracy == 1
    with pytest.raises(GraderError, match="no answer in time"):
        graded("y", "hard", "expression", accepted=("hard", "x"))


# --- kinds ---


@pytest.mark.parametrize(
    ("value", "question", "kind"),
    [
        ("3", "", "number"),
        ("12 cm", "", "number"),
        ("three", "", "number"),
        ("-2.50", "", "number"),
        ("5 pizzas", "", "expression"),
        ("B", "", "choice"),
        ("E", "A. one B. two (A) x (B) y Choices: E. five", "choice"),
        ("2*x + 1", "", "expression"),
        ("\\sqrt{2}", "", "expression"),
        ("pi", "", "expression"),
        ("change_color(2, cyan)", "", "functions"),
        ("red", "", "text"),
        ("ab", "", "text"),
        ("the left one", "", "text"),
        ("yes", "", "text"),
        ("True", "", "text"),
        ("2024-01-02", "", "text"),
        ("12:30", "", "text"),
        ("1/2", "", "number"),
        (("red", "dark red"), "", "text"),
        (("3", "4"), "", "number"),
        (("3", "red"), "", "text"),
        (4, "", "number"),
        ("<answer> red </answer>", "", "text"),
    ],
)
def test_kinds_that_are_inferred(value: Any, question: str, kind: AnswerKind) -> None:
    found = gold(value, None, question, VQA())
    assert (found.kind, found.is_stated) == (kind, False)


def test_a_stated_kind_is_taken_as_it_is() -> None:
    assert gold("3", "text", "", VQA()) == Gold("3", "text", (), True)
    assert gold("3", None, "", VQA(kind="text")) == Gold("3", "text", (), True)
    assert gold(("3", "3", "4"), "number", "", VQA()) == Gold("3", "number", ("3", "4"), True)


@pytest.mark.parametrize(
    ("value", "stated", "reason"),
    [
        (None, None, "answer: missing"),
        ("", None, "answer: '': not a text"),
        ((), None, "answer: an empty list"),
        (("a", None), None, "answer: missing"),
        ("a", "colour", "kind: 'colour': not one of number, choice, expression, functions, text"),
        ("a", 3, "kind: 3: not one of"),
        ("red", "choice", "answer: 'red': not of kind choice"),
        ("red", "functions", "answer: 'red': not of kind functions"),
        ("<answer></answer>", None, "nothing between its tags"),
        (("x",) * 1 + tuple(map(str, range(1001))), None, "1,002 accepted answers; at most 1,000"),
        ("x" * 20_000, None, "20,000 characters; at most 10,000"),
    ],
)
def test_answers_that_are_none(value: Any, stated: Any, reason: str) -> None:
    with pytest.raises(ValueError, match="^") as error:
        gold(value, stated, "", VQA())
    assert reason in str(error.value)
    with pytest.raises(ValueError, match="'3': number; vqa needs text"):
        gold("3", "number", "", VQA(kind="text"))


def test_other_tasks_keep_their_kinds() -> None:
    from ekipl.tasks.structure import Structure

    assert gold("isosceles", None, "", Structure()).kind == "expression"


# --- how it asks ---


def asked(kind: AnswerKind, **options: Any) -> str:
    return VQA(**options).prompt(Example("1", (), "How {many}?", "B", kind))


def test_prompts_word_for_word() -> None:
    tags = "Output the thinking process in <think> </think> and final answer"
    assert asked("text") == f"How {{many}}? {tags} in <answer> </answer> tags."
    assert asked("choice").endswith(f"your choice.\n{tags} (chosen letter) in <answer> </answer> tags.")
    assert asked("number", strategy="answer") == asked("choice", strategy="answer") == "How {many}?"
    assert "<think>" not in asked("text", strategy="zero_shot")
    assert asked("text", prompt="Q: {question} A:") == "Q: How {many}? A:"


def test_settings_that_are_refused() -> None:
    with pytest.raises(UsageError, match="prompt: 'Say it': no {question} in it"):
        VQA(prompt="Say it")
    with pytest.raises(UsageError, match="task.kind: colour: unknown; known are number, choice"):
        build.build_task(check(composed("eval", "task=vqa", "task.kind=colour"), "eval"))
    for splits in ("[]", "id", "[train]", "[3]"):
        with pytest.raises(UsageError, match="task.splits: .*: not a list of evaluation splits"):
            build.build_task(check(composed("eval", "task=vqa", f"task.splits={splits}"), "eval"))


def test_tables_have_no_scoring_that_the_task_does_not_use() -> None:
    def further(*overrides: str) -> set[str]:
        settings = check(composed("eval", *overrides), "eval")
        return set(build_graders(settings, build.build_task(settings))[1])

    assert further("task=counting") == {"reason_rft"}
    assert further("task=vqa") == set()
    assert further("task=vqa", "also_grade_with=[reason_rft]") == {"reason_rft"}
