"""Algorithm 1 with parts that are small enough to follow by hand."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from math import log
from typing import Any

import pytest

from ekipl.algorithm.loop import Hyperparameters, Step, data_order, train
from ekipl.algorithm.metrics import step_metrics
from ekipl.algorithm.objective import Objective
from ekipl.algorithm.schedule import Schedule
from ekipl.algorithm.seams import Engine, ExternalSamples
from ekipl.algorithm.selection import Selection
from ekipl.algorithm.types import POLICY, Action, Group, Problem, Reward
from ekipl.errors import GraderError


def yes(problem: Problem, text: str) -> Reward:
    """Rewards the text "yes"; "no" is well-formed and wrong."""
    return Reward(format=1.0, accuracy=float(text == "yes"))


class Policy:
    """Answers as told and notes when its weights change."""

    def __init__(self, answers: Sequence[str], log: list[str]) -> None:
        self.answers, self.log = answers, log

    def sample(self, problems: Sequence[Problem], n: int, seed: int) -> list[list[Action]]:
        self.log.append(f"sample {seed}")
        texts = list(itertools.islice(itertools.cycle(self.answers), n))
        return [[Action(p.id, POLICY, i, t, "stop", tokens=(i,)) for i, t in enumerate(texts)] for p in problems]

    def encode(self, action: Action) -> Action | str:
        if action.text == "long":
            return "too_long"
        return action if action.tokens else dataclasses.replace(action, tokens=(7, 8))

    def load_weights(self, engine: Engine) -> None:
        self.log.append("load")


class Pool:
    """Each model gives the same text n times."""

    def __init__(self, **texts: str) -> None:
        self.texts, self.names = texts, tuple(texts)

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        def actions(p: Problem) -> tuple[Action, ...]:
            return tuple(Action(p.id, m, i, t, "stop") for m, t in self.texts.items() for i in range(n))

        return [ExternalSamples(actions(p), {"timeout": 1} if self.texts else {}) for p in problems]

    def close(self) -> None: ...


class Recorder:
    """An engine that writes down what it is asked."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def refresh_reference(self) -> None:
        self.log.append("reference")

    def likelihoods(self, groups: Sequence[Group]) -> list[Group]:
        """The first token of an external action is as likely as its place among the actions: 1, 1/2, 1/3 and so on."""
        self.log.append("likelihoods")

        def of(action: Action, place: int) -> Action:
            return action if action.source == POLICY else dataclasses.replace(action, logprobs=(-log(place + 1), 0.0))

        return [
            dataclasses.replace(g, offered=tuple(of(action, place) for place, action in enumerate(g.offered)))
            for g in groups
        ]

    def prepare(self, groups: Sequence[Group]) -> Any:
        self.log.append("prepare")
        return groups

    def update(self, batch: Any) -> dict[str, float]:
        self.log.append("update")
        return {}

    def save(self, directory: str) -> None: ...


PROBLEMS = [Problem(f"p{i}", "yes", "train", (), "?", "?", "yes", "number") for i in range(5)]


def batches(order: Iterable[Sequence[int]]) -> Iterator[list[Problem]]:
    return ([PROBLEMS[row] for row in rows] for rows in order)


def run(plan: Hyperparameters, answers: Sequence[str], pool: Pool, first_step: int = 0) -> tuple[list[Step], list[str]]:
    log: list[str] = []
    steps: list[Step] = []
    order = data_order(len(PROBLEMS), plan, first_step)
    train(batches(order), yes, Policy(answers, log), pool, Recorder(log), plan, steps.append, first_step)
    return steps, log


def test_order_of_calls_is_algorithm_1() -> None:
    _, log = run(Hyperparameters(N=2, G=2, I=2, B=2, mu=2, problems_per_step=1), ["yes", "no"], Pool())
    step = ["prepare", "update", "update", "load"]
    first = ["reference", "sample 0", *step, "sample 1", *step]
    assert log == first + ["reference", "sample 2", *step, "sample 3", *step]


def test_offered_kept_and_advantages_by_hand() -> None:
    plan = Hyperparameters(N=2, G=3, I=1, B=1, mu=1, problems_per_step=1)
    steps, _ = run(plan, ["yes", "no"], Pool(wise="yes", fool="no"))
    (group,) = steps[0].groups
    assert [a.source for a in group.offered] == [POLICY, POLICY, "wise", "wise", "fool", "fool"]
    # rewards 2, 1, 2, 2, 1, 1: the three 2s are kept, they agree, so the group is dead
    assert group.kept == (0, 2, 3)
    assert group.advantages == (0, 0, 0)
    assert group.no_gradient
    assert group.refused == {"timeout": 1}


