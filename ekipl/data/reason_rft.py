"""The published Reason-RFT-CoT files, or files in the same layout: JSON arrays of rows beside a folder of images.

A row has ``id``, ``image`` (a file name, or several in order), ``problem``, ``answer`` (or ``solution``) and, for
supervised training, ``cot``. ``kind`` (choice, number, ...) overrides the kind derived from the answer. The rows are
checked before the first is used, and one error lists all bad ones. Pixels are read when a problem is read.
"""

from __future__ import annotations

import json
import reprlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ekipl.algorithm.ranges import Name
from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import AnswerKind, Example, Problem
from ekipl.data.problems import LazyProblems, Limits, check_split, gold_of, refuse, say_unreadable
from ekipl.errors import MissingSplit, UsageError

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")  # for some other formats Pillow starts another program


@dataclass(frozen=True)
class _Published:
    """The file names of a published task, and the number of images per row."""

    stem: str
    images: int
    rows: int  # of the training file


_TASKS: Mapping[str, _Published] = {
    "counting": _Published("Visual-Counting", 1, 35_000),
    "structure": _Published("Structure-Perception", 1, 4_500),
    "spatial": _Published("Spatial-Transformation", 2, 60_000),
}


def published_images(task: str) -> int:
    """Images of a published problem of this task; 1 for other tasks."""
    return _TASKS[task].images if task in _TASKS else 1


@dataclass(frozen=True)
class _Place:
    """A file of rows, and the folders that its images must be in; ``part`` is train or test."""

    rows: Path
    roots: tuple[Path, ...]
    part: str


@dataclass(frozen=True)
class _Entry:
    """A checked row; its images have not been read."""

    id: str
    images: tuple[Path, ...]
    question: str
    answer: str
    kind: AnswerKind
    metadata: Mapping[str, Any]

    def example(self) -> Example:
        images = tuple(_read_image(path, self.id) for path in self.images)
        return Example(self.id, images, self.question, self.answer, self.kind, self.metadata)


@dataclass(frozen=True)
class ReasonRFTData(Limits):
    """Problems from the published files in a folder or on the Hugging Face hub.

    A task of your own reads ``NAME-SPLIT-test*.json`` and ``NAME-train*.json`` in the same layout.

    Attributes:
        root: folder with ``train_jsons/``, ``test_jsons/`` and ``images/``, or with JSON files beside ``images/``; it
            has precedence over ``hub``.
        hub: data set on the hub with the same files, its images in zip files.
        train_split: the split whose file serves as ``train``, for copies that have test files only.
        kind: ``reason_rft``.
    """

    root: Name | None = None
    hub: Name | None = None
    train_split: Name = "train"
    kind: Literal["reason_rft"] = "reason_rft"

    def problems(self, task: Task, split: str, limit: int | None = None) -> Sequence[Problem]:
        """The first ``limit`` problems of ``train`` (from ``train_start``) or of one of the task's splits.

        Raises:
            MissingSplit: there is no file for the split.
            UsageError: the task has no such split, there are several files, or rows or their images are bad.
        """
        source = self.train_split if split == "train" else split
        check_split(task, source)
        place = self._place(task, source)
        start = self.train_start if split == "train" else 0
        entries = _checked(place, task, start, limit)
        return LazyProblems(task, split, range(len(entries)), lambda index: entries[index].example())

    def published_rows(self, task: Task) -> int | None:
        """Training rows that are used of the published file, by its published size; None for other tasks."""
        if task.name not in _TASKS:
            return None
        left = _TASKS[task.name].rows - self.train_start
        return left if self.train_limit is None else min(left, self.train_limit)

    def _place(self, task: Task, split: str) -> _Place:
        stem = _TASKS[task.name].stem if task.name in _TASKS else task.name
        part = "train" if split == "train" else "test"
        pattern = f"*{stem}-train*.json" if split == "train" else f"{stem}-{split.replace('_', '-')}-test*.json"
        if self.root is None:
            return _from_hub(str(self.hub), part, pattern)
        root = Path(self.root).expanduser().resolve()
        folders = [root / f"{part}_jsons", root]
        found = next((files for folder in folders if (files := sorted(folder.glob(pattern)))), [])
        where = f"in {part}_jsons/ or the folder itself"
        if not found:
            other = "to train on another split, set data.train_split=id"
            wayout = other if split == "train" else "name the splits that are there, such as splits=[id]"
            raise MissingSplit(f"data.root: {root}: no {pattern} {where}; {wayout}")
        if len(found) > 1:
            raise UsageError(f"data.root: {root}: {len(found)} files match {pattern} {where}; one is needed")
        return _Place(found[0], (root,), part)


# --- rows ---


def _checked(place: _Place, task: Task, start: int, limit: int | None) -> list[_Entry]:
    rows = _load(place.rows)
    if start >= len(rows):
        raise UsageError(f"data.train_start: {start}: leaves none of the {len(rows)} rows of {place.rows.name}")
    rows = rows[start:] if limit is None else rows[start : start + limit]
    find = lru_cache(maxsize=None)(partial(_find_image, place))  # rows share images
    errors: list[str] = []
    first: dict[str, int] = {}
    for number, row in enumerate(rows, start + 1):
        identity = row.get("id") if isinstance(row, dict) else None
        found = list(_errors(row, task, find))
        if isinstance(identity, str) and first.setdefault(identity, number) != number:
            found.append(f"row {first[identity]} has the same id")
        errors += [f"row {number} (id {reprlib.repr(identity)}): {error}" for error in found]
    refuse(f"data: {place.rows}", errors)
    entries = [_entry(row, task, find) for row in rows]
    say_unreadable(f"data: {place.rows}", ((entry.answer, entry.kind) for entry in entries))
    return entries


