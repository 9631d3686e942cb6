"""From a row of a data set to a problem worded for the policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

from ekipl.actions import Problem, Row
from ekipl.interfaces import Task


def problem_from(task: Task, row: Row, split: str) -> Problem:
    """The row in the words of ``task``."""
    return Problem(
        id=row.id,
        task=task.name,
        split=split,
        images=row.images,
        question=row.question,
        prompt=task.prompt(row),
        answer=row.answer,
        kind=row.kind,
        metadata=row.metadata,
    )


class LazyProblems(Sequence[Problem]):
    """Problems whose rows are made (images opened or drawn) when an item is read, and not kept."""

    def __init__(self, task: Task, split: str, indices: Sequence[int], row: Callable[[int], Row]) -> None:
        """``row(i)`` for i in ``indices`` makes the rows, in that order."""
        self._task, self._split, self._indices, self._row = task, split, indices, row

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, item: int) -> Problem: ...
    @overload
    def __getitem__(self, item: slice) -> LazyProblems: ...
    def __getitem__(self, item: int | slice) -> Problem | LazyProblems:
        if isinstance(item, slice):
            return LazyProblems(self._task, self._split, self._indices[item], self._row)
        return problem_from(self._task, self._row(self._indices[item]), self._split)
