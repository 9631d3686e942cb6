"""``data=table``: problems from rows of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Lt, MinLen

from ekipl.algorithm.ranges import Name
from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Problem
from ekipl.data.problems import Checked, Fits, LazyProblems, check_split, say
from ekipl.data.rows import Fields, Rows, SoundRows, checked
from ekipl.data.table import arrow, columns, splits, text
from ekipl.data.table.cells import finding, identity
from ekipl.data.table.columns import Columns, Found
from ekipl.data.table.splits import Part, Table
from ekipl.errors import UsageError

TEXT_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
ENDINGS = (*TEXT_ENDINGS, ".parquet")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_said: set[str] = set()  # lines that this process has printed: a command opens a file once for each split


@dataclass(frozen=True, kw_only=True)
class TableData(Checked):
    """Problems from rows of your own, in any usual file format (docs/your-data.md).

    Attributes:
        path: a file (.jsonl, .json, .csv, .tsv, .parquet), a folder written by ``datasets``, or a data set on the hub;
            or ``{train: FILE, id: FILE}``, a file for each split.
        root: folder or zip file that the names of images start from; no image lies outside. null: the folder of the
            rows.
        holdout: share of the training rows that become the first evaluation split, where the data have no rows for it;
            chosen by a hash of the id.
        columns: names of columns; null: the usual spellings are looked for, and what is found is printed.
        cache: file that keeps what is known of pictures for all runs; null: not kept, every picture is decoded anew.
        kind: ``table``.
    """

    path: Name | Annotated[dict[str, Name], MinLen(1)] | None = None
    root: Name | None = None
    holdout: Annotated[float, Ge(0), Lt(1)] = 0.05
    columns: Columns = field(default_factory=Columns)
    cache: Name | None = None
    kind: Literal["table"] = "table"

    def problems(self, task: Task, split: str, limit: int | None = None, fits: Fits | None = None) -> Sequence[Problem]:
        """The first ``limit`` problems of ``train`` (from ``train_start``) or of one of the task's splits.

        ``fits`` says why the model cannot read a row; such rows are bad too.

        Raises:
            MissingSplit: there are no rows of the split.
            UsageError: the task has no such split, the data cannot be read, or rows or their images are bad.
        """
        check_split(task, split)
        tables = self._open()
        place, part, found = self._part(tables, task, split)
        start = self.train_start if split == "train" else 0
        if start >= len(part.numbers):
            raise UsageError(f"data.train_start: {start}: leaves none of the {len(part.numbers)} rows of {place}")
        wanted = part.numbers[start:] if limit is None else part.numbers[start : start + limit]
        find, table = finding(place, None if self.root is None else Path(self.root).expanduser()), part.table

        def read(number: int) -> tuple[str, Fields | ValueError]:
            row = table.row(number)
            fields = row if isinstance(row, ValueError) else columns.fields_of(row, found, number, find)
            return table.place(number), fields

        rows = Rows(f"data: {place}", read, found.words, needs_images=False)
        cache = None if self.cache is None else Path(self.cache).expanduser()
        sound = checked(rows, wanted, task, self, cache, fits)
        _say_once(f"data: {place}: {found}")
        _say_once(f"data: {place}: {split}: {_told(part, sound)}")
        return LazyProblems(task, split, range(len(sound)), sound.example, sound.outline)

    def _open(self) -> dict[str | None, tuple[Path, Table]]:
        """The tables by split, each with the file or folder that it comes from; None for a single one."""
        if isinstance(self.path, str):
            path = Path(self.path).expanduser()
            return {name: (path, table) for name, table in opened(self.path).items()}
        found: dict[str | None, tuple[Path, Table]] = {}
        for split, name in (self.path or {}).items():
            tables = opened(name)
            if None not in tables:
                raise UsageError(f"data.path.{split}: {name}: holds splits of its own; set data.path={name}")
            found[split] = Path(name).expanduser(), tables[None]
        return found

    def _part(
        self, tables: Mapping[str | None, tuple[Path, Table]], task: Task, split: str
    ) -> tuple[Path, Part, Found]:
        """The rows of a split, where they lie, and what their columns hold. Raises UsageError."""
        is_single, first = None in tables, task.splits[0]
        where = self.path if isinstance(self.path, str) else "its files"
        chosen = None if is_single else splits.named([str(n) for n in tables], split, first, self.holdout, where)
        place, table = tables[chosen and chosen[0]]
        if not len(table):
            raise UsageError(f"data.path: {place}: holds no rows")
        first_row = table.row(0)
        if isinstance(first_row, ValueError) and not table.names:
            raise UsageError(f"data.path: {place}: {table.place(0)}: {first_row}")
        found = columns.find(place.name, table.names, first_row, self.columns)
        numbers: Sequence[int] = range(len(table))
        if chosen is None:
            told: Mapping[str, Sequence[int]] = {"train": numbers}
            if "split" in found.columns:
                told = splits.by_column(_cells(table, found.columns["split"]))
            chosen = splits.named(list(told), split, first, self.holdout, str(place))
            numbers = told[chosen[0]]
        _, note, is_divided = chosen
        if is_divided:
            numbers = splits.divided(_ids(table, found, numbers), numbers, split, self.holdout, str(place))
            note = "held out of train by data.holdout" if split != "train" else "data.holdout holds others out"
        return place, Part(table, numbers, note), found


def opened(name: str) -> dict[str | None, Table]:
    """The tables of a file, a folder or a data set on the hub, by split; None for a single one. Raises UsageError."""
    path = Path(name).expanduser()
    if path.is_dir():
        return dict(arrow.open_folder(path))
    if not path.exists() and is_hub_name(name):
        return dict(arrow.open_hub(name))
    if not path.exists() or path.suffix.lower() not in ENDINGS:
        what = f"the ending {path.suffix!r} is not known" if path.exists() else "no such file or folder"
        raise UsageError(f"data.path: {name}: {what}; known are files in {', '.join(ENDINGS)}, and folders of datasets")
    try:
        if path.suffix.lower() == ".parquet":
            path.open("rb").close()
            return {None: arrow.open_parquet(path)}
        return {None: text.open_text(path)}
    except (OSError, ValueError) as error:
        raise UsageError(f"data.path: {name}: {getattr(error, 'strerror', None) or error}") from error


def is_hub_name(name: str) -> bool:
    """Whether a path that does not exist may be a data set on the hub."""
    return bool(HUB_NAME.fullmatch(name)) and not Path(name).parent.is_dir() and not name.lower().endswith(ENDINGS)


def _cells(table: Table, name: str) -> Iterator[object]:
    if name in table.names:
        return iter(table.column(name))
    return (columns.value_of(table.row(number), name) for number in range(len(table)))


def _ids(table: Table, found: Found, numbers: Sequence[int]) -> list[str]:
    """The ids of these rows, as the rows will have them."""
    if "id" not in found.columns:
        return [columns.numbered(number) for number in numbers]
    ids = [str(identity(cell)) for cell in _cells(table, found.columns["id"])]
    return [ids[number] for number in numbers]


def _told(part: Part, sound: SoundRows) -> str:
    """How many rows there are, and of which kinds their answers."""
    kinds = [
        f"{count:,} {kind}{'' if is_stated else ' (inferred)'}"
        for (kind, is_stated), count in sorted(sound.kinds.items())
    ]
    bare = f", {sound.without_images:,} without an image" if sound.without_images else ""
    whole = f" of {len(part.numbers):,}" if len(sound) != len(part.numbers) else ""
    return f"{len(sound):,}{whole} rows{f' ({part.note})' if part.note else ''}{bare}; answers: {', '.join(kinds)}"


def _say_once(line: str) -> None:
    if line not in _said:
        _said.add(line)
        say(line, ())
