"""Accuracy on a task's splits: completions -> scores -> a summary for each split, with intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from types import MappingProxyType
from typing import Any

from ekipl.algorithm.seams import Grader, Sampler
from ekipl.algorithm.types import Action, AnswerKind, Finish, Problem, Reward
from ekipl.errors import GraderError
from ekipl.report.stats import Estimate, cluster_interval, cluster_means, paired_difference

ACTIONS_AT_ONCE = 512  # asked of a sampler in one call, so that memory does not grow with the number of problems


@dataclass(frozen=True)
class GradedAction:
    """One graded completion.

    Attributes:
        sample: which of the problem's completions.
        family: what the data calls the problem's family, if it does.
        length: tokens, None where they are not known.
        reward: None exactly when the grader failed, and then ``error`` says how.
        also: accuracy by further graders.
        ungraded: further graders that failed, and how.
    """

    problem_id: str
    split: str
    kind: AnswerKind
    family: str | None
    sample: int
    text: str
    finish: Finish
    length: int | None
    reward: Reward | None
    error: str | None = None
    also: Mapping[str, float] = field(default_factory=dict)
    ungraded: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """All that was scored, by name: ``accuracy``, the task's further scores, the accuracies by further graders."""
        own = {} if self.reward is None else {"accuracy": self.reward.accuracy, **self.reward.detail}
        return {**own, **self.also}

    @property
    def right(self) -> bool | None:
        """Whether the answer is wholly right; None where the grader failed."""
        return None if self.reward is None else self.reward.accuracy == 1

    def as_row(self) -> dict[str, Any]:
        """The line of ``scores.jsonl``."""
        reward = self.reward
        return {
            "problem": self.problem_id,
            "split": self.split,
            "kind": self.kind,
            "family": self.family,
            "sample": self.sample,
            "text": self.text,
            "finish": self.finish,
            "length": self.length,
            "format": reward and reward.format,
            "accuracy": reward and reward.accuracy,
            "detail": dict(reward.detail) if reward else {},
            "error": self.error,
            "also": {**self.also, **dict.fromkeys(self.ungraded)},
            "ungraded": dict(self.ungraded),
        }


@dataclass(frozen=True)
class Part:
    """Accuracy over some of a split's problems.

    Attributes:
        problems: with at least one graded completion.
        errors: completions that could not be graded; they are in no mean.
        accuracy: mean over problems of each problem's mean over its completions; 95 % interval over problems.
        detail: the same of the task's further scores, and of the accuracies by further graders.
    """

    problems: int
    errors: int
    accuracy: Estimate
    detail: Mapping[str, Estimate]


@dataclass(frozen=True)
class SplitResult:
    """One split.

    Attributes:
        total: the whole split.
        samples: completions, those with errors too.
        format: share of well-formed completions.
        truncated: share of completions that were cut at the token limit.
        length: mean tokens of a completion; NaN where they are not known.
        kinds: by answer kind, where there are several.
        families: by family, where the data names them.
        reasons: why completions could not be graded, counted.
        ungraded: why further graders could not grade one, counted.
    """

    split: str
    total: Part
    samples: int
    format: float
    truncated: float
    length: float
    kinds: Mapping[str, Part]
    families: Mapping[str, Part]
    reasons: Mapping[str, int]
    ungraded: Mapping[str, int]


@dataclass(frozen=True)
class Evaluation:
    """All scores, in the order of the problems, and a summary for each split, in the order of first appearance."""

    scores: tuple[GradedAction, ...]
    splits: tuple[SplitResult, ...]


def evaluate(
    sampler: Sampler,
    grade: Grader,
    problems: Sequence[Problem],
    samples: int,
    seed: int,
    progress: Callable[[int], None] = lambda problems: None,
    also: Mapping[str, Grader] = MappingProxyType({}),
) -> Evaluation:
    """Sample and grade.

    Args:
        sampler: the policy.
        grade: the reward.
        problems: of one split or several; each is read once, and not kept.
        samples: completions a problem.
        seed: of the sampling.
        progress: called with the number of problems done since the last call.
        also: further graders by name, which are reported as well.
    """
    scores = []
    for problem, actions in draw(sampler, problems, samples, seed):
        scores += [grade_action(grade, problem, action, also) for action in actions]
        progress(1)
    return summarize(scores)


def draw(
    sampler: Sampler, problems: Sequence[Problem], samples: int, seed: int
) -> Iterator[tuple[Problem, list[Action]]]:
    """Each problem with its actions; only a chunk of the problems is in memory at a time."""
    for chunk in chunks(problems, samples):
        yield from zip(chunk, sampler.sample(chunk, samples, seed), strict=True)


def chunks(problems: Sequence[Problem], actions: int) -> Iterator[list[Problem]]:
    """The problems in order, as many at a time as get ``ACTIONS_AT_ONCE`` actions together; each is read once."""
    size = max(1, ACTIONS_AT_ONCE // actions)
    for start in range(0, len(problems), size):
        yield [problems[i] for i in range(start, min(start + size, len(problems)))]


def grade_action(
    grade: Grader, problem: Problem, action: Action, also: Mapping[str, Grader] = MappingProxyType({})
) -> GradedAction:
    """The action's score. A grader's failure is a score with an error in place of a reward."""
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
    )