def test_pool_baseline_revives_the_same_group() -> None:
    plan = Hyperparameters(N=2, G=3, I=1, B=1, mu=1, problems_per_step=1, objective=Objective(baseline="pool"))
    (group,) = run(plan, ["yes", "no"], Pool(wise="yes", fool="no"))[0][0].groups
    # pool mean 1.5, sample deviation sqrt(6 x 0.25 / 5) = 0.547723; 0.5 / 0.547823 = 0.912704
    assert group.advantages == pytest.approx((0.912704,) * 3, abs=1e-6)


def test_without_external_models_it_is_grpo() -> None:
    plan = Hyperparameters(N=4, G=4, I=1, B=2, mu=1, problems_per_step=3)
    steps, _ = run(plan, ["yes", "no", "no", "no"], Pool())
    for group in (g for step in steps for g in step.groups):
        assert group.kept == (0, 1, 2, 3)
        assert {a.source for a in group.actions} == {POLICY}
        # rewards 2, 1, 1, 1: mean 1.25, deviation 0.5; 0.75 / 0.5001 = 1.49970
        assert group.advantages == pytest.approx((1.4997, -0.4999, -0.4999, -0.4999), abs=1e-4)


def test_what_the_policy_cannot_learn_from_is_refused_and_counted() -> None:
    plan = Hyperparameters(N=2, G=4, I=1, B=1, mu=1, problems_per_step=1)
    (group,) = run(plan, ["yes", "long"], Pool(wordy="long"))[0][0].groups
    assert [a.text for a in group.offered] == ["yes"]
    assert group.refused == {"too_long": 3, "timeout": 1}


def test_without_own_actions_it_is_supervised_learning() -> None:
    plan = Hyperparameters(
        N=2, G=2, I=1, B=1, mu=1, problems_per_step=1, policy_samples=0, objective=Objective(baseline="none")
    )
    steps, log = run(plan, ["never"], Pool(teacher="yes"))
    (group,) = steps[0].groups
    assert [a.source for a in group.actions] == ["teacher", "teacher"]
    assert group.advantages == (1.0, 1.0)
    assert not any(line.startswith("sample") for line in log)


def test_what_cannot_be_graded_is_no_candidate_and_counted() -> None:
    def unsure(problem: Problem, text: str) -> Reward:
        if text == "bomb":
            raise GraderError("no answer within 1.8 s")
        return yes(problem, text)

    steps: list[Step] = []
    plan = Hyperparameters(N=2, G=2, I=1, B=2, mu=1, problems_per_step=1)
    order = data_order(len(PROBLEMS), plan)
    train(batches(order), unsure, Policy(["yes", "bomb"], []), Pool(), Recorder([]), plan, steps.append)
    assert [step.groups[0].refused for step in steps] == [{"ungraded": 1}] * 2
    assert [a.text for a in steps[0].groups[0].offered] == ["yes"]


def test_the_engine_gets_groups_alike_in_length_together() -> None:
    class Lengths(Policy):
        def encode(self, action: Action) -> Action | str:
            return dataclasses.replace(action, tokens=(0,) * (1 + int(action.problem_id[1:]) * 3 % 5))

    class Sees(Recorder):
        def prepare(self, groups: Sequence[Group]) -> Any:
            self.log.append([len(group.actions[0].tokens or ()) for group in groups])  # type: ignore[arg-type]

    log: list[str] = []
    plan = Hyperparameters(N=1, G=1, I=1, B=1, mu=1, problems_per_step=5)
    order = data_order(len(PROBLEMS), plan)
    train(batches(order), yes, Lengths(["yes"], []), Pool(), Sees(log), plan, lambda step: None)
    assert log[1] == [1, 2, 3, 4, 5]


def test_external_actions_below_the_baseline_can_be_dropped() -> None:
    plan = Hyperparameters(N=1, G=4, I=1, B=1, mu=1, problems_per_step=1, objective=Objective(below_baseline="drop"))
    (group,) = run(plan, ["no"], Pool(wise="yes", fool="no"))[0][0].groups
    # rewards 1, 2, 1: the fool's action is below the mean and goes; the policy's own stays with its advantage
    assert [a.source for a in group.actions] == [POLICY, "wise"]
    assert group.advantages[0] < 0 < group.advantages[1]


