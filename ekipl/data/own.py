"""A source of problems of your own (docs/extending.md)."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, overload

from ekipl.algorithm.seams import ProblemSource, Task
from ekipl.algorithm.types import Problem
from ekipl.data.gold import text_fault
from ekipl.data.problems import BadRows, Checked, Fits, Outline, outline_of, settle
from ekipl.errors import BadRow
from ekipl.importing import Named, imported
from ekipl.progress import progress

KINDS = ("synthetic", "reason_rft", "table")


@dataclass(frozen=True, kw_only=True)
class OwnData(Checked):
    """Problems from a class of your own.

    Attributes:
        kind: the import path of a class that implements ``ProblemSource``.
        args: keyword arguments of that class.
    """

    kind: Annotated[str, Named(KINDS)]
    args: Mapping[str, Any] = field(default_factory=dict)

    def problems(self, task: Task, split: str, limit: int | None = None, fits: Fits | None = None) -> Sequence[Problem]:
        """The first ``limit`` problems of a split, of ``train`` from ``train_start``.

        ``fits`` says why the model cannot read a row; such rows are bad too.

        Raises:
            UsageError: rows cannot be read, and ``bad_rows`` is ``refuse``.
        """
        source: ProblemSource = imported("data.kind", self.kind)(**self.args)
        start = self.train_start if split == "train" else 0
        problems = source.problems(task, split, None if limit is None else start + limit)[start:]
        rows = KeptProblems(problems, range(len(problems)), {}, f"data: {self.kind}: {split}", self.bad_rows)
        return rows if self.check == "headers" else self._read(rows, split, fits)

    def _read(self, problems: KeptProblems, split: str, fits: Fits | None) -> Sequence[Problem]:
        """The problems that can be read, with their outlines; each is read once, and not kept."""
        outlines: dict[int, Outline] = {}
        faults: dict[str, list[str]] = {}
        first: dict[str, int] = {}
        with progress(len(problems), f"checking {split}", brief=True) as advance:
            for number in range(len(problems)):
                name = f"row {number + 1}"
                try:
                    problem = problems[number]
                    outline = outline_of(problem)
                except BadRow as bad:
                    faults[name] = [_said(bad.__cause__ or bad)]
                    continue
                finally:
                    advance(1)
                sizes = [image.size for image in problem.images]
                errors = [*_text_errors(problem), *(fits(problem.prompt, sizes) if fits else ())]
                if first.setdefault(outline.id, number) != number:
                    errors.append(f"row {first[outline.id] + 1} has the same id")
                if errors:
                    faults[f"{name} (id {reprlib.repr(outline.id)})"] = errors
                else:
                    outlines[number] = outline
        settle(problems.where, faults, len(problems), self.bad_rows)
        return problems.only(outlines)


def _text_errors(problem: Problem) -> Iterator[str]:
    texts = {"id": problem.id, "prompt": problem.prompt}
    further = {"question": problem.question, "answer": problem.answer}  # either may be empty
    for name, value in {**texts, **{name: text for name, text in further.items() if text}}.items():
        if fault := text_fault(value):
            yield f"{name}: {fault}"


def _said(error: BaseException) -> str:
    """What an exception of the user's code says, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


class KeptProblems(Sequence[Problem]):
    """Some of the problems of a source of one's own."""

    def __init__(
        self,
        problems: Sequence[Problem],
        indices: Sequence[int],
        outlines: Mapping[int, Outline],
        where: str,
        bad_rows: BadRows,
    ) -> None:
        """Item n is ``problems[indices[n]]``; ``outlines`` of those that were read, ``where`` for messages."""
        self._problems, self._indices, self._outlines = problems, indices, outlines
        self.where, self._bad_rows = where, bad_rows

    def only(self, outlines: Mapping[int, Outline]) -> KeptProblems:
        """The problems that have an outline."""
        return KeptProblems(self._problems, list(outlines), outlines, self.where, self._bad_rows)

    def outline(self, item: int) -> Outline | None:
        """The problem without its pixels, where it was read before."""
        return self._outlines.get(self._indices[item])

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, item: int) -> Problem: ...
    @overload
    def __getitem__(self, item: slice) -> KeptProblems: ...
    def __getitem__(self, item: int | slice) -> Problem | KeptProblems:
        if isinstance(item, slice):
            return KeptProblems(self._problems, self._indices[item], self._outlines, self.where, self._bad_rows)
        number = self._indices[item]
        try:
            return self._problems[number]
        except Exception as error:  # code of the user's own may fail in any way
            text = f"{self.where}: row {number + 1}: {_said(error)}; correct the source, or leave out the row"
            raise BadRow(text, skip=self._bad_rows == "skip") from error