def _graded(grade: Grader, problem: Problem, action: Action) -> tuple[Reward | None, str | None]:
    try:
        return grade(problem, action.text), None
    except GraderError as failure:
        return None, str(failure) or "the grader failed without a reason"


def _family(problem: Problem) -> str | None:
    family = problem.metadata.get("family")
    return None if family is None else str(family)


def failed(problem: Problem, samples: Iterable[int], reasons: Mapping[str, int]) -> list[GradedAction]:
    """The scores of samples that an external model never gave: errors, in no mean."""
    why, family = ", ".join(sorted(reasons)) or "no answer", _family(problem)
    return [
        GradedAction(problem.id, problem.split, problem.kind, family, sample, "", "stop", None, None, why)
        for sample in samples
    ]


def summarize(scores: Iterable[GradedAction]) -> Evaluation:
    """The evaluation that these scores make; the scores of several processes may simply be put together."""
    rows = tuple(scores)
    splits = _by(rows, lambda score: score.split)
    return Evaluation(rows, tuple(_summary(split, part) for split, part in splits.items()))


def compare(first: Evaluation, second: Evaluation) -> dict[str, dict[str, Estimate]]:
    """second - first, by split and score (``accuracy`` first), paired over the problems that both have."""
    a, b = (_by(evaluation.scores, lambda score: score.split) for evaluation in (first, second))
    return {split: _differences(a[split], b[split]) for split in a if split in b}


def _differences(first: Sequence[GradedAction], second: Sequence[GradedAction]) -> dict[str, Estimate]:
    a, b = ({name: cluster_means(*found) for name, found in _values(scores).items()} for scores in (first, second))
    both = {name: [problem for problem in a[name] if problem in b[name]] for name in a if name in b}
    return {
        name: paired_difference([a[name][problem] for problem in shared], [b[name][problem] for problem in shared])
        for name, shared in both.items()
    }


def metrics(evaluation: Evaluation) -> dict[str, float]:
    """The evaluation as metrics: ``eval/SPLIT/accuracy``, its interval, and the other means."""
    values: dict[str, float] = {}
    for summary in evaluation.splits:
        mean, low, high = summary.total.accuracy
        parts = {
            **{name: estimate.mean for name, estimate in summary.total.detail.items()},
            "accuracy": mean,
            "accuracy_low": low,
            "accuracy_high": high,
            "format": summary.format,
            "truncated": summary.truncated,
            "length": summary.length,
            "errors": float(summary.total.errors),
        }
        values |= {f"eval/{summary.split}/{key}": value for key, value in parts.items()}
    return values


def _summary(split: str, scores: Sequence[GradedAction]) -> SplitResult:
    graded = [(score, score.reward) for score in scores if score.reward is not None]
    kinds = _by(scores, lambda score: "choice" if score.kind == "choice" else "open")
    families = _by([score for score in scores if score.family is not None], lambda score: str(score.family))
    return SplitResult(
        split=split,
        total=_part(scores),
        samples=len(scores),
        format=_mean((score, reward.format) for score, reward in graded),
        truncated=_mean((score, float(score.finish == "length")) for score in scores),
        length=_mean((score, float(score.length)) for score in scores if score.length is not None),
        kinds={kind: _part(kinds[kind]) for kind in sorted(kinds)} if len(kinds) > 1 else {},
        families={family: _part(families[family]) for family in sorted(families)},
        reasons=Counter(score.error for score in scores if score.error is not None),
        ungraded=Counter(f"{name}: {why}" for score in scores for name, why in score.ungraded.items()),
    )


def _part(scores: Sequence[GradedAction]) -> Part:
    found = _values(scores)
    _, problems = found["accuracy"]
    accuracy, *details = (cluster_interval(*of_score) for of_score in found.values())
    errors = len(scores) - len(problems)
    return Part(len(set(problems)), errors, accuracy, dict(zip([*found][1:], details, strict=True)))


def _values(scores: Iterable[GradedAction]) -> dict[str, tuple[list[float], list[str]]]:
    """Each score's values, ``accuracy`` first, with the problem of each; what was not graded has none."""
    found: dict[str, tuple[list[float], list[str]]] = {"accuracy": ([], [])}
    for score in scores:
        for name, value in score.values.items():
            values, problems = found.setdefault(name, ([], []))
            values.append(value)
            problems.append(score.problem_id)
    return found


def _mean(values: Iterable[tuple[GradedAction, float]]) -> float:
    """Mean over problems of each problem's mean, as for the accuracy; NaN of nothing."""
    pairs = list(values)
    means = cluster_means([value for _, value in pairs], [score.problem_id for score, _ in pairs])
    return fmean(means.values()) if means else math.nan


def _by(scores: Iterable[GradedAction], key: Callable[[GradedAction], str]) -> dict[str, list[GradedAction]]:
    groups: dict[str, list[GradedAction]] = {}
    for score in scores:
        groups.setdefault(key(score), []).append(score)
    return groups
