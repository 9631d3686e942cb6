"""Rewards of the user's own: what a function may be and return, and what becomes of whatever it does wrong."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ekipl.algorithm.grading import grade_all
from ekipl.algorithm.loop import candidates
from ekipl.algorithm.metrics import step_metrics
from ekipl.algorithm.seams import Asked, ExternalSamples, Grader
from ekipl.algorithm.types import POLICY, Action, Problem, Reward
from ekipl.config import check
from ekipl.errors import GraderError, UsageError
from ekipl.importing import imported
from ekipl.report.evaluate import metrics, summarize
from ekipl.report.scores import write_scores
from ekipl.reward.graders import grader
from ekipl.reward.own import CONCURRENCY, OwnReward, misfit
from ekipl.reward.several import Several
from ekipl.run import code
from ekipl.run.records import Record, read_actions, write_actions
from ekipl.run.rewards import UNGRADED, build_grader, short_names
from ekipl.run.sampling import grade_actions, grade_drawn
from ekipl.tasks.counting import Counting
from tests.test_config import composed
from tests.test_external_commands import Policy

PROBLEM = Problem("p", "counting", "id", (), "q", "q", "3", "number")
RIGHT, WRONG, PLAIN = "<think></think><answer>3</answer>", "<think></think><answer>4</answer>", "3"
ASKED: list[Asked] = [(PROBLEM, RIGHT), (PROBLEM, WRONG), (PROBLEM, PLAIN)]


def own(function: Callable[..., Any], told: list[str] | None = None) -> OwnReward:
    return OwnReward("reward", "f", function, (told if told is not None else []).append)


def alone(function: Callable[..., Any]) -> Several:
    return Several("reward", {"f": own(function)}, [1.0])


def settings(*overrides: str, command: Any = "rollout") -> Any:
    return check(composed(command, *overrides), command)


# --- what a function may be ---


async def late(problem: Problem, text: str) -> float:
    await asyncio.sleep(0)
    return float(text == RIGHT)


async def late_batch(problems: Sequence[Problem], texts: Sequence[str]) -> list[float]:
    return [await late(problem, text) for problem, text in zip(problems, texts, strict=True)]


class Held:
    """An object that is called."""

    async def __call__(self, problem: Problem, text: str) -> float:
        return await late(problem, text)


@pytest.mark.parametrize(
    "function",
    [
        lambda problem, text: float(text == RIGHT),
        lambda problems, texts: [text == RIGHT for text in texts],
        lambda problems, texts: np.array([text == RIGHT for text in texts], dtype=np.float32),
        lambda problems, texts: (text == RIGHT for text in texts),
        lambda problem, text: np.bool_(text == RIGHT),
        lambda problem, text: torch.tensor(float(text == RIGHT)),
        lambda problem, text: {"accuracy": float(text == RIGHT)},
        lambda *asks: float(asks[1] == RIGHT),
        lambda problem, text: late(problem, text),
        late,
        late_batch,
        Held(),
    ],
)
def test_one_reward_whatever_the_form(function: Callable[..., Any]) -> None:
    assert misfit(function) is None
    rewards = [got for got in alone(function).many(ASKED) if isinstance(got, Reward)]
    assert [(one.accuracy, one.total, one.format) for one in rewards] == [(1, 1, 0), (0, 0, 0), (0, 0, 0)]


def test_an_async_reward_runs_many_at_once_and_not_too_many() -> None:
    running: list[int] = [0, 0]

    async def counted(problem: Problem, text: str) -> float:
        running[0] += 1
        running[1] = max(running)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running[0] -= 1
        return 1.0

    many = alone(counted)
    many.many(ASKED * 20)
    many.many(ASKED)  # the same loop: an HTTP client of the function lives in it
    assert running == [0, CONCURRENCY]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (math.pi, "float, not a function"),
        (Held, "a class, not a function"),
        (lambda completion: 1.0, "takes (completion)"),
        (lambda problem, text, *, k: 1.0, "takes (problem, text, *, k)"),
        (lambda completions, **kwargs: 1.0, "takes (completions, **kwargs)"),
    ],
)
def test_another_form_is_refused_before_it_is_called(function: object, reason: str) -> None:
    refused = misfit(function)
    assert refused is not None
    assert refused.startswith(reason)
    assert refused.endswith("define a function (problem, text), or (problems, texts) for a whole batch")


def test_the_setting_refuses_it_with_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def one(text): return 1.0\ndef good(problem, text): return 1.0\n")
    for value, reason in (("one", "takes (text); define"), ("two", "has no two (it has good, one)")):
        with pytest.raises(UsageError, match=f"^reward.1: {file}:{value}: ") as refused:
            settings(f"reward=[strict,{file}:{value}]")
        assert reason in str(refused.value)
        assert "\n" not in str(refused.value)


# --- what it may return ---


def test_parts_are_added_and_kept_apart() -> None:
    (got,) = alone(lambda problem, text: {"accuracy": 1, "format": 0.5, "length": -2}).many(ASKED[:1])
    # 1 + 0.5 - 2; "length" is also a metric of actions, so parts have the reward's name in front
    assert got == Reward(0.5, 1, {}, {"f": -0.5, "f.accuracy": 1, "f.format": 0.5, "f.length": -2}, -0.5)


def test_a_reward_passes_the_built_in_scores_on_and_no_score_takes_the_place_of_a_metric() -> None:
    (got,) = alone(lambda problem, text: Reward(1, 0, {"skill": 1.0, "accuracy": 0.25})).many(ASKED[:1])
    assert got == Reward(1, 0, {"skill": 1.0}, {"f": 1, "f.accuracy": 0.25}, 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, r"f returned None \(is a return missing\?\); return a number"),
        ("right", "f returned a str; return a number, a dict of numbers or a Reward"),
        ([1.0], "f returned a list; return a number"),
        (math.nan, "f returned nan"),
        (-math.inf, "f returned -inf"),
        (10**400, "f returned a number beyond all floats"),
        (1j, "f returned a complex"),
        (np.array([1.0, 2.0]), "f returned a ndarray with several values"),
        ({}, "f returned an empty dict"),
        ({3: 1.0}, "f returned a part that is named by a int"),
        ({"a": None}, "f returned for its part a None"),
        ({"accuracy": math.nan}, "f returned for its part accuracy nan"),
        (Reward(1.0, math.nan), "f returned a Reward with accuracy nan"),
        (Reward(1.0, 1.0, {"x": math.inf}), "f returned a Reward with x inf"),
    ],
)
def test_what_is_no_reward_leaves_one_completion_ungraded(value: object, reason: str) -> None:
    told: list[str] = []
    reward = own(lambda problem, text: value if text == WRONG else 1.0, told)
    right, wrong, _ = reward.values(ASKED)
    assert not isinstance(right, GraderError)
    with pytest.raises(GraderError, match=reason):
        raise wrong  # type: ignore[misc]
    (line,) = told
    assert line.startswith("ekipl: warning: reward: ungraded, and counted as such, not as 0: f returned")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda problem, text: -1.0, "f: returned -1, and a number that stands alone is the accuracy, from 0 to 1"),
        (lambda problem, text: 10, "f: returned 10, and a number that stands alone"),
        (lambda problem, text: {"short": 1.0, "kind": 2.0}, "f: returned the parts short, kind, and none of them"),
        (lambda problem, text: {"accuracy": 5}, "f: returned 5 for its part accuracy, which says what is right"),
    ],
)
def test_what_does_not_say_which_answers_are_right_is_refused(function: Callable[..., Any], reason: str) -> None:
    with pytest.raises(UsageError, match=f"^reward: {reason}"):
        alone(function).many(ASKED)


def test_beside_a_grader_any_number_will_do(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def brevity(problem, text): return -len(text) / 10\n")
    path = f"{tmp_path / 'mine.py'}:brevity"
    grade = build_grader(settings(f"reward=[{path},strict]", "reward_weights=[0.5,2]"), Counting())
    # PLAIN has one character: -0.1; strict: no format, right. 0.5 x -0.1 + 2 x (0 + 1)
    assert grade(PROBLEM, PLAIN) == Reward(0, 1, {}, {"brevity": -0.1, "strict": 1}, pytest.approx(1.95))
    with pytest.raises(UsageError, match=r"^reward: a and b do not say which answers are right; return a dict"):
        Several("reward", {"a": own(lambda p, t: 1.0), "b": own(lambda p, t: 0.0)}, [1, 1]).many(ASKED)


def test_the_accuracy_is_that_of_the_first_that_tells_one() -> None:
    strict = grader("strict")
    rewards: Mapping[str, Any] = {
        "number": own(lambda problem, text: 7.0),
        "half": own(lambda problem, text: {"accuracy": 0.5}),
        "strict": own(lambda problem, text: strict(problem, text)),
    }
    (got,) = Several("reward", rewards, [1, 1, 0]).many(ASKED[:1])
    assert isinstance(got, Reward)
    assert (got.accuracy, got.format, got.total) == (0.5, 1.0, 7.5)


def test_one_that_cannot_grade_leaves_no_reward() -> None:
    def picky(problem: Problem, text: str) -> float:
        return 1 / (text != WRONG)

    got = Several("reward", {"f": own(picky), "g": own(lambda p, t: {"accuracy": 1})}, [0.0, 1.0]).many(ASKED)
    assert [type(one) for one in got] == [Reward, GraderError, Reward]
    assert str(got[1]) == "f: ZeroDivisionError: division by zero"


def test_names_in_metrics_are_those_of_the_functions_and_never_the_same() -> None:
    assert short_names(["strict", "a/b.py:f", "pkg.mod:g"]) == ["strict", "f", "g"]
    assert short_names(["a/b.py:f", "c.py:f"]) == ["b:f", "c:f"]


# --- what becomes of failures ---


def test_a_trace_is_shown_once_for_each_kind_of_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def f(problem, text):\n    if text == 'key':\n        return {}['sk-12345678']\n    return 1 / int(text)\n"
    )
    grade = build_grader(settings(f"reward={file}:f"), Counting(), tmp_path / "run")
    texts = ["1", "0", "0", "key", "0", "1"]
    got = grade_all(grade, [(PROBLEM, text) for text in texts])
    assert [isinstance(one, Reward) for one in got] == [True, False, False, False, False, True]
    told = capsys.readouterr().err
    assert told.count("f: ZeroDivisionError: division by zero") == 1
    assert f"  {file}:4 in f: return 1 / int(text)" in told
    assert f"  {file}:3 in f: return {{}}['[key]']" in told  # no secret is shown
    assert (tmp_path / "run" / UNGRADED).read_text() == told


def test_where_nothing_can_be_graded_the_command_ends_with_the_trace(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def f(problem, text):\n    return problem.gold\ndef g(problems, texts):\n    return texts[:1]\n")
    for name, line in (("f", f"\n  {file}:2 in f: return problem.gold"), ("g", "3 texts; return one for each")):
        with pytest.raises(UsageError, match="none of the first 3 completions could be graded: ") as refused:
            grade_all(build_grader(settings(f"reward={file}:{name}"), Counting()), ASKED)
        assert str(refused.value).endswith(line)


def test_later_a_whole_batch_may_fail() -> None:
    healthy = [True]
    reward = own(lambda problem, text: 1.0 if healthy else {}[text])
    reward.values(ASKED)
    healthy.clear()
    assert all(isinstance(one, GraderError) for one in reward.values(ASKED))


def test_the_users_own_errors_are_no_accident() -> None:
    def refuses(problem: Problem, text: str) -> float:
        raise UsageError("my key is missing")

    def unsure(problem: Problem, text: str) -> float:
        if text == WRONG:
            raise GraderError("unsure")
        return 1.0

    with pytest.raises(UsageError, match="^my key is missing"):
        own(refuses).values(ASKED)
    assert str(own(unsure).values(ASKED)[1]) == "f: unsure"


def test_an_ungraded_action_is_no_candidate_and_is_counted() -> None:
    grade = alone(lambda problem, text: 1 / (text != WRONG))
    actions = [Action("p", POLICY, i, text, "stop") for i, text in enumerate((RIGHT, WRONG, PLAIN))]
    (offer,) = candidates([PROBLEM], [actions], [ExternalSamples((), {"timeout": 2})], grade, Policy())
    assert [action.index for action in offer.offered] == [0, 2]
    assert offer.refused == {"timeout": 2, "ungraded": 1}


# --- where they are seen ---


@pytest.fixture
def mixed() -> Grader:
    words: dict[str, Any] = {
        "right": own(lambda problem, text: {"accuracy": float(text == RIGHT), "errors": 30.0}),
        "length": own(lambda problem, text: float(len(text))),
    }
    return Several("reward", words, [1.0, 0.01])


def test_metrics_have_the_parts_apart(mixed: Grader, tmp_path: Path) -> None:
    actions = [Action("p", POLICY, i, text, "stop", (1,)) for i, text in enumerate((RIGHT, PLAIN))]
    (offer,) = candidates([PROBLEM], [actions], [ExternalSamples(())], mixed, Policy())
    found = step_metrics([replace(offer, kept=(0, 1), advantages=(1.0, -1.0))])
    size = (len(RIGHT) + 1) / 2
    assert found["reward/part/length/policy"] == size
    assert found["reward/part/right.accuracy/policy"] == found["reward/accuracy/policy"] == 0.5
    assert found["reward/part/right/policy"] == 30.5  # (31 + 30) / 2
    assert found["reward/kept"] == pytest.approx(30.5 + 0.01 * size)

    evaluation = summarize(grade_actions(mixed, [(PROBLEM, action) for action in actions]))
    shown = metrics(evaluation)
    assert (shown["eval/id/part/length"], shown["eval/id/length"]) == (size, 1)
    assert (shown["eval/id/part/right.errors"], shown["eval/id/errors"]) == (30, 0)
    tables = write_scores(tmp_path, "t", {"m": evaluation}, {})
    assert "right.errors" not in tables[0].markdown()  # of percents
    assert "| m     | id    | right.errors   |   30 |" in tables[1].markdown()


def test_records_keep_the_sum(mixed: Grader, tmp_path: Path) -> None:
    action = Action("p", POLICY, 0, RIGHT, "stop", reward=mixed(PROBLEM, RIGHT))
    write_actions(tmp_path / "a.jsonl", [Record("counting", "id", action)])
    (read,) = read_actions(tmp_path / "a.jsonl")
    assert read.action == action
    assert read.action.total == pytest.approx(31 + 0.01 * len(RIGHT))


def test_a_grader_of_many_gets_many_and_order_is_kept() -> None:
    sizes: list[int] = []

    def batched(problems: Sequence[Problem], texts: Sequence[str]) -> list[float]:
        sizes.append(len(texts))
        return [float(text) for text in texts]

    actions = [Action("p", POLICY, i, str(i % 2), "stop") for i in range(3)]
    drawn = [(PROBLEM, actions[: i % 4]) for i in range(100)]  # 0, 1, 2, 3, 0, ...: 150 actions
    found = list(grade_drawn(alone(batched), drawn, lambda one: one))
    assert [one for one, _ in found] == drawn
    assert all(
        [g.reward.accuracy for g in graded if g.reward] == [float(a.text) for a in own] for (_, own), graded in found
    )
    assert sum(sizes) == 150
    assert all(size >= 64 for size in sizes[:-1])


# --- a file that changes ---


def test_a_run_does_not_go_on_with_another_reward(tmp_path: Path) -> None:
    file, run = tmp_path / "mine.py", tmp_path / "run"
    file.write_text("def f(problem, text): return 1.0\n")
    chosen = settings(f"reward=[strict,{file}:f]")
    began = code.digests(chosen)
    assert list(began) == [f"reward.1: {file}:f"]
    code.keep(run, began)
    (run / "config.yaml").write_text("B: 3\n")
    file.write_text("def f(problem, text): return 0.0\n")
    code.refuse_other_code(run, code.digests(chosen))  # nothing was trained yet: must not raise
    (run / "metrics.jsonl").write_text("{}\n")
    code.refuse_other_code(run, began)  # must not raise
    with pytest.raises(UsageError, match=rf"{run}: reward.1: {file}:f: the file has changed since the run began"):
        code.refuse_other_code(run, code.digests(chosen))


def test_all_own_code_is_in_the_digests(tmp_path: Path) -> None:
    file = tmp_path / "all.py"
    file.write_text("def rule(c, n): ...\ndef f(problem, text): ...\nclass T:\n    kinds = ()\n")
    (tmp_path / "t.txt").write_text("{completion}")
    words = ["judge=openai_server", f"judge.template={tmp_path / 't.txt'}", f"selection.rule={file}:rule"]
    chosen = settings(
        *words, "reward=[strict,judge]", f"task._target_={file}:T", "objective.baseline=tests.broken_reward:breaks"
    )
    assert set(code.digests(chosen)) == {
        f"selection.rule: {file}:rule",
        "objective.baseline: tests.broken_reward:breaks",
        f"task._target_: {file}:T",
        f"judge.template: {tmp_path / 't.txt'}",
    }
    assert imported("x", f"{file}:f") is not None
