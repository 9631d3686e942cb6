"""Accuracy on a task's splits: completions -> scores -> a summary for each split, with intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ekipl.actions import Action, AnswerKind, Finish, Problem, Reward
from ekipl.errors import GraderError
from ekipl.interfaces import Sampler, Task
from ekipl.stats import Estimate, cluster_interval, cluster_means, paired_difference

ACTIONS_AT_ONCE = 512  # asked of a sampler in one call, so that memory does not grow with the number of problems


@dataclass(frozen=True)
class Score:
    """One graded completion.

    Attributes:
        sample: which of the problem's completions.
        family: what the data calls the problem's family, if it does.
        length: tokens, None where they are not known.
        reward: None exactly when the grader failed, and then ``error`` says how.
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
        }


@dataclass(frozen=True)
class Part:
    """Accuracy over some of a split's problems.

    Attributes:
        problems: with at least one graded completion.
        errors: completions that could not be graded; they are in no mean.
        accuracy: mean over problems of each problem's mean over its completions; 95 % interval over problems.
    """

    problems: int
    errors: int
    accuracy: Estimate


@dataclass(frozen=True)
class Summary:
    """One split.

    Attributes:
        total: the whole split.
        samples: completions, those with errors too.
        format: share of well-formed completions.
        truncated: share of completions that were cut at the token limit.
        length: mean tokens of a completion; NaN where they are not known.
        detail: means of the task's further scores.
        kinds: by answer kind, where there are several.
        families: by family, where the data names them.
        reasons: why completions could not be graded, counted.
    """

    split: str
    total: Part
    samples: int
    format: float
    truncated: float
    length: float
    detail: Mapping[str, float]
    kinds: Mapping[str, Part]
    families: Mapping[str, Part]
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class Evaluation:
    """All scores, in the order of the problems, and a summary for each split, in the order of first appearance."""

    scores: tuple[Score, ...]
    splits: tuple[Summary, ...]


def evaluate(
    sampler: Sampler,
    task: Task,
    problems: Sequence[Problem],
    samples: int,
    seed: int,
    progress: Callable[[int], None] = lambda problems: None,
) -> Evaluation:
    """Sample and grade.

    Args:
        sampler: the policy.
        task: grades.
        problems: of one split or several; each is read once, and not kept.
        samples: completions a problem.
        seed: of the sampling.
        progress: called with the number of problems done since the last call.
    """
    scores = []
    for problem, actions in draw(sampler, problems, samples, seed):
        scores += [grade(task, problem, action) for action in actions]
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


def grade(task: Task, problem: Problem, action: Action) -> Score:
    """The action's score. A grader's failure is a score with an error in place of a reward."""
    reward, error = None, None
    try:
        reward = task.score(problem, action.text)
    except GraderError as failure:
        error = str(failure) or "the grader failed without a reason"
    family = problem.metadata.get("family")
    return Score(
        problem_id=problem.id,
        split=problem.split,
        kind=problem.kind,
        family=None if family is None else str(family),
        sample=action.index,
        text=action.text,
        finish=action.finish,
        length=None if action.tokens is None else len(action.tokens),
        reward=reward,
        error=error,
    )


def failed(problem: Problem, samples: Iterable[int], reasons: Mapping[str, int]) -> list[Score]:
    """The scores of samples that an external model never gave: errors, in no mean."""
    why = ", ".join(sorted(reasons)) or "no answer"
    family = problem.metadata.get("family")
    named = None if family is None else str(family)
    return [
        Score(problem.id, problem.split, problem.kind, named, sample, "", "stop", None, None, why) for sample in samples
    ]


def summarize(scores: Iterable[Score]) -> Evaluation:
    """The evaluation that these scores make; the scores of several processes may simply be put together."""
    rows = tuple(scores)
    splits = _by(rows, lambda score: score.split)
    return Evaluation(rows, tuple(_summary(split, part) for split, part in splits.items()))


def compare(first: Evaluation, second: Evaluation) -> dict[str, Estimate]:
    """second - first in accuracy, by split, paired over the problems that both have."""
    a, b = (_by(evaluation.scores, lambda score: score.split) for evaluation in (first, second))
    return {split: _difference(a[split], b[split]) for split in a if split in b}


def _difference(first: Sequence[Score], second: Sequence[Score]) -> Estimate:
    a, b = (cluster_means(*_accuracies(scores)) for scores in (first, second))
    both = [problem for problem in a if problem in b]
    return paired_difference([a[problem] for problem in both], [b[problem] for problem in both])


def metrics(evaluation: Evaluation) -> dict[str, float]:
    """The evaluation as metrics: ``eval/SPLIT/accuracy``, its interval, and the other means."""
    values: dict[str, float] = {}
    for summary in evaluation.splits:
        mean, low, high = summary.total.accuracy
        parts = {
            **summary.detail,
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


def _summary(split: str, scores: Sequence[Score]) -> Summary:
    graded = [(score, score.reward) for score in scores if score.reward is not None]
    details = dict.fromkeys(key for _, reward in graded for key in reward.detail)
    kinds = _by(scores, lambda score: "choice" if score.kind == "choice" else "open")
    families = _by([score for score in scores if score.family is not None], lambda score: str(score.family))
    return Summary(
        split=split,
        total=_part(scores),
        samples=len(scores),
        format=_mean((score, reward.format) for score, reward in graded),
        truncated=_mean((score, float(score.finish == "length")) for score in scores),
        length=_mean((score, float(score.length)) for score in scores if score.length is not None),
        detail={
            key: _mean((score, reward.detail[key]) for score, reward in graded if key in reward.detail)
            for key in details
        },
        kinds={kind: _part(kinds[kind]) for kind in sorted(kinds)} if len(kinds) > 1 else {},
        families={family: _part(families[family]) for family in sorted(families)},
        reasons=Counter(score.error for score in scores if score.error is not None),
    )


def _part(scores: Sequence[Score]) -> Part:
    values, problems = _accuracies(scores)
    return Part(len(set(problems)), len(scores) - len(values), cluster_interval(values, problems))


def _accuracies(scores: Iterable[Score]) -> tuple[list[float], list[str]]:
    """Accuracies of the graded completions, and the problem of each."""
    graded = [(score.reward.accuracy, score.problem_id) for score in scores if score.reward is not None]
    return [accuracy for accuracy, _ in graded], [problem for _, problem in graded]


def _mean(values: Iterable[tuple[Score, float]]) -> float:
    """Mean over problems of each problem's mean, as for the accuracy; NaN of nothing."""
    pairs = list(values)
    means = cluster_means([value for _, value in pairs], [score.problem_id for score, _ in pairs])
    return fmean(means.values()) if means else math.nan


def _by(scores: Iterable[Score], key: Callable[[Score], str]) -> dict[str, list[Score]]:
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(key(score), []).append(score)
    return groups
