"""Tables that ``datasets`` maps from disk: Parquet files, folders of ``save_to_disk``, data sets of the hub.

Pictures are not decoded here: they stay the bytes or the paths that they are in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ekipl.data.hub import contact
from ekipl.errors import UsageError

AHEAD = 64  # rows read at once, at most, when one after the other is read
COLUMN_AT_ONCE = 10_000


class ArrowTable:
    """A ``datasets.Dataset`` whose rows are plain values."""

    def __init__(self, dataset: Any) -> None:
        self._data = dataset.with_format("arrow")
        self._classes = {name: one.names for name, one in dataset.features.items() if hasattr(one, "int2str")}
        self.names = tuple(dataset.column_names)
        self._block: list[dict[str, Any]] = []
        self._start, self._next = 0, -1  # of the block; the row after the last one that was read

    def __len__(self) -> int:
        return len(self._data)

    def place(self, number: int) -> str:
        return f"row {number + 1}"

    def row(self, number: int) -> Mapping[str, Any] | ValueError:
        if not self._start <= number < self._start + len(self._block):
            ahead = min(AHEAD, 2 * len(self._block)) if number == self._next else 1
            try:
                self._block = self._data[number : number + ahead].to_pylist()
            except Exception as error:  # a damaged file; the classes are many
                return ValueError(f"cannot be read: {one_line(error)}")
            self._start = number
        self._next = number + 1
        row = self._block[number - self._start]
        return {name: self._named(name, value) for name, value in row.items()}

    def column(self, name: str) -> Iterator[Any]:
        data = self._data.select_columns([name])
        for start in range(0, len(data), COLUMN_AT_ONCE):
            for value in data[start : start + COLUMN_AT_ONCE].column(0).to_pylist():
                yield self._named(name, value)

    def _named(self, column: str, value: Any) -> Any:
        """The name of a class that the file holds as a number."""
        names = self._classes.get(column)
        return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value


def open_parquet(path: Path) -> ArrowTable:
    """The table in a Parquet file. ``datasets`` unpacks it once into its cache. Raises UsageError."""
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    try:
        parquet.ParquetFile(path)
    except Exception as error:  # pyarrow raises several classes
        raise UsageError(f"data.path: {path}: no Parquet file, or a damaged one: {one_line(error)}") from error
    from datasets import Dataset

    try:
        with _quiet():
            return ArrowTable(Dataset.from_parquet(str(path)))
    except Exception as error:  # pyarrow and datasets raise many classes
        reason = one_line(error.__cause__ or error)
        raise UsageError(f"data.path: {path}: cannot be read: {reason}; write the file again") from error


def open_folder(path: Path) -> dict[str | None, ArrowTable]:
    """The tables in a folder that ``save_to_disk`` wrote, by split; None for a single one. Raises UsageError."""
    from datasets import load_from_disk

    try:
        with _quiet():
            return _tables(load_from_disk(str(path)))
    except Exception as error:  # datasets raises many classes
        is_one = any((path / name).exists() for name in ("state.json", "dataset_dict.json"))
        what = (
            f"cannot be read: {one_line(error)}; write it again"
            if is_one
            else ("not written by save_to_disk of datasets; name one of its files, or write {train: FILE, id: FILE}")
        )
        raise UsageError(f"data.path: {path}: {what}") from error


def open_hub(name: str) -> dict[str | None, ArrowTable]:
    """The splits of a data set on the hub, downloaded into the cache of ``datasets``. Raises UsageError."""
    from huggingface_hub import constants

    fault = contact(f"api/datasets/{name}", "data set")
    way = "name a file or folder, or a data set that the hub has (HF_TOKEN for one behind a login)"
    if fault and not constants.HF_HUB_OFFLINE:
        raise UsageError(f"data.path: {name}: no such file or folder here, and the hub {fault}; {way}")
    from datasets import load_dataset

    try:
        with _quiet():
            return _tables(load_dataset(name))
    except Exception as error:  # network, hub and builders raise many classes
        if fault:
            what = f"no such file or folder here, nor in the cache of datasets, and the hub {fault}"
            raise UsageError(f"data.path: {name}: {what}; {way}") from error
        raise UsageError(f"data.path: {name}: {one_line(error)}; download it, and name its files") from error


def _tables(found: Any) -> dict[str | None, ArrowTable]:
    from datasets import Dataset

    return {None: ArrowTable(found)} if isinstance(found, Dataset) else {k: ArrowTable(v) for k, v in found.items()}


def one_line(error: BaseException) -> str:
    """What a library says, in one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of ``datasets``, which would stand between the lines of a command."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            enable_progress_bars()