def test_hpt_by_hand() -> None:
    plan = Hyperparameters(
        N=2,
        G=2,
        B=1,
        problems_per_step=1,
        selection=Selection(rule="hpt"),
        objective=Objective(baseline="demonstrations"),
    )
    (group,) = run(plan, ["no"], Pool(wise="yes", fool="no"))[0][0].groups
    assert [a.source for a in group.actions] == ["wise", "wise"]
    assert group.advantages == (1, 1)
    (group,) = run(plan, ["yes", "no"], Pool(wise="yes"))[0][0].groups
    assert [a.source for a in group.actions] == [POLICY, POLICY]
    # rewards 2 and 1: mean 1.5, deviation sqrt(0.5) = 0.707107; 0.5 / 0.707207 = 0.707007
    assert group.advantages == pytest.approx((0.707007, -0.707007), abs=1e-6)


def test_chord_by_hand() -> None:
    objective = Objective(baseline="demonstrations", external_mix=Schedule(start=0.9, end=0.1, steps=2))
    plan = Hyperparameters(N=1, policy_samples=2, G=3, B=3, problems_per_step=1, objective=objective)
    steps, _ = run(plan, ["yes", "no"], Pool(wise="yes"))
    # m = 0.9, 0.5, 0.1; own +-0.707007 x (1 - m) x 3 / 2, external 1 x m x 3
    for step, m in zip(steps, (0.9, 0.5, 0.1), strict=True):
        expected = (1.060511 * (1 - m), -1.060511 * (1 - m), 3 * m)
        assert step.groups[0].advantages == pytest.approx(expected, abs=1e-5)
    again, _ = run(plan, ["yes", "no"], Pool(wise="yes"), first_step=2)
    assert again[0].groups == steps[2].groups


def test_external_actions_out_of_reach_wait() -> None:
    plan = Hyperparameters(N=2, G=8, B=1, problems_per_step=2, selection=Selection(gate=0.24))
    (step,), log = run(plan, ["yes", "no"], Pool(wise="yes", fool="no"))
    # places 2 to 5: probabilities 1/3, 1/4, 1/5, 1/6
    for group in step.groups:
        assert [(a.source, a.index) for a in group.offered] == [(POLICY, 0), (POLICY, 1), ("wise", 0), ("wise", 1)]
        assert group.waiting == 2
    assert step_metrics(step.groups)["group/waiting"] == 4
    assert log == ["reference", "sample 0", "likelihoods", "prepare", "update", "load"]  # asked once for all problems
    ungated, log = run(dataclasses.replace(plan, selection=Selection()), ["yes", "no"], Pool(wise="yes"))
    assert "likelihoods" not in log
    assert "group/waiting" not in step_metrics(ungated[0].groups)


def test_a_group_may_be_empty() -> None:
    plan = Hyperparameters(
        N=2, policy_samples=0, G=2, B=1, problems_per_step=1, selection=Selection(rule="external_right")
    )
    (step,), _ = run(plan, [], Pool(fool="no"))
    assert step.groups[0].actions == ()
    assert step.groups[0].no_gradient
    metrics = step_metrics(step.groups)
    assert (metrics["group/size"], metrics["reward/kept"], metrics["share/kept/fool"]) == (0, 0, 0)


def test_going_on_from_a_step_equals_not_having_stopped() -> None:
    plan = Hyperparameters(N=2, G=2, I=2, B=3, mu=1, problems_per_step=2, selection=Selection())
    whole, log = run(plan, ["yes", "no"], Pool(wise="yes"))
    rest, late_log = run(plan, ["yes", "no"], Pool(wise="yes"), first_step=4)
    assert [s.groups for s in rest] == [s.groups for s in whole[4:]]
    assert [s.number for s in rest] == [5, 6]
    assert late_log == log[-len(late_log) :]


@pytest.mark.parametrize(("size", "per_step"), [(5, 2), (3, 7), (10, 10), (1, 3)])
def test_every_row_is_seen_equally_often(size: int, per_step: int) -> None:
    epochs = 4
    plan = Hyperparameters(N=1, G=1, B=size * epochs, problems_per_step=per_step)  # so that whole epochs are drawn
    batches = list(data_order(size, plan))
    rows = [row for batch in batches for row in batch]
    counts = [rows.count(row) for row in range(size)]
    assert counts == [epochs * per_step] * size
    assert list(data_order(size, plan, first_step=3)) == batches[3:]


def test_the_loop_imports_no_heavy_library() -> None:
    heavy = ("torch", "hydra", "deepspeed", "vllm", "litellm")
    code = f"import sys, ekipl.algorithm.loop; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
