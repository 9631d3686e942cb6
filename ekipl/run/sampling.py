"""Sampling and grading: actions of a policy or of external models, each with its reward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from ekipl.algorithm.seams import ExternalPool, ExternalSamples, Grader, Sampler
from ekipl.algorithm.types import Action, Problem, Reward
from ekipl.errors import GraderError
from ekipl.report.evaluate import Evaluation, GradedAction, summarize
from ekipl.run.reading import settled

ACTIONS_AT_ONCE = 512  # in one call of a sampler, so that memory does not grow with the number of problems

Graders = Mapping[str, Grader]  # by name
NO_GRADERS: Graders = MappingProxyType({})
Progress = Callable[[int], None]


def draw(
    sampler: Sampler, problems: Sequence[Problem], samples: int, seed: int
) -> Iterator[tuple[Problem, list[Action]]]:
    """Each problem with ``samples`` actions; only a chunk of the problems is in memory at a time."""
    for chunk in _chunks(problems, samples):
        yield from zip(chunk, sampler.sample(chunk, samples, seed), strict=True)


def ask(pool: ExternalPool, problems: Sequence[Problem], samples: int) -> Iterator[tuple[Problem, ExternalSamples]]:
    """Each problem with the answers of the external models; only a chunk of the problems is in memory at a time."""
    for chunk in _chunks(problems, samples * len(pool.names)):
        yield from zip(chunk, pool.sample(chunk, samples), strict=True)


def _chunks(problems: Sequence[Problem], actions: int) -> Iterator[list[Problem]]:
    """The problems in order, in chunks with at most ``ACTIONS_AT_ONCE`` actions; each problem is read once.

    Those that cannot be read any more are left out where the setting says so.
    """
    size = max(1, ACTIONS_AT_ONCE // max(1, actions))
    for start in range(0, len(problems), size):
        yield settled(problems, range(start, min(start + size, len(problems))))


def graded(
    sampler: Sampler, grade: Grader, problems: Iterable[Sequence[Problem]], samples: int, seed: int
) -> Iterator[tuple[Problem, list[tuple[Action, GradedAction]]]]:
    """The problems by split, each with ``samples`` actions and their grades; each is read once and not kept."""
    for problem, actions in (one for split in problems for one in draw(sampler, split, samples, seed)):
        yield problem, [(action, grade_action(grade, problem, action)) for action in actions]


def evaluate_pool(
    pool: ExternalPool,
    grade: Grader,
    problems: Iterable[Sequence[Problem]],
    samples: int,
    progress: Progress = lambda problems: None,
    also: Graders = NO_GRADERS,
) -> dict[str, Evaluation]:
    """An evaluation of each external model; closes the pool.

    ``progress`` gets the number of problems done since its last call, ``also`` are further graders. A sample that a
    model never answered is an error and in no mean.
    """
    graded: dict[str, list[GradedAction]] = {name: [] for name in pool.names}
    try:
        for problem, answer in (one for split in problems for one in ask(pool, split, samples)):
            for action in answer.actions:
                graded[action.source].append(grade_action(grade, problem, action, also))
            for name, own in graded.items():
                answered = sum(action.source == name for action in answer.actions)
                own += _unanswered(problem, range(answered, samples), answer.failed)
            progress(1)
    finally:
        pool.close()
    return {name: summarize(own) for name, own in graded.items()}


def grade_action(grade: Grader, problem: Problem, action: Action, also: Graders = NO_GRADERS) -> GradedAction:
    """The action with its reward, or with an error when the grader failed."""
    reward, error = _graded(grade, problem, action)
    others = {name: _graded(other, problem, action) for name, other in also.items()}
    return GradedAction(
        problem_id=problem.id,
        split=problem.split,
        kind=problem.kind,
        family=_family(problem),
        sample=action.index,
        text=action.text,
        finish=action.finish,
        length=None if action.tokens is None else len(action.tokens),
        reward=reward,
        error=error,
        also={name: got.accuracy for name, (got, _) in others.items() if got is not None},
        ungraded={name: why for name, (_, why) in others.items() if why is not None},
        question=problem.question,
        answer=problem.answer,
    )


def _graded(grade: Grader, problem: Problem, action: Action) -> tuple[Reward | None, str | None]:
    try:
        return grade(problem, action.text), None
    except GraderError as failure:
        return None, str(failure) or "the grader failed without a reason"


def _unanswered(problem: Problem, samples: Iterable[int], reasons: Mapping[str, int]) -> list[GradedAction]:
    """The samples of an external model that have no answer, as errors."""
    why, family = ", ".join(sorted(reasons)) or "no answer", _family(problem)
    return [
        GradedAction(problem.id, problem.split, problem.kind, family, sample, "", "stop", None, None, why)
        for sample in samples
    ]


def _family(problem: Problem) -> str | None:
    family = problem.metadata.get("family")
    return None if family is None else str(family)
