"""Rows in the layout of Reason-RFT: read, checked, and turned into examples whose pixels are read later."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import MARKER, PATH, AnswerKind, Example
from ekipl.data.inspection import Picture, Verdict, inspect
from ekipl.data.pictures import BadPicture, Size, read
from ekipl.data.problems import (
    LONGEST_TEXT,
    BadRows,
    Checked,
    Fits,
    Outline,
    as_text,
    digest_of,
    gold_of,
    settle,
    text_fault,
)
from ekipl.errors import BadRow, UsageError
from ekipl.files import parse_rows

Find = Callable[[str], Path | str]  # a name in a row -> the image file, or why there is none


@dataclass(frozen=True)
class Entry:
    """A checked row; its pixels have not been kept."""

    id: str
    images: tuple[Path, ...]
    question: str
    answer: str
    kind: AnswerKind
    metadata: Mapping[str, Any]
    sizes: tuple[Size, ...] = ()
    digest: str = ""

    def example(self, bad_rows: BadRows) -> Example:
        """The row with its pictures. Raises BadRow when one of them can no longer be read."""
        return self.row(tuple(self._read(path, bad_rows) for path in self.images))

    def outline(self, task: Task) -> Outline:
        """The row without its pictures."""
        return Outline(self.id, task.prompt(self.row(())), self.sizes, self.digest)

    def row(self, images: tuple[Image.Image, ...]) -> Example:
        """The row with these pictures."""
        return Example(self.id, images, self.question, self.answer, self.kind, self.metadata)

    def _read(self, path: Path, bad_rows: BadRows) -> Image.Image:
        try:
            picture = read(path)
        except BadPicture as bad:
            text = f"data: {path} (row id {self.id!r}): {bad}; replace the image or leave out its rows"
            raise BadRow(text, skip=bad_rows == "skip") from bad
        picture.info[PATH] = str(path)
        return picture


def load(path: Path) -> list[tuple[str, Any]]:
    """The rows of a file, JSON or JSON lines, each with its place. Raises UsageError."""
    try:
        return parse_rows(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"data: {path}: {getattr(error, 'strerror', None) or error}") from error


def checked(
    where: str,
    rows: Sequence[tuple[str, Any]],
    task: Task,
    images: int | None,
    find: Find,
    how: Checked,
    cache: Path | None,
    fits: Fits | None,
) -> list[Entry]:
    """The sound rows.

    Args:
        where: the file, for messages.
        rows: each with its place.
        task: words the prompts and knows the kinds of answer.
        images: that every row must have; None = any number from one.
        find: the image file of a name.
        how: as the settings say.
        cache: of verdicts on image files; None = not kept.
        fits: whether the model can read a row; None = not asked.

    Raises:
        UsageError: rows are bad and ``how.bad_rows`` is ``refuse``, or all are.
    """
    drafts = [_draft(place, row, task, images, find) for place, row in rows]
    verdicts = inspect([path for draft in drafts for _, path in draft.images], how.check, cache)
    first: dict[str, str] = {}
    entries: list[Entry] = []
    faults: dict[str, list[str]] = {}
    for draft in drafts:
        errors = [*draft.errors, *_unusable(draft, verdicts)]
        if draft.id is not None and first.setdefault(draft.id, draft.place) != draft.place:
            errors.append(f"{first[draft.id]} has the same id")
        if not errors:
            entry = _seen(draft, verdicts)
            errors += fits(task.prompt(entry.row(())), entry.sizes) if fits else ()
        if errors:
            faults[f"{draft.place} (id {reprlib.repr(draft.id)})"] = errors
        else:
            entries.append(entry)
    settle(where, faults, len(rows), how.bad_rows)
    return entries


@dataclass(frozen=True)
class _Draft:
    """A row whose pictures have not been looked at: an entry, or the errors found so far."""

    place: str
    id: str | None
    images: Sequence[tuple[str, Path]] = ()
    errors: Sequence[str] = ()
    entry: Entry | None = None


def _draft(place: str, row: Any, task: Task, images: int | None, find: Find) -> _Draft:
    if not isinstance(row, dict):
        error = str(row) if isinstance(row, ValueError) else f"{reprlib.repr(row)}: not an object with fields"
        return _Draft(place, None, errors=[error])
    identity, question = as_text(row.get("id")), row.get("problem")
    texts = {"id": identity, "problem": question, "cot": row.get("cot") or "none"}
    errors = [f"{field}: {fault}" for field, value in texts.items() if (fault := text_fault(value))]
    names = _names(row)
    if not names:
        errors.append(f"image: {reprlib.repr(row.get('image'))}: not a file name, nor a list of them")
    elif images is not None and len(names) != images:
        errors.append(f"image: {len(names)} of them; {task.name} needs {images}")
    paths = [(name, find(name)) for name in names]
    errors += [path for _, path in paths if isinstance(path, str)]
    files = [(name, path) for name, path in paths if isinstance(path, Path)]
    question = question[:LONGEST_TEXT] if isinstance(question, str) else ""
    if (markers := question.count(MARKER)) not in (0, len(names)):
        errors.append(
            f"problem: {markers} {MARKER} marker{'s' * (markers > 1)} for {len(names)} "
            f"image{'s' * (len(names) != 1)}; write one for each image, or none"
        )
    try:
        answer, kind = gold_of(row, question, task)
    except ValueError as error:
        errors.append(str(error))
    shown = identity if isinstance(identity, str) else None
    if errors:
        return _Draft(place, shown, files, errors)
    metadata = {"cot": _thinking(row["cot"])} if row.get("cot") else {}
    entry = Entry(identity, tuple(path for _, path in files), question, answer, kind, metadata)
    return _Draft(place, identity, files, entry=entry)


def _unusable(draft: _Draft, verdicts: Mapping[Path, Verdict]) -> Iterator[str]:
    """The pictures that cannot be used."""
    for name, path in draft.images:
        if isinstance(verdict := verdicts[path], str):
            yield f"image: {reprlib.repr(name)}: {verdict}"


def _seen(draft: _Draft, verdicts: Mapping[Path, Verdict]) -> Entry:
    """The entry of a sound row, with the sizes of its pictures and its digest."""
    entry = draft.entry
    assert entry is not None
    pictures = [verdict for path in entry.images if isinstance(verdict := verdicts[path], Picture)]
    names = [name for name, _ in draft.images]
    facts = json.dumps([entry.question, entry.answer, entry.kind, names, entry.metadata])
    files = [picture.digest.encode() for picture in pictures]
    digest = f"{digest_of(facts.encode())}:{digest_of(*files) if all(files) else ''}"
    return replace(entry, sizes=tuple(picture.size for picture in pictures), digest=digest)


def _names(row: Mapping[str, Any]) -> list[str]:
    names = row.get("image")
    names = names if isinstance(names, list) else [names]
    return names if all(isinstance(name, str) and name for name in names) else []


def _thinking(cot: str) -> str:
    """The reasoning without its tags and without an answer after it, which some copies have."""
    return cot.strip().removeprefix("<think>").partition("</think>")[0].strip()