def _load(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UsageError(f"data: {path}: line {error.lineno} column {error.colno}: {error.msg}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"data: {path}: {error}") from error
    if not isinstance(rows, list) or not rows:
        raise UsageError(f"data: {path}: not a JSON array of rows")
    return rows


def _errors(row: Any, task: Task, find: Callable[[str], Path | str]) -> Iterator[str]:
    if not isinstance(row, dict):
        yield f"{reprlib.repr(row)}: not an object with fields"
        return
    texts = [("id", row.get("id")), ("problem", row.get("problem")), ("cot", row.get("cot") or "none")]
    for field, value in texts:
        if not isinstance(value, str) or not value.strip():
            yield f"{field}: missing" if value is None else f"{field}: {reprlib.repr(value)}: not a text"
    names = _names(row)
    needed = _TASKS[task.name].images if task.name in _TASKS else len(names)
    if not names:
        yield f"image: {reprlib.repr(row.get('image'))}: not a file name, nor a list of them"
    elif len(names) != needed:
        yield f"image: {len(names)} of them; {task.name} needs {needed}"
    yield from (error for error in map(find, names) if isinstance(error, str))
    try:
        gold_of(row, str(row.get("problem")), task)
    except ValueError as error:
        yield str(error)


def _entry(row: Mapping[str, Any], task: Task, find: Callable[[str], Path | str]) -> _Entry:
    metadata = {"cot": _thinking(row["cot"])} if row.get("cot") else {}
    images = tuple(Path(find(name)) for name in _names(row))
    return _Entry(row["id"], images, row["problem"], *gold_of(row, row["problem"], task), metadata)


def _names(row: Mapping[str, Any]) -> list[str]:
    names = row.get("image")
    names = names if isinstance(names, list) else [names]
    return names if all(isinstance(name, str) and name for name in names) else []


def _thinking(cot: str) -> str:
    """The reasoning without its tags and without an answer after it, which some copies have."""
    return cot.strip().removeprefix("<think>").partition("</think>")[0].strip()


# --- images ---


def _find_image(place: _Place, name: str) -> Path | str:
    """The path of the image, or an error. No file outside ``place.roots`` is opened, through links or otherwise."""
    if Path(name).is_absolute():
        return f"image: {reprlib.repr(name)}: an absolute path; name it relative to the images folder"
    try:
        folders = [
            root / sub
            for root in place.roots
            for sub in (f"images/{place.part}_images", "images", "", f"{place.part}_images")
        ]
        path = next((path for folder in folders if (path := (folder / name)).is_file()), None)
        if path is None:
            return f"image: {reprlib.repr(name)}: no such file in {place.roots[0]}/images"
        path = path.resolve()
        if not any(path.is_relative_to(root) for root in place.roots):
            return f"image: {reprlib.repr(name)}: lies outside {place.roots[0]}"
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                is_cut = image.format == "PNG" and b"IEND" not in _end_of(path)  # an interrupted download
        if is_cut:
            return f"image: {reprlib.repr(name)}: cannot be read: it is cut off"
    except Exception as error:  # decoders raise many classes; each is reported as an error of the file
        return f"image: {reprlib.repr(name)}: cannot be read: {getattr(error, 'strerror', None) or error}"
    return path


def _end_of(path: Path, size: int = 4096) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read()


def _read_image(path: Path, of_row: str) -> Image.Image:
    """The image in RGB, on white where it is transparent; EXIF orientation is ignored."""
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            if not image.has_transparency_data:
                return image.convert("RGB")
            picture = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UsageError(
            f"data: {path} (row id {of_row!r}): cannot be read: {error}; replace the image or leave out its rows"
        ) from error


# --- the hub ---


def _from_hub(hub: str, part: str, pattern: str) -> _Place:
    """Download the rows and the zip files of images into the cache of ``datasets``; ``hub`` may be a local copy."""
    import fsspec  # type: ignore[import-untyped]
    from datasets import DownloadManager

    try:
        fs, base = fsspec.core.url_to_fs(hub if Path(hub).is_dir() else f"hf://datasets/{hub}")
        rows = sorted(fs.glob(f"{base}/{part}_jsons/{pattern}")) or sorted(fs.glob(f"{base}/{pattern}"))
        zips = sorted(fs.glob(f"{base}/**/{part}_images*.zip"))
        if len(rows) == 1 and zips:
            manager = DownloadManager()
            file = manager.download(fs.unstrip_protocol(rows[0]).removeprefix("file://"))
            folders = [manager.download_and_extract(fs.unstrip_protocol(zip).removeprefix("file://")) for zip in zips]
            return _Place(Path(file), tuple(Path(folder).resolve() for folder in folders), part)
    except Exception as error:  # network and hub raise many classes
        raise UsageError(
            f"data.hub: {hub}: {error}; check the name and the network, or set data.root=FOLDER"
        ) from error
    raise UsageError(
        f"data.hub: {hub}: {len(rows)} files match {pattern} (one is needed) and {len(zips)} match {part}_images*.zip; "
        "download the data set and set data.root=FOLDER"
    )
