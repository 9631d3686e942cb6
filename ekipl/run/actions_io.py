"""What the commands share: actions are graded and written as they are drawn; recorded ones are read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from ekipl.algorithm.seams import Grader, Task
from ekipl.algorithm.types import POLICY, Action, Problem
from ekipl.errors import UsageError
from ekipl.report.evaluate import Evaluation, GradedAction, grade_action, summarize
from ekipl.run.records import Record, Sampling, actions_file, map_actions, write_actions

T = TypeVar("T")


class Drawn(NamedTuple):
    """The actions of one model for one problem."""

    model: str
    sampling: Sampling
    problem: Problem
    actions: Sequence[Action]


def write_scored(path: Path, grade: Grader, drawn: Iterable[Drawn], seed: int) -> dict[str, Evaluation]:
    """Write the actions with their rewards; returns how good they are, by model.

    An action that could not be graded is written without a reward.
    """
    scores: dict[str, list[GradedAction]] = {}

    def records() -> Iterator[Record]:
        for model, sampling, problem, actions in drawn:
            for action in actions:
                score = grade_action(grade, problem, action)
                scores.setdefault(model, []).append(score)
                rewarded = action if score.reward is None else action.with_reward(score.reward)
                yield Record(problem.task, problem.split, rewarded, sampling, seed)

    write_actions(path, records())
    return {model: summarize(own) for model, own in scores.items()}


def replay(paths: Sequence[str], task: Task, make: Callable[[str, Record], T]) -> list[T]:
    """``make(model, record)`` of all recorded actions.

    Args:
        paths: actions files, or run folders that hold one.
        task: whose actions they must be.
        make: the model is the policy's path, or the external model's name.

    Raises:
        UsageError: unreadable files, actions of another task, or an action that is there twice: it would count twice.
    """
    seen: Counter[tuple[str, str, str, int, int]] = Counter()

    def checked(record: Record) -> T:
        action = record.action
        if record.task != task.name:
            raise UsageError(f"records: actions of the task {record.task}, not {task.name}; set task={record.task}")
        model = str(record.sampling.get("model", POLICY)) if action.source == POLICY else action.source
        seen[model, record.split, action.problem_id, record.seed, action.index] += 1
        return make(model, record)

    made = [one for path in paths for one in map_actions(actions_file(path), checked)]
    if twice := [key for key, times in seen.items() if times > 1]:
        model, split, problem, _, index = twice[0]
        raise UsageError(
            f"records: {', '.join(paths)}: {len(twice)} samples are there more than once "
            f"(sample {index} of {model} for {problem} of {split}); leave the copies out"
        )
    return made


def refuse_mixed(recorded: Iterable[str], sampled: Iterable[str]) -> None:
    """A model is either recorded or sampled. Raises UsageError for one that is both."""
    if both := sorted(set(recorded) & set(sampled)):
        raise UsageError(f"models: {', '.join(both)}: records hold actions of it already; leave it out of one of them")
