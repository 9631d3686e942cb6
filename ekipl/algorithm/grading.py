"""R(o) of many completions at once (Eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence

from ekipl.algorithm.seams import Asked, Grader
from ekipl.algorithm.types import Reward
from ekipl.errors import GraderError


def grade_all(grade: Grader, asked: Sequence[Asked]) -> list[Reward | GraderError]:
    """The reward of each completion in order, or the error that says why none is known.

    A grader with a method ``many``, for which it is better to get all at once, gets them so.
    """
    many = getattr(grade, "many", None)
    if many is not None:
        found: list[Reward | GraderError] = many(asked)
        return found
    return [_one(grade, asks) for asks in asked]


def takes_many(grade: Grader) -> bool:
    """Whether the grader is better given many completions at once."""
    return hasattr(grade, "many")


def _one(grade: Grader, asks: Asked) -> Reward | GraderError:
    try:
        return grade(*asks)
    except GraderError as error:
        return error
