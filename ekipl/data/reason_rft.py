"""The published Reason-RFT-CoT files, or files in the same layout: rows in JSON beside a folder of images.

A row has ``id``, ``image`` (a file name, or several in order), ``problem``, ``answer`` (or ``solution``) and, for
supervised training, ``cot``. ``kind`` (choice, number, ...) overrides the kind derived from the answer. The rows are
checked before the first is used, and one error lists all bad ones. Pixels are read when a problem is read.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ekipl.algorithm.ranges import Name
from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Problem
from ekipl.data.gold import answer_of
from ekipl.data.hub import from_hub
from ekipl.data.places import Place, finder, published
from ekipl.data.problems import Checked, Fits, LazyProblems, check_split
from ekipl.data.rows import Fields, Rows, checked
from ekipl.errors import MissingSplit, UsageError
from ekipl.files import parse_rows

WORDS = {"id": "id", "image": "image", "question": "problem", "answer": "answer", "cot": "cot"}


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


def reported_by(task: str) -> tuple[str, ...]:
    """The graders by which a published task is reported; none for other tasks."""
    return ("strict", "reason_rft") if task in _TASKS else ()


def published_images(task: str) -> int:
    """Images of a published problem of this task; 1 for other tasks."""
    return _TASKS[task].images if task in _TASKS else 1


@dataclass(frozen=True)
class ReasonRFTData(Checked):
    """Problems from the published files in a folder or on the Hugging Face hub.

    A task of your own reads ``NAME-SPLIT-test*.json`` and ``NAME-train*.json`` in the same layout.

    Attributes:
        root: folder with ``train_jsons/``, ``test_jsons/`` and ``images/``, or with JSON files beside ``images/``; it
            has precedence over ``hub``.
        hub: data set on the hub with the same files, its images in zip files.
        train_split: the split whose file serves as ``train``, for copies that have test files only.
        cache: file that keeps what is known of image files for all runs; null: not kept, every file is decoded anew.
        kind: ``reason_rft``.
    """

    root: Name | None = None
    hub: Name | None = None
    train_split: Name = "train"
    cache: Name | None = None
    kind: Literal["reason_rft"] = "reason_rft"

    def problems(self, task: Task, split: str, limit: int | None = None, fits: Fits | None = None) -> Sequence[Problem]:
        """The first ``limit`` problems of ``train`` (from ``train_start``) or of one of the task's splits.

        ``fits`` says why the model cannot read a row; such rows are bad too.

        Raises:
            MissingSplit: there is no file for the split.
            UsageError: the task has no such split, there are several files, or rows or their images are bad.
        """
        source = self.train_split if split == "train" else split
        check_split(task, source)
        place = self._place(task, source)
        start = self.train_start if split == "train" else 0
        listed = _load(place.rows)
        if start >= len(listed):
            raise UsageError(f"data.train_start: {start}: leaves none of the {len(listed)} rows of {place.rows.name}")
        wanted = range(start, len(listed) if limit is None else min(len(listed), start + limit))
        find = finder(place)
        rows = Rows(
            f"data: {place.rows}",
            lambda number: (listed[number][0], _fields(listed[number][1], find)),
            WORDS,
            _TASKS[task.name].images if task.name in _TASKS else None,
        )
        cache = None if self.cache is None else Path(self.cache).expanduser()
        sound = checked(rows, wanted, task, self, cache, fits)
        return LazyProblems(task, split, range(len(sound)), sound.example, sound.outline)

    def published_rows(self, task: Task) -> int | None:
        """Training rows that are used of the published file, by its published size; None for other tasks."""
        if task.name not in _TASKS:
            return None
        left = _TASKS[task.name].rows - self.train_start
        return left if self.train_limit is None else min(left, self.train_limit)

    def _place(self, task: Task, split: str) -> Place:
        stem = _TASKS[task.name].stem if task.name in _TASKS else task.name
        part = "train" if split == "train" else "test"
        pattern = f"*{stem}-train*.json" if split == "train" else f"{stem}-{split.replace('_', '-')}-test*.json"
        if self.root is None:
            return from_hub(str(self.hub), part, pattern)
        root = Path(self.root).expanduser().resolve()
        folders = [root / f"{part}_jsons", root]
        found = next((files for folder in folders if (files := _matches(folder, pattern))), [])
        where = f"in {part}_jsons/ or the folder itself"
        if not found:
            other = "to train on another split, set data.train_split=id"
            wayout = other if split == "train" else "name the splits that are there, such as splits=[id]"
            raise MissingSplit(f"data.root: {root}: no {pattern} {where}; {wayout}")
        if len(found) > 1:
            raise UsageError(f"data.root: {root}: {len(found)} files match {pattern} {where}; one is needed")
        return published(found[0], (root,), part)


def _load(path: Path) -> list[tuple[str, Any]]:
    """The rows of a file, JSON or JSON lines, each with its place. Raises UsageError."""
    try:
        return parse_rows(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"data: {path}: {getattr(error, 'strerror', None) or error}") from error


def _fields(row: Any, find: Callable[[str], Path | str]) -> Fields | ValueError:
    if not isinstance(row, dict):
        return row if isinstance(row, ValueError) else ValueError(f"{reprlib.repr(row)}: not an object with fields")
    given = row.get("image")
    names: list[Any] = given if isinstance(given, list) else [given]
    is_named = bool(names) and all(isinstance(name, str) and name for name in names)
    return Fields(
        row.get("id"),
        [(name, find(name)) for name in names] if is_named else (),
        row.get("problem"),
        answer_of(row),
        row.get("kind"),
        row.get("cot"),
        fault=None if is_named else f"image: {reprlib.repr(given)}: not a file name, nor a list of them",
    )


def _matches(folder: Path, pattern: str) -> list[Path]:
    """Files of JSON or JSON lines."""
    return sorted([*folder.glob(pattern), *folder.glob(f"{pattern}l")])
