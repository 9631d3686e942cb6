"""Rows of files: each is checked once, and made again into an example when it is read, so that none need be kept."""

from __future__ import annotations

import json
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import MARKER, PATH, AnswerKind, Example
from ekipl.data.gold import LONGEST_TEXT, as_text, gold, text_fault
from ekipl.data.inspection import Look, Picture, Verdict, inspecting
from ekipl.data.pictures import BadPicture, Size, decode
from ekipl.data.problems import BadRows, Checked, Fits, Outline, Unreadable, digest_of, settle
from ekipl.data.sources import Held, Source, content_of
from ekipl.errors import BadRow
from ekipl.progress import progress

AT_ONCE = 1024  # rows that are checked together
HELD_AT_ONCE = 2**26  # bytes of pictures that stand in those rows
BAR_FROM = 256  # rows; for fewer a progress bar would only flicker


@dataclass(frozen=True)
class Fields:
    """What a row says, as it stands in its file.

    Attributes:
        images: name and source of each picture; a text in place of the source says why there is none.
        answer: a text, a whole number, or a tuple of accepted ones.
        metadata: what else the problem's metadata are to hold.
        fault: why the pictures cannot be found at all.
    """

    id: Any
    images: Sequence[tuple[str, Source | str]]
    question: Any
    answer: Any
    kind: Any = None
    cot: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fault: str | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of a file, before they are checked.

    Attributes:
        where: the file, for messages.
        read: the place of a row and its fields, or why it has none; rows are numbered from 0.
        words: what the file calls the fields ``id``, ``image``, ``question``, ``answer`` and ``cot``.
        images: that every row must have; None: any number.
        needs_images: whether a row without any is bad.
    """

    where: str
    read: Callable[[int], tuple[str, Fields | ValueError]]
    words: Mapping[str, str]
    images: int | None = None
    needs_images: bool = True


@dataclass(frozen=True)
class Entry:
    """A sound row; its pixels have not been kept."""

    id: str
    images: tuple[Source, ...]
    question: str
    answer: str
    kind: AnswerKind
    metadata: Mapping[str, Any]

    def row(self, images: tuple[Image.Image, ...]) -> Example:
        """The row with these pictures."""
        return Example(self.id, images, self.question, self.answer, self.kind, self.metadata)


@dataclass(frozen=True)
class _Draft:
    """A row whose pictures have not been looked at: an entry, or the errors found so far."""

    number: int
    place: str
    id: str | None
    images: Sequence[tuple[str, Source]] = ()
    errors: Sequence[str] = ()
    entry: Entry | None = None
    is_stated: bool = False  # the kind of its answer

    @property
    def name(self) -> str:
        return f"{self.place} (id {reprlib.repr(self.id)})"


class SoundRows:
    """The sound rows of a file: their numbers, ids and digests are kept, all else is read again.

    Attributes:
        kinds: how many answers are of each kind, and whether the data or a setting say so.
        without_images: how many rows have no picture.
    """

    def __init__(self, rows: Rows, task: Task, bad_rows: BadRows) -> None:
        self._rows, self._task, self._bad_rows = rows, task, bad_rows
        self._numbers: list[int] = []
        self._outlines: list[Outline] = []
        self.kinds: Counter[tuple[AnswerKind, bool]] = Counter()
        self.without_images = 0

    def add(self, draft: _Draft, outline: Outline) -> None:
        """Take a row in."""
        assert draft.entry is not None
        self._numbers.append(draft.number)
        self._outlines.append(outline)
        self.kinds[draft.entry.kind, draft.is_stated] += 1
        self.without_images += not draft.entry.images

    def __len__(self) -> int:
        return len(self._numbers)

    def outline(self, index: int) -> Outline:
        """What is known of a row without reading it."""
        return self._outlines[index]

    def example(self, index: int) -> Example:
        """The row with its pictures. Raises BadRow when it can no longer be read."""
        draft = _draft(self._rows, self._numbers[index], self._task)
        if draft.entry is None:
            raise self._bad(f"{self._rows.where}: {draft.name}: {'; '.join(draft.errors)}; restore it, or leave it out")
        entry = draft.entry
        return entry.row(tuple(self._picture(source, draft) for source in entry.images))

    def _picture(self, source: Source, draft: _Draft) -> Image.Image:
        try:
            picture = decode(content_of(source))
        except BadPicture as bad:
            place = f"{draft.place}, {source.name}" if isinstance(source, Held) else str(source)
            text = f"data: {place} (row id {draft.id!r}): {bad}; replace the image or leave out its rows"
            raise self._bad(text) from bad
        if isinstance(source, Path):
            picture.info[PATH] = str(source.absolute())
        return picture

    def _bad(self, text: str) -> BadRow:
        return BadRow(text, skip=self._bad_rows == "skip")


def checked(
    rows: Rows, numbers: Sequence[int], task: Task, how: Checked, cache: Path | None, fits: Fits | None
) -> SoundRows:
    """The sound ones of these rows.

    Args:
        rows: of a file.
        numbers: those that are wanted.
        task: words the prompts and knows the kinds of answer.
        how: as the settings say.
        cache: of verdicts on pictures; None = not kept.
        fits: whether the model can read a row; None = not asked.

    Raises:
        UsageError: rows are bad and ``how.bad_rows`` is ``refuse``, or all are.
    """
    sound, unreadable = SoundRows(rows, task, how.bad_rows), Unreadable()
    first: dict[str, str] = {}
    faults: dict[str, list[str]] = {}
    shown = len(numbers) >= BAR_FROM
    with (
        inspecting(how.check, cache) as look,
        progress(len(numbers), "checking rows", unit="row", shown=shown, brief=True) as advance,
    ):
        for drafts in _chunks(_draft(rows, number, task) for number in numbers):
            for draft, errors, outline in _looked_at(drafts, look, task, fits):
                if draft.id is not None and first.setdefault(draft.id, draft.place) != draft.place:
                    errors.append(f"{first[draft.id]} has the same id")
                if errors or outline is None:
                    faults[draft.name] = errors
                else:
                    sound.add(draft, outline)
                    unreadable.note(draft.entry)
            advance(len(drafts))
    settle(rows.where, faults, len(numbers), how.bad_rows)
    unreadable.say(rows.where)
    return sound


def _chunks(drafts: Iterable[_Draft]) -> Iterator[list[_Draft]]:
    """Rows that are checked together; those that hold pictures are fewer."""
    chunk: list[_Draft] = []
    held = 0
    for draft in drafts:
        chunk.append(draft)
        held += sum(len(source.content) for _, source in draft.images if isinstance(source, Held))
        if len(chunk) >= AT_ONCE or held >= HELD_AT_ONCE:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _looked_at(
    drafts: Sequence[_Draft], look: Look, task: Task, fits: Fits | None
) -> Iterator[tuple[_Draft, list[str], Outline | None]]:
    """Each row with all of its errors, and its outline if it has none."""
    verdicts = look([source for draft in drafts for _, source in draft.images])
    for draft in drafts:
        errors = [*draft.errors, *_unusable(draft, verdicts)]
        if errors or draft.entry is None:
            yield draft, errors, None
            continue
        sizes, digest = _seen(draft, draft.entry, verdicts)
        errors += fits(task.prompt(draft.entry.row(())), sizes) if fits else ()
        yield draft, errors, Outline(draft.entry.id, digest)


def _draft(rows: Rows, number: int, task: Task) -> _Draft:
    place, fields = rows.read(number)
    if isinstance(fields, ValueError):
        return _Draft(number, place, None, errors=[str(fields)])
    words, identity, question = rows.words, as_text(fields.id), fields.question
    texts = {"id": identity, "question": question, "cot": fields.cot or "none"}
    errors = [f"{words[name]}: {fault}" for name, value in texts.items() if (fault := text_fault(value))]
    errors += _image_errors(rows, fields, task)
    found = [(name, source) for name, source in fields.images if not isinstance(source, str)]
    question = question[:LONGEST_TEXT] if isinstance(question, str) else ""
    markers, images = question.count(MARKER), len(fields.images)
    if markers not in (0, images) and not fields.fault:
        errors.append(
            f"{words['question']}: {markers} {MARKER} marker{'s' * (markers > 1)} for {images} "
            f"image{'s' * (images != 1)}; write one for each image, or none"
        )
    try:
        answer = gold(fields.answer, fields.kind, question, task)
    except ValueError as error:
        name, _, reason = str(error).partition(": ")
        errors.append(f"{words.get(name, name)}: {reason}")
    shown = identity if isinstance(identity, str) else None
    if errors:
        return _Draft(number, place, shown, found, errors)
    metadata = dict(fields.metadata) | ({"cot": _thinking(fields.cot)} if fields.cot else {})
    metadata |= {"accepted": answer.accepted} if answer.accepted else {}
    sources = tuple(source for _, source in found)
    entry = Entry(identity, sources, question, answer.answer, answer.kind, metadata)
    return _Draft(number, place, identity, found, entry=entry, is_stated=answer.is_stated)


def _image_errors(rows: Rows, fields: Fields, task: Task) -> Iterator[str]:
    count = len(fields.images)
    if fields.fault:
        yield fields.fault
    elif not count and rows.needs_images:
        yield f"{rows.words['image']}: missing"
    elif rows.images is not None and count != rows.images:
        yield f"{rows.words['image']}: {count} of them; {task.name} needs {rows.images}"
    yield from (source for _, source in fields.images if isinstance(source, str))


def _unusable(draft: _Draft, verdicts: Mapping[Source, Verdict]) -> Iterator[str]:
    """The pictures that cannot be used."""
    for name, source in draft.images:
        if isinstance(verdict := verdicts[source], str):
            yield f"image: {reprlib.repr(name)}: {verdict}"


def _seen(draft: _Draft, entry: Entry, verdicts: Mapping[Source, Verdict]) -> tuple[tuple[Size, ...], str]:
    """The sizes of a sound row's pictures, and the digest of the row."""
    pictures = [verdict for _, source in draft.images if isinstance(verdict := verdicts[source], Picture)]
    names = [name for name, _ in draft.images]
    facts = json.dumps([entry.question, entry.answer, entry.kind, names, dict(entry.metadata)], default=str)
    files = [picture.digest.encode() for picture in pictures]
    return (
        tuple(picture.size for picture in pictures),
        f"{digest_of(facts.encode())}:{digest_of(*files) if all(files) else ''}",
    )


def _thinking(cot: str) -> str:
    """The reasoning without its tags and without an answer after it, which some copies have."""
    return cot.strip().removeprefix("<think>").partition("</think>")[0].strip()
