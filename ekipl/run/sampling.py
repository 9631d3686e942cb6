"""Sampling and grading: actions of a policy or of external models, each with its reward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import TypeVar

from ekipl.algorithm.grading import grade_all, takes_many
from ekipl.algorithm.seams import ExternalPool, ExternalSamples, Grader, Sampler
from ekipl.algorithm.types import Action, Problem, Reward
from ekipl.errors import GraderError
from ekipl.report.evaluate import Evaluation, GradedAction, summarize
from ekipl.run.reading import settled

ACTIONS_AT_ONCE = 512  # in one call of a sampler, so that memory does not grow with the number of problems
GRADED_AT_ONCE = 64  # by a grader that takes many

Graders = Mapping[str, Grader]  # by name
NO_GRADERS: Graders = MappingProxyType({})
Progress = Callable[[int], None]
Pair = tuple[Problem, Action]
Drawing = tuple[Problem, Sequence[Action]]
T = TypeVar("T")


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
    drawn = (one for split in problems for one in draw(sampler, split, samples, seed))
    for (problem, actions), scores in grade_drawn(grade, drawn, lambda one: one):
        yield problem, list(zip(actions, scores, strict=True))


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
        asked = (one for split in problems for one in ask(pool, split, samples))
        for (problem, answer), of_problem in grade_drawn(grade, asked, lambda one: (one[0], one[1].actions), also):
            for action, score in zip(answer.actions, of_problem, strict=True):
                graded[action.source].append(score)
            for name, own in graded.items():
                answered = sum(action.source == name for action in answer.actions)
                own += _unanswered(problem, range(answered, samples), answer.failed)
            progress(1)
    finally:
        pool.close()
    return {name: summarize(own) for name, own in graded.items()}


def grade_drawn(
    grade: Grader, drawn: Iterable[T], actions_of: Callable[[T], Drawing], also: Graders = NO_GRADERS
) -> Iterator[tuple[T, list[GradedAction]]]:
    """Each of ``drawn`` with its graded actions, as they come.

    For a grader that takes many at once, as many wait for each other as make ``GRADED_AT_ONCE`` actions.
    """
    least = GRADED_AT_ONCE if any(map(takes_many, (grade, *also.values()))) else 1
    waiting: list[T] = []
    pairs: list[Pair] = []
    for one in drawn:
        problem, actions = actions_of(one)
        waiting.append(one)
        pairs += [(problem, action) for action in actions]
        if len(pairs) >= least:
            yield from _apart(waiting, actions_of, grade_actions(grade, pairs, also))
            waiting, pairs = [], []
    yield from _apart(waiting, actions_of, grade_actions(grade, pairs, also))


def _apart(
    waiting: Iterable[T], actions_of: Callable[[T], Drawing], graded: Iterable[GradedAction]
) -> Iterator[tuple[T, list[GradedAction]]]:
    coming = iter(graded)
    for one in waiting:
        yield one, list(islice(coming, len(actions_of(one)[1])))


def grade_action(grade: Grader, problem: Problem, action: Action, also: Graders = NO_GRADERS) -> GradedAction:
    """The action with its reward, or with an error when the grader failed."""
    return grade_actions(grade, [(problem, action)], also)[0]


def grade_actions(grade: Grader, pairs: Sequence[Pair], also: Graders = NO_GRADERS) -> list[GradedAction]:
    """The actions with their rewards, or with an error where the grader failed; all are graded together."""
    asked = [(problem, action.text) for problem, action in pairs]
    rewards = grade_all(grade, asked)
    others = {name: grade_all(other, asked) for name, other in also.items()}
    return [
        _graded(*pair, rewards[place], {name: found[place] for name, found in others.items()})
        for place, pair in enumerate(pairs)
    ]


def _graded(
    problem: Problem, action: Action, got: Reward | GraderError, others: Mapping[str, Reward | GraderError]
) -> GradedAction:
    return GradedAction(
        problem_id=problem.id,
        split=problem.split,
        kind=problem.kind,
        family=_family(problem),
        sample=action.index,
        text=action.text,
        finish=action.finish,
        length=None if action.tokens is None else len(action.tokens),
        reward=got if isinstance(got, Reward) else None,
        error=_reason(got) if isinstance(got, GraderError) else None,
        also={name: other.accuracy for name, other in others.items() if isinstance(other, Reward)},
        ungraded={name: _reason(other) for name, other in others.items() if isinstance(other, GraderError)},
        question=problem.question,
        answer=problem.answer,
    )


def _reason(failure: GraderError) -> str:
    return str(failure) or "the grader failed without a reason"


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
