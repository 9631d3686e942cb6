"""Several rewards as one: their weighted sum, each logged apart, and what counts as right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ekipl.algorithm.grading import grade_all
from ekipl.algorithm.seams import Asked, Grader
from ekipl.algorithm.types import Reward
from ekipl.errors import GraderError, UsageError
from ekipl.reward.own import Value

WAY_OUT = (
    "return a dict with a part accuracy from 0 to 1, or name a grader that says what is right: "
    "reward=[strict,FILE.py:name] with reward_weights=[0,1] trains on yours alone"
)


class Valued(Protocol):
    """One of several rewards."""

    def values(self, asked: Sequence[Asked]) -> list[Value | GraderError]:
        """What it says of each completion, in order."""
        ...


class Graded:
    """A grader as one of several rewards."""

    def __init__(self, grade: Grader) -> None:
        self._grade = grade

    def values(self, asked: Sequence[Asked]) -> list[Value | GraderError]:
        return [got if isinstance(got, GraderError) else _of(got) for got in grade_all(self._grade, asked)]


def _of(reward: Reward) -> Value:
    return Value(reward.total, reward.accuracy, reward.format, reward.parts, reward.detail)


class Several:
    """The weighted sum of rewards, as a grader.

    The accuracy is that of the first reward that tells one. Where none does, a single number from 0 to 1 is the
    accuracy; anything else is refused. A completion that one of them cannot grade has no reward.
    """

    def __init__(self, key: str, rewards: Mapping[str, Valued], weights: Sequence[float]) -> None:
        """``rewards`` by name in metrics, and for each its weight; ``key`` is the setting, for messages."""
        self._key, self._rewards, self._weights = key, dict(rewards), tuple(weights)

    def __call__(self, problem: object, text: str, /) -> Reward:
        (got,) = self.many([(problem, text)])  # type: ignore[list-item]
        if isinstance(got, GraderError):
            raise got
        return got

    def many(self, asked: Sequence[Asked]) -> list[Reward | GraderError]:
        """The rewards in order. Raises UsageError when they do not say what is right."""
        columns = [reward.values(asked) for reward in self._rewards.values()]
        return [self._sum(row) for row in zip(*columns, strict=True)]

    def _sum(self, row: Sequence[Value | GraderError]) -> Reward | GraderError:
        values: dict[str, Value] = {}
        for name, value in zip(self._rewards, row, strict=True):
            if isinstance(value, GraderError):
                return value
            values[name] = value
        parts: dict[str, float] = {}
        detail: dict[str, float] = {}
        for name, value in values.items():
            parts |= {name: value.total, **{f"{name}.{part}": score for part, score in value.parts.items()}}
            detail |= {score: number for score, number in value.detail.items() if score not in detail}
        total = sum(weight * value.total for weight, value in zip(self._weights, values.values(), strict=True))
        formats = (value.format for value in values.values() if value.format is not None)
        return Reward(next(formats, 0.0), self._accuracy(values), detail, parts, total)

    def _accuracy(self, values: Mapping[str, Value]) -> float:
        told = [value.accuracy for value in values.values() if value.accuracy is not None]
        if told:
            return told[0]
        if len(values) > 1:
            reason = f"{' and '.join(values)} do not say which answers are right"
        else:
            ((name, value),) = values.items()
            if value.alone is None:
                return value.total
            reason = f"{name}: {value.alone}"
        raise UsageError(f"{self._key}: {reason}; {WAY_OUT}")
