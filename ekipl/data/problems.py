"""From a row of a data set to a problem worded for the policy; what every reader of rows must agree on."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args, overload

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import AnswerKind, Example, Problem
from ekipl.errors import UsageError
from ekipl.reward import parse

SHOWN = 20  # faults of one input that are listed one by one


def problem_from(task: Task, row: Example, split: str) -> Problem:
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


def answer_kind(answer: str, question: str = "") -> AnswerKind:
    """How a gold answer is compared, where its data does not say: settled once, when the row is read.

    Functions are functions; a letter A-D is a choice, and any letter when the question lists "Choices:"; what has a
    plain value is a number; everything else is an expression.
    """
    if parse.functions(answer):
        return "functions"
    if re.fullmatch("[A-Z]" if "Choices:" in question else "[A-D]", answer):
        return "choice"
    return "number" if parse.fraction(parse.number(answer)) is not None else "expression"


def gold_of(row: Mapping[str, Any], question: str, task: Task) -> tuple[str, AnswerKind]:
    """The gold answer of a raw row, without tags, and its kind: as the row's ``kind`` states, else by ``answer_kind``.

    Raises:
        ValueError: it is no text, or not of a kind that the task has; its text says so.
    """
    text = row.get("solution") if row.get("answer") is None else row["answer"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("answer: missing" if text is None else f"answer: {reprlib.repr(text)}: not a text")
    block = parse.answer_block(text)
    answer = (text if block is None else block).strip()
    stated = row.get("kind")
    if stated is not None and stated not in get_args(AnswerKind):
        raise ValueError(f"kind: {reprlib.repr(stated)}: not one of {', '.join(get_args(AnswerKind))}")
    kind = cast(AnswerKind, stated) if stated else answer_kind(answer, question)
    if kind not in task.kinds:
        raise ValueError(f"answer: {reprlib.repr(answer)}: {kind}; {task.name} needs {' or '.join(task.kinds)}")
    if (kind == "choice" and not parse.choice(answer)) or (kind == "functions" and not parse.functions(answer)):
        raise ValueError(f"answer: {reprlib.repr(answer)}: not of kind {kind}")
    return answer, kind


def gold_as_it_stands(row: Mapping[str, Any], question: str, task: Task) -> tuple[str, AnswerKind]:
    """Like ``gold_of``, but with white space and tags, and of any kind: the published graders compare texts.

    Raises:
        ValueError: it is no text.
    """
    text = row.get("solution") if row.get("answer") is None else row["answer"]
    if not isinstance(text, str):
        return gold_of(row, question, task)
    try:
        return text, gold_of(row, question, task)[1]
    except ValueError:
        return text, task.kinds[0]


def refuse(where: str, faults: Sequence[str]) -> None:
    """Raise one UsageError that lists the faults, a line each; none, no error."""
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise UsageError("\n  ".join([f"{where}: {count}; correct or remove what is listed:", *faults[:SHOWN], *more]))


def check_split(task: Task, split: str) -> None:
    """Raises UsageError unless ``split`` is ``train`` or one of the task's."""
    if split not in ("train", *task.splits):
        raise UsageError(f"split: {split}: {task.name} has train, {', '.join(task.splits)}")


class LazyProblems(Sequence[Problem]):
    """Problems whose rows are made (images opened or drawn) when an item is read, and not kept."""

    def __init__(self, task: Task, split: str, indices: Sequence[int], row: Callable[[int], Example]) -> None:
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
