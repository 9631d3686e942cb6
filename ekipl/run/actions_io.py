"""Actions files of the commands: graded actions are written as they are drawn, and recorded ones are read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ekipl.algorithm.seams import Decoding, Grader, Task
from ekipl.algorithm.types import POLICY, Action, Problem
from ekipl.errors import UsageError
from ekipl.report.evaluate import Evaluation, GradedAction, summarize
from ekipl.report.passk import Outcome
from ekipl.run import build, describe
from ekipl.run.records import Record, Sampling, actions_file, map_actions, write_actions
from ekipl.run.sampling import Graders, Progress, draw, grade_drawn
from ekipl.run.thumbnails import statement_of

if TYPE_CHECKING:
    from ekipl.config import Settings

T = TypeVar("T")


class Drawn(NamedTuple):
    """The actions of one model for one problem."""

    model: str
    sampling: Sampling
    problem: Problem
    actions: Sequence[Action]


def draw_models(
    settings: Settings,
    paths: Sequence[str],
    decoding: Decoding,
    problems: Iterable[Sequence[Problem]],
    samples: int,
    progress: Progress,
) -> Iterator[Drawn]:
    """The actions of one model after another; each model is unloaded before the next one loads.

    ``problems`` are by split. ``progress`` gets the number of problems done since its last call.
    """
    splits = list(problems)
    for path in paths:
        yield from draw_model(settings, path, decoding, splits, samples, progress)


def draw_model(
    settings: Settings,
    path: str,
    decoding: Decoding,
    splits: Sequence[Sequence[Problem]],
    samples: int,
    progress: Progress,
) -> Iterator[Drawn]:
    """The actions of the model at ``path``, which is not loaded for no problem; the end of this frees it."""
    if not any(splits):
        return
    sampler = build.build_sampler(settings, decoding, path)
    sampling = describe.policy_sampling(path, decoding)
    for split in splits:
        for problem, actions in draw(sampler, split, samples, settings.seed):
            yield Drawn(path, sampling, problem, actions)
            progress(1)


def write_graded(path: Path, grade: Grader, drawn: Iterable[Drawn], seed: int) -> dict[str, Evaluation]:
    """Grade the actions, write them with their rewards, and return an evaluation for each model.

    An action that could not be graded is written without a reward.
    """
    graded: dict[str, list[GradedAction]] = {}

    def records() -> Iterator[Record]:
        for one, scores in grade_drawn(grade, drawn, lambda one: (one.problem, one.actions)):
            if scores:
                graded.setdefault(one.model, []).extend(scores)
            yield from rewarded(one, scores, seed, path.parent)

    write_actions(path, records())
    return {model: summarize(own) for model, own in graded.items()}


def rewarded(drawn: Drawn, scores: Sequence[GradedAction], seed: int, directory: Path) -> Iterator[Record]:
    """The records of graded actions, of a run in ``directory``; one that could not be graded has no reward."""
    statement = statement_of(drawn.problem, directory)
    for action, score in zip(drawn.actions, scores, strict=True):
        graded = action if score.reward is None else action.with_reward(score.reward)
        yield Record(drawn.problem.task, drawn.problem.split, graded, drawn.sampling, seed, statement=statement)


def regrade(
    paths: Sequence[str], task: Task, problems: Mapping[str, Sequence[Problem]], grade: Grader, also: Graders
) -> dict[str, Evaluation]:
    """Grade recorded actions anew: an evaluation for each model, empty without paths.

    Actions of other problems than these are left out. Raises UsageError as ``_replay``, or when none is left.
    """
    actions: dict[tuple[str, str], list[tuple[str, Action]]] = {}  # (split, problem) -> model, action
    for model, split, action in _replay(paths, task, lambda m, r: (m, r.split, r.action)):
        actions.setdefault((split, action.problem_id), []).append((model, action))
    graded: dict[str, list[GradedAction]] = {}
    found = (
        (problem, actions.get((split, problem.id), ()))
        for split, of_split in problems.items()
        for problem in (of_split if actions else ())
    )
    for (_, recorded), scores in grade_drawn(grade, found, lambda one: (one[0], [a for _, a in one[1]]), also):
        for (model, _), score in zip(recorded, scores, strict=True):
            graded.setdefault(model, []).append(score)
    if paths and not graded:
        there = ", ".join(sorted({split for split, _ in actions})) or "none"
        raise UsageError(
            f"records: {', '.join(paths)}: no action of a problem of {', '.join(problems)}; "
            f"the splits there are {there}: set splits, or the data they come from"
        )
    return {model: summarize(own) for model, own in graded.items()}


def recorded_outcomes(
    paths: Sequence[str], task: Task, splits: Sequence[str] | None, limit: int | None
) -> list[Outcome]:
    """Whether recorded actions are right, by the rewards in their files.

    ``limit`` counts problems of each split, in the order of the files; None = all, also of ``splits``. Raises
    UsageError as ``_replay``.
    """

    def outcome(model: str, record: Record) -> Outcome:
        reward = record.action.reward
        return Outcome(model, record.split, record.action.problem_id, None if reward is None else reward.accuracy == 1)

    found = _replay(paths, task, outcome)
    problems: dict[str, dict[str, None]] = {}  # split -> its problems, in order
    for one in found:
        problems.setdefault(one.split, {})[one.problem] = None
    wanted = {
        (split, problem)
        for split in (problems if splits is None else splits)
        for problem in list(problems.get(split, ()))[:limit]
    }
    return [one for one in found if (one.split, one.problem) in wanted]


def _replay(paths: Sequence[str], task: Task, make: Callable[[str, Record], T]) -> list[T]:
    """``make(model, record)`` of all recorded actions; the model is the policy's path or the external model's name.

    Raises:
        UsageError: unreadable files, actions of another task, or an action that occurs twice and would count twice.
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
    """Raises UsageError for a model that is both recorded and sampled."""
    if both := sorted(set(recorded) & set(sampled)):
        raise UsageError(f"models: {', '.join(both)}: records hold actions of it already; leave it out of one of them")
