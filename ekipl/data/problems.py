"""From a row of a data set to a problem: gold answers, prompts, and one error for all bad rows."""

from __future__ import annotations

import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args, overload

from ekipl.algorithm.ranges import Count, Whole
from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import AnswerKind, Example, Problem
from ekipl.errors import UsageError
from ekipl.reward import comparison, letters, parse, values

SHOWN = 20  # errors of one input that are listed


def problem_from(task: Task, example: Example, split: str) -> Problem:
    """The example with the prompt of ``task``."""
    return Problem(
        id=example.id,
        task=task.name,
        split=split,
        images=example.images,
        question=example.question,
        prompt=task.prompt(example),
        answer=example.answer,
        kind=example.kind,
        metadata=example.metadata,
    )


def answer_kind(answer: str, question: str = "") -> AnswerKind:
    """The kind of a gold answer that has no stated kind, derived once, when the row is read.

    ``functions`` if it holds functions; ``choice`` if it is a letter A to D or, where the question lists its options,
    chooses letters in any way that ``strict`` reads; ``number`` if it has an exact rational value; else ``expression``.
    """
    if parse.functions(answer):
        return "functions"
    if letters.read(answer) if letters.lists_options(question) else re.fullmatch("[A-D]", answer):
        return "choice"
    return "number" if values.exact(answer) else "expression"


def gold_of(row: Mapping[str, Any], question: str, task: Task) -> tuple[str, AnswerKind]:
    """The gold answer of a raw row without tags, and its kind: the row's ``kind``, else ``answer_kind``.

    Raises:
        ValueError: the answer is missing, no text, or not of a kind that the task has.
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
    if (kind == "choice" and not letters.read(answer)) or (kind == "functions" and not parse.functions(answer)):
        raise ValueError(f"answer: {reprlib.repr(answer)}: not of kind {kind}")
    return answer, kind


def gold_as_it_stands(row: Mapping[str, Any], question: str, task: Task) -> tuple[str, AnswerKind]:
    """Like ``gold_of``, but with white space and tags, and of any kind: the published graders compare texts.

    Raises:
        ValueError: the answer is missing or no text.
    """
    text = row.get("solution") if row.get("answer") is None else row["answer"]
    if not isinstance(text, str):
        return gold_of(row, question, task)
    try:
        return text, gold_of(row, question, task)[1]
    except ValueError:
        return text, task.kinds[0]


def refuse(where: str, errors: Sequence[str]) -> None:
    """Raises one UsageError that lists the errors, one per line; returns when there are none."""
    if errors:
        count = "1 fault" if len(errors) == 1 else f"{len(errors)} faults"
        more = [f"... and {len(errors) - SHOWN} more"] if len(errors) > SHOWN else []
        raise UsageError("\n  ".join([f"{where}: {count}; correct or remove what is listed:", *errors[:SHOWN], *more]))


def say_unreadable(where: str, golds: Iterable[tuple[str, AnswerKind]]) -> None:
    """Print the gold answers that ``strict`` pays in their own spelling only, as rows to correct or leave out."""
    strange = sorted(
        {gold for gold, kind in golds if kind in ("number", "expression") and comparison.only_as_spelled(gold)}
    )
    if strange and os.environ.get("RANK", "0") == "0":  # once, not once a process
        more = f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
        print(
            f"{where}: warning: reward=strict reads no value in these gold answers ({len(strange)}), so that only the "
            f"same spelling is right: {', '.join(map(reprlib.repr, strange[:SHOWN]))}{more}",
            file=sys.stderr,
        )


def check_split(task: Task, split: str) -> None:
    """Raises UsageError unless ``split`` is ``train`` or one of the task's."""
    if split not in ("train", *task.splits):
        raise UsageError(f"splits: {split}: {task.name} has train, {', '.join(task.splits)}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which problems of a source are used.

    Attributes:
        train_start: first problem of ``train``; 1600 leaves out the rows of Reason-RFT's supervised stage.
        train_limit: problems of ``train``, from ``train_start``; null: all.
        test_limit: problems of each evaluation split; null: all. Evaluation during training has ``evaluation.limit``.
    """

    train_start: Whole = 0
    train_limit: Count | None = None
    test_limit: Count | None = None


class LazyProblems(Sequence[Problem]):
    """Problems that are made (images opened or drawn) each time an item is read."""

    def __init__(self, task: Task, split: str, indices: Sequence[int], example: Callable[[int], Example]) -> None:
        """Item n is made from ``example(indices[n])``."""
        self._task, self._split, self._indices, self._example = task, split, indices, example

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, item: int) -> Problem: ...
    @overload
    def __getitem__(self, item: slice) -> LazyProblems: ...
    def __getitem__(self, item: int | slice) -> Problem | LazyProblems:
        if isinstance(item, slice):
            return LazyProblems(self._task, self._split, self._indices[item], self._example)
        return problem_from(self._task, self._example(self._indices[item]), self._split)
