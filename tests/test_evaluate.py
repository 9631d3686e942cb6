from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from ekipl.algorithm.seams import Engine
from ekipl.algorithm.types import Action, AnswerKind, Finish, Problem, Reward
from ekipl.errors import GraderError
from ekipl.report.evaluate import Evaluation, GradedAction, compare, metrics, summarize
from ekipl.report.stats import wilson
from ekipl.run import sampling
from ekipl.run.sampling import draw, grade_action, graded


def exact(problem: Problem, text: str) -> Reward:
    """Of digits: right when equal, half right when off by one, broken on "?"."""
    if text == "?":
        raise GraderError("no verdict within 5 s")
    off = abs(int(text) - int(problem.answer))
    return Reward(float(text != "9"), float(off == 0), {"partial": 0.5 ** min(off, 2) if off < 2 else 0.0})


class Uniform:
    """Says a digit, drawn uniformly by (seed, problem, sample)."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def sample(self, problems: Sequence[Problem], n: int, seed: int) -> list[list[Action]]:
        self.calls.append(len(problems))
        return [
            [
                Action(p.id, "policy", i, str(Random(f"{seed}/{p.split}/{p.id}/{i}").randrange(10)), "stop", (1, 2))
                for i in range(n)
            ]
            for p in problems
        ]

    def encode(self, action: Action) -> Action | str:
        return action

    def load_weights(self, engine: Engine) -> None: ...


def problem(number: int, split: str = "id", kind: AnswerKind = "number", family: str | None = None) -> Problem:
    metadata = {} if family is None else {"family": family}
    return Problem(f"p{number}", "digits", split, (), "q", "q", str(number % 10), kind, metadata)


def score(
    name: str, accuracy: float | None, split: str = "id", kind: AnswerKind = "number", finish: Finish = "stop"
) -> GradedAction:
    reward = None if accuracy is None else Reward(1.0, accuracy, {"partial": accuracy})
    return GradedAction(name, split, kind, None, 0, "", finish, None, reward, "slow" if reward is None else None)


def evaluate(sampler: Uniform, problems: Sequence[Problem], samples: int, seed: int) -> Evaluation:
    return summarize(one for _, pairs in graded(sampler, exact, [problems], samples, seed) for _, one in pairs)


def test_uniform_digits_are_right_one_time_in_ten() -> None:
    problems = [problem(i, split) for split in ("id", "ood") for i in range(400)]
    result = evaluate(Uniform(), problems, samples=4, seed=1)
    assert [s.split for s in result.splits] == ["id", "ood"]
    for summary in result.splits:
        assert (summary.total.problems, summary.samples, summary.total.errors) == (400, 1600, 0)
        assert summary.total.accuracy.low < 0.1 < summary.total.accuracy.high
        assert summary.format == pytest.approx(0.9, abs=0.03)
        # partial: 1 for the digit itself, 1/2 for one off (2 of 10 digits, 1 at the ends 0 and 9): 0.1 + 0.18/2 = 0.19
        assert summary.total.detail["partial"].mean == pytest.approx(0.19, abs=0.03)
        assert summary.length == 2
    assert [row.sample for row in result.scores[:4]] == [0, 1, 2, 3]


def test_the_seed_decides_and_the_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [problem(i) for i in range(40)]
    whole = evaluate(Uniform(), problems, samples=2, seed=1)
    monkeypatch.setattr(sampling, "ACTIONS_AT_ONCE", 7)
    sampler = Uniform()
    assert evaluate(sampler, problems, samples=2, seed=1) == whole
    assert max(sampler.calls) == 3
    assert evaluate(Uniform(), problems, samples=2, seed=2).scores != whole.scores


def test_problems_are_read_once_and_only_a_chunk_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "ACTIONS_AT_ONCE", 4)
    alive: list[weakref.ref[Problem]] = []
    most = 0

    class Lazy(Sequence[Problem]):
        def __len__(self) -> int:
            return 16

        def __getitem__(self, item: int) -> Problem:  # type: ignore[override]
            made = problem(item)
            alive.append(weakref.ref(made))
            return made

    gc.freeze()  # collect what is made here alone: the libraries' objects take a second each time
    for _ in draw(Uniform(), Lazy(), 1, 0):
        gc.collect()
        most = max(most, sum(ref() is not None for ref in alive))
    gc.unfreeze()
    assert len(alive) == 16
    assert most <= 8  # a chunk, and the next one while it is being read


def test_one_sample_of_zero_or_one_has_wilsons_interval() -> None:
    (summary,) = summarize([score(f"p{i}", float(i < 8)) for i in range(10)]).splits
    assert summary.total.accuracy == wilson(8, 10)


def test_samples_of_a_problem_are_averaged_first() -> None:
    # p0: 1/1, p1: (0 + 0 + 1)/3; mean over problems (1 + 1/3)/2 = 2/3, not 2/4 over completions
    rows = [score("p0", 1.0), score("p1", 0.0), score("p1", 0.0), score("p1", 1.0)]
    (summary,) = summarize(rows).splits
    assert summary.total.accuracy.mean == pytest.approx(2 / 3)
    assert summary.total.detail["partial"] == summary.total.accuracy


def test_a_grader_failure_is_shown_and_in_no_mean() -> None:
    graded = grade_action(exact, problem(3), Action("p3", "policy", 0, "?", "stop"))
    assert graded.reward is None
    assert graded.error == "no verdict within 5 s"
    assert graded.as_row()["accuracy"] is None

    rows = [score("p0", 1.0), score("p1", 0.0), score("p2", None), score("p2", None)]
    (summary,) = summarize(rows).splits
    assert summary.total.accuracy == wilson(1, 2)
    assert (summary.total.problems, summary.total.errors, summary.samples) == (2, 2, 4)
    assert summary.reasons == {"slow": 2}
    assert metrics(summarize(rows))["eval/id/errors"] == 2


def test_only_grader_failures_are_data() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        grade_action(exact, problem(3), Action("p3", "policy", 0, "three", "stop"))


def test_nothing_graded_is_not_a_number() -> None:
    (summary,) = summarize([score("p0", None)]).splits
    assert np.isnan([*summary.total.accuracy, summary.format, summary.length]).all()
    assert summary.total.detail == {}
    assert summarize([]).splits == ()


def test_breakdown_by_kind_and_family() -> None:
    rows = [score("a", 1.0, kind="choice"), score("b", 0.0, kind="expression"), score("c", 1.0)]
    rows = [replace(row, family=family) for row, family in zip(rows, ("z", "y", "y"), strict=True)]
    (summary,) = summarize(rows).splits
    assert {k: (p.problems, p.accuracy.mean) for k, p in summary.kinds.items()} == {
        "choice": (1, 1.0),
        "open": (2, 0.5),
    }
    assert {k: (p.problems, p.accuracy.mean) for k, p in summary.families.items()} == {"y": (2, 0.5), "z": (1, 1.0)}
    assert list(summary.families) == ["y", "z"]
    (one_kind,) = summarize([score("a", 1.0)]).splits
    assert (one_kind.kinds, one_kind.families) == ({}, {})


def test_truncated_completions_are_counted() -> None:
    (summary,) = summarize([score("a", 0.0, finish="length"), score("b", 1.0)]).splits
    assert summary.truncated == 0.5


def test_metrics_are_named_by_split() -> None:
    result = metrics(summarize([score("a", 1.0), score("b", 0.5, split="ood")]))
    assert result["eval/id/accuracy"] == 1.0
    assert result["eval/ood/partial"] == 0.5
    assert {key.split("/")[0] for key in result} == {"eval"}


def test_comparison_is_paired_over_shared_problems_of_shared_splits() -> None:
    first = summarize([score("a", 0.0), score("b", 1.0), score("only", 1.0), score("x", 1.0, split="left")])
    second = summarize([score("b", 1.0), score("a", 1.0), score("y", 0.0, split="right")])
    differences = compare(first, second)
    assert list(differences) == ["id"]
    assert list(differences["id"]) == ["accuracy", "partial"]
    assert differences["id"]["accuracy"].mean == pytest.approx(0.5)  # a: 0 -> 1, b: 1 -> 1


def lenient(problem: Problem, text: str) -> Reward:
    """Accepts whatever is off by one; broken on "7"."""
    if text == "7":
        raise GraderError("no sevens")
    return Reward(1.0, float(abs(int(text) - int(problem.answer)) <= 1))


def test_further_graders_are_reported_of_the_same_completions() -> None:
    said = {"p3": "3", "p4": "5", "p7": "7", "p8": "2"}
    rows = [
        grade_action(exact, problem(int(name[1:])), Action(name, "policy", 0, text, "stop"), {"lenient": lenient})
        for name, text in said.items()
    ]
    (summary,) = summarize(rows).splits
    assert summary.total.accuracy == wilson(2, 4)  # 3 and 7
    assert summary.total.detail["lenient"] == wilson(2, 3)  # 3, and 5 for 4; 7 could not be graded, and is in no mean
    assert summary.total.errors == 0
    assert (summary.reasons, summary.ungraded) == ({}, {"lenient: no sevens": 1})
    assert rows[0].as_row()["also"] == {"lenient": 1.0}
    assert (rows[2].as_row()["also"], rows[2].as_row()["ungraded"]) == ({"lenient": None}, {"lenient": "no sevens"})
    # a problem that only one of the two graders has graded counts for that one alone
    broken = grade_action(exact, problem(3), Action("p3", "policy", 0, "?", "stop"))
    assert broken.values == {}
    other = summarize([broken, *rows[1:]])
    differences = compare(other, summarize(rows))["id"]
    assert differences["accuracy"].mean == 0  # over p4, p7, p8
    assert differences["lenient"].mean == 0  # over p4, p8
