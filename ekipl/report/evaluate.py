"""Accuracy by split: graded actions become means over problems, with 95 % intervals, and paired differences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ekipl.algorithm.types import AnswerKind, Finish, Reward
from ekipl.report.stats import Estimate, cluster_interval, cluster_means, paired_difference


@dataclass(frozen=True)
class GradedAction:
    """One graded completion.

    Attributes:
        family: the problem's family, where the data names one.
        sample: index of the completion among those of its problem, from 0.
        length: tokens; None = not known.
        reward: None when the grader failed or the model gave no answer; ``error`` then has the reason.
        also: accuracy by each further grader.
        ungraded: the reason for each further grader that failed.
        question: the problem's.
        answer: the gold answer.
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
    question: str = ""
    answer: str = ""

    @property
    def values(self) -> dict[str, float]:
        """All scores by name: ``accuracy``, the details of the reward, the accuracies by further graders."""
        own = {} if self.reward is None else {"accuracy": self.reward.accuracy, **self.reward.detail}
        return {**own, **self.also}

    @property
    def right(self) -> bool | None:
        """Whether the accuracy is 1; None without a reward."""
        return None if self.reward is None else self.reward.accuracy == 1

    def as_row(self) -> dict[str, Any]:
        """The line of ``scores.jsonl``."""
        reward = self.reward
        return {
            "problem": self.problem_id,
            "split": self.split,
            "kind": self.kind,
            "family": self.family,
            "question": self.question,
            "answer": self.answer,
            "sample": self.sample,
            "text": self.text,
            "finish": self.finish,
            "length": self.length,
            "format": reward and reward.format,
            "accuracy": reward and reward.accuracy,
            "detail": dict(reward.detail) if reward else {},
            **({"parts": dict(reward.parts), "total": reward.total} if reward and reward.parts else {}),
            "error": self.error,
            "also": {**self.also, **dict.fromkeys(self.ungraded)},
            "ungraded": dict(self.ungraded),
        }


@dataclass(frozen=True)
class Part:
    """Accuracy over some problems of a split.

    Attributes:
        problems: number of problems with at least one graded completion.
        errors: number of completions without a reward; they are in no mean.
        accuracy: mean over problems of the mean over each problem's completions, with a 95 % interval over problems.
        detail: the same for every other score.
    """

    problems: int
    errors: int
    accuracy: Estimate
    detail: Mapping[str, Estimate]


@dataclass(frozen=True)
class SplitResult:
    """One split.

    Attributes:
        total: all problems.
        samples: number of completions, those without a reward included.
        format: share of well-formed completions.
        truncated: share of completions that were cut at the token limit.
        length: mean tokens of a completion; NaN where they are not known.
        kinds: results by answer kind; empty when there is only one.
        families: results by family; empty when the data names none.
        reasons: number of completions without a reward, by reason.
        ungraded: number of failures of further graders, by grader and reason.
        parts: mean of each part of the reward, where it is a sum; each on a scale of its own.
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
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The graded actions in the order of the problems, and a result for each split in the order of appearance."""

    scores: tuple[GradedAction, ...]
    splits: tuple[SplitResult, ...]


def summarize(scores: Iterable[GradedAction]) -> Evaluation:
    """The evaluation of these actions. Those of several ranks can be concatenated."""
    rows = tuple(scores)
    splits = _by(rows, lambda score: score.split)
    return Evaluation(rows, tuple(_summary(split, part) for split, part in splits.items()))


def compare(first: Evaluation, second: Evaluation) -> dict[str, dict[str, Estimate]]:
    """second - first by split and score, ``accuracy`` first, paired over the problems that both have."""
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
    """Metrics of an evaluation: ``eval/SPLIT/accuracy``, its interval, and the other means."""
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
        parts |= {f"part/{name}": value for name, value in summary.parts.items()}
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
        parts={
            name: _mean((score, reward.parts[name]) for score, reward in graded if name in reward.parts)
            for name in dict.fromkeys(name for _, reward in graded for name in reward.parts)
        },
    )


def _part(scores: Sequence[GradedAction]) -> Part:
    found = _values(scores)
    _, problems = found["accuracy"]
    accuracy, *details = (cluster_interval(*of_score) for of_score in found.values())
    errors = len(scores) - len(problems)
    return Part(len(set(problems)), errors, accuracy, dict(zip([*found][1:], details, strict=True)))


def _values(scores: Iterable[GradedAction]) -> dict[str, tuple[list[float], list[str]]]:
    """Values and their problems by score, ``accuracy`` first; an action without a reward has no accuracy."""
    found: dict[str, tuple[list[float], list[str]]] = {"accuracy": ([], [])}
    for score in scores:
        for name, value in score.values.items():
            values, problems = found.setdefault(name, ([], []))
            values.append(value)
            problems.append(score.problem_id)
    return found


def _mean(values: Iterable[tuple[GradedAction, float]]) -> float:
    """Mean over problems of the mean over each problem's completions; NaN without any."""
    pairs = list(values)
    means = cluster_means([value for _, value in pairs], [score.problem_id for score, _ in pairs])
    return fmean(means.values()) if means else math.nan


def _by(scores: Iterable[GradedAction], key: Callable[[GradedAction], str]) -> dict[str, list[GradedAction]]:
    groups: dict[str, list[GradedAction]] = {}
    for score in scores:
        groups.setdefault(key(score), []).append(score)
    return groups
