"""From a row of a data set to a problem, and one error for all bad rows."""

from __future__ import annotations

import hashlib
import os
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, overload

from ekipl.algorithm.ranges import Count, Whole
from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import AnswerKind, Example, Problem
from ekipl.data.inspection import Check
from ekipl.data.pictures import Size, rgb
from ekipl.errors import UsageError
from ekipl.reward import comparison

BadRows = Literal["refuse", "skip"]
Changed = Literal["refuse", "keep_order"]

SHOWN = 20  # errors of one input that are listed


class Outline(NamedTuple):
    """What is kept of a problem, so that a resumed run can tell whether it has changed.

    Attributes:
        id: the problem's.
        digest: of the row's content, and after a colon of its image files where they were read; "" = not known.
    """

    id: str
    digest: str = ""


class Answered(Protocol):
    """What has a gold answer: a row, a problem."""

    @property
    def answer(self) -> str: ...
    @property
    def kind(self) -> AnswerKind: ...


Fits = Callable[[str, Sequence[Size]], Iterable[str]]  # of a prompt and its images: why a model cannot read them


def problem_from(task: Task, example: Example, split: str) -> Problem:
    """The example with the prompt of ``task``, its images in 8-bit RGB."""
    return Problem(
        id=example.id,
        task=task.name,
        split=split,
        images=tuple(map(rgb, example.images)),
        question=example.question,
        prompt=task.prompt(example),
        answer=example.answer,
        kind=example.kind,
        metadata=example.metadata,
    )


def outline_of(problem: Problem) -> Outline:
    """The outline of a problem that has been read, with a digest of its texts and pixels."""
    notes = sorted((key, value) for key, value in problem.metadata.items() if isinstance(value, str))
    facts = [problem.prompt, problem.answer, problem.kind, notes]
    pixels = digest_of(*(image.tobytes() for image in problem.images))
    return Outline(problem.id, f"{digest_of(repr(facts).encode(errors='replace'))}:{pixels}")


def digest_of(*parts: bytes) -> str:
    """A short digest of these bytes."""
    whole = hashlib.blake2b(digest_size=8)
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()


def refuse(where: str, errors: Sequence[str], or_else: str = "") -> None:
    """Raises one UsageError that lists the errors, one per line; returns when there are none."""
    if errors:
        count = "1 fault" if len(errors) == 1 else f"{len(errors)} faults"
        head = f"{where}: {count}; correct or remove what is listed{or_else}:"
        raise UsageError("\n  ".join([head, *first_of(errors)]))


def settle(where: str, faults: Mapping[str, Sequence[str]], rows: int, bad_rows: BadRows) -> None:
    """Refuses the faulty rows, or says that they are skipped.

    Args:
        where: the file or class that the rows come from.
        faults: of each faulty row, by the words that name it.
        rows: how many there are, the faulty ones included.
        bad_rows: as the setting says.

    Raises:
        UsageError: ``bad_rows`` is ``refuse`` and there are faults, or no row is left.
    """
    lines = [f"{name}: {fault}" for name, reasons in faults.items() for fault in reasons]
    if bad_rows == "refuse" or len(faults) == rows:
        refuse(where, lines, "" if len(faults) == rows else ", or set data.bad_rows=skip to go on without these rows")
    elif lines:
        say(f"{where}: warning: {len(faults)} of {rows} rows are skipped (data.bad_rows=skip):", lines)


def say(head: str, lines: Sequence[str]) -> None:
    """Print a warning with the first of these lines, once and not once a process."""
    if os.environ.get("RANK", "0") == "0":
        print("\n  ".join([head, *first_of(lines)]), file=sys.stderr)


def first_of(lines: Sequence[str]) -> list[str]:
    """The first lines, and how many more there are."""
    return [*lines[:SHOWN], *([f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])]


class Unreadable:
    """Gold answers that ``strict`` pays in their own spelling only, to be told as rows to correct or leave out."""

    def __init__(self) -> None:
        self._found: set[str] = set()

    def note(self, gold: Answered | None) -> None:
        """Look at one more gold answer."""
        if gold and gold.kind in ("number", "expression") and comparison.only_as_spelled(gold.answer):
            self._found.add(gold.answer)

    def say(self, where: str) -> None:
        """Print them, if there are any."""
        if strange := sorted(self._found):
            more = f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
            say(
                f"{where}: warning: reward=strict reads no value in these gold answers ({len(strange)}), so that only "
                f"the same spelling is right: {', '.join(map(reprlib.repr, strange[:SHOWN]))}{more}",
                (),
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


@dataclass(frozen=True, kw_only=True)
class Checked(Limits):
    """How rows that come from files or from code of one's own are checked.

    Attributes:
        check: what is done with every row before the first step: ``pixels`` reads and decodes all of it; ``headers``
            is for the hurried and reads only the headers of image files, and nothing of a source of one's own.
        bad_rows: ``refuse`` lists them and ends; ``skip`` goes on without them, and says which. A row that fails only
            when it is read during training is treated in the same way, after a checkpoint is saved.
        changed: the rows of a resumed run are not those that it began with: ``refuse``, or ``keep_order``, which goes
            on in the old order less what is gone, with the rows as they are now; new rows are left out.
    """

    check: Check = "pixels"
    bad_rows: BadRows = "refuse"
    changed: Changed = "refuse"


class LazyProblems(Sequence[Problem]):
    """Problems that are made (images opened or drawn) each time an item is read."""

    def __init__(
        self,
        task: Task,
        split: str,
        indices: Sequence[int],
        example: Callable[[int], Example],
        outlines: Callable[[int], Outline] | None = None,
    ) -> None:
        """Item n is made from ``example(indices[n])``; ``outlines(indices[n])`` is known without its pixels."""
        self._task, self._split, self._indices, self._example = task, split, indices, example
        self._outlines = outlines

    def outline(self, item: int) -> Outline | None:
        """What is known of a problem without its pixels; None where nothing is."""
        return None if self._outlines is None else self._outlines(self._indices[item])

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, item: int) -> Problem: ...
    @overload
    def __getitem__(self, item: slice) -> LazyProblems: ...
    def __getitem__(self, item: int | slice) -> Problem | LazyProblems:
        if isinstance(item, slice):
            return LazyProblems(self._task, self._split, self._indices[item], self._example, self._outlines)
        return problem_from(self._task, self._example(self._indices[item]), self._split)
