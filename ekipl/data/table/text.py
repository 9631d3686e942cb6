"""Tables in text files: JSON lines, a JSON array, CSV and TSV. Only the places of rows are kept.

Files in UTF-16 or UTF-32 are held in memory as UTF-8, and so is the text of a JSON array.
"""

from __future__ import annotations

import csv
import io
import json
import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ekipl.files import decode_text, parse_line, refuse_constant

BLOCK = 2**22  # bytes read at once while the places of rows are looked for
NAMED_BY = 100  # rows of JSON whose keys are the columns
LONGEST_FIELD = 2**28  # characters of a CSV field
SEPARATORS = ",;\t|"


class Text:
    """The bytes of a file in UTF-8, read where they lie, so that several processes share them."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.size = os.fstat(self._file.fileno()).st_size
        self._held: bytes | None = None
        head = self.between(0, 4)
        encoding = json.detect_encoding(head) if head else "utf-8"
        if not encoding.startswith("utf-8"):
            self._held = decode_text(self.between(0, self.size)).encode("utf-8", "surrogatepass")
            self.size = len(self._held)
        self.start = 3 if encoding == "utf-8-sig" else 0

    def between(self, start: int, end: int) -> bytes:
        """These bytes; fewer where the file ends."""
        if self._held is not None:
            return self._held[start:end]
        return os.pread(self._file.fileno(), end - start, start)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Place and bytes of each line, its end included."""
        place, rest = self.start, b""
        for start in range(self.start, self.size, BLOCK):
            *whole, rest = (rest + self.between(start, start + BLOCK)).split(b"\n")
            for line in whole:
                yield place, line + b"\n"
                place += len(line) + 1
        if rest:
            yield place, rest


class JsonLines:
    """One object a line."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._starts, self._ends, self._lines = array("q"), array("q"), array("q")
        for number, (place, line) in enumerate(text.lines(), 1):
            if len(line) > 64 or line.strip():
                self._starts.append(place)
                self._ends.append(place + len(line))
                self._lines.append(number)
        self.names = _keys(self)

    def __len__(self) -> int:
        return len(self._starts)

    def place(self, number: int) -> str:
        return f"line {self._lines[number]}"

    def row(self, number: int) -> Mapping[str, Any] | ValueError:
        try:
            return parse_line(self._text.between(self._starts[number], self._ends[number]))
        except ValueError as error:
            return error

    def column(self, name: str) -> Iterator[Any]:
        return _column(self, name)


class JsonArray:
    """A JSON array of objects: its text, and where each object stands in it."""

    def __init__(self, text: str) -> None:
        self._text, self._starts, self._ends = text, array("q"), array("q")
        self._decoder = json.JSONDecoder(parse_constant=refuse_constant)
        place = _after_space(text, text.index("[") + 1)
        while text[place : place + 1] != "]":
            self._starts.append(place)
            place = self._end_of(place)
            self._ends.append(place)
            place = _after_space(text, place)
            if text[place : place + 1] == ",":
                place = _after_space(text, place + 1)
            elif text[place : place + 1] != "]":
                raise _at("Expecting ',' or ']'", text, place)
        if text[place + 1 :].strip():
            raise _at("Extra data", text, place + 1)
        self.names = _keys(self)

    def _end_of(self, place: int) -> int:
        try:
            return self._decoder.raw_decode(self._text, place)[1]
        except json.JSONDecodeError as error:
            raise ValueError(f"line {error.lineno} column {error.colno}: {error.msg}") from error
        except RecursionError as error:
            raise ValueError("nested too deeply") from error

    def __len__(self) -> int:
        return len(self._starts)

    def place(self, number: int) -> str:
        return f"row {number + 1}"

    def row(self, number: int) -> Mapping[str, Any] | ValueError:
        row = self._decoder.raw_decode(self._text, self._starts[number])[0]
        return row if isinstance(row, dict) else ValueError("not a JSON object")

    def column(self, name: str) -> Iterator[Any]:
        return _column(self, name)


class Csv:
    """Rows of fields between separators, under a row of names."""

    def __init__(self, text: Text, separators: str) -> None:
        self._text = text
        self._starts, self._ends, self._lines = array("q"), array("q"), array("q")
        csv.field_size_limit(LONGEST_FIELD)
        head = text.between(text.start, text.start + 2**16).partition(b"\n")[0]
        self._separator = max(separators, key=lambda sign: head.count(sign.encode()))
        header: Mapping[str, Any] | list[str] = []
        for start, end, line, fields in self._records():
            if isinstance(fields, ValueError) and not header:
                raise ValueError(f"line {line}: {fields}")
            if not header and isinstance(fields, list):
                header = [name.strip() for name in fields]
            else:
                self._starts.append(start)
                self._ends.append(end)
                self._lines.append(line)
        self.names = tuple(header)
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(f"two columns are called {', '.join(map(repr, twice))}; rename one")

    def _records(self) -> Iterator[tuple[int, int, int, list[str] | ValueError]]:
        """Start, end, line and fields of each record; a record may hold line ends between quotes."""
        place, line, end = 0, 0, self._text.start

        def lines() -> Iterator[str]:
            nonlocal line, end
            for start, content in self._text.lines():
                line, end = line + 1, start + len(content)
                yield content.decode("utf-8", "surrogateescape")

        reader = csv.reader(lines(), delimiter=self._separator, strict=True)
        while True:
            place, first = end, line + 1
            try:
                fields: list[str] | ValueError = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fields = _csv_fault(error)
            if fields:  # no blank line
                yield place, end, first, fields

    def __len__(self) -> int:
        return len(self._starts)

    def place(self, number: int) -> str:
        return f"line {self._lines[number]}"

    def row(self, number: int) -> Mapping[str, Any] | ValueError:
        content = self._text.between(self._starts[number], self._ends[number])
        try:
            text = io.StringIO(content.decode(), newline="")
            fields = next(csv.reader(text, delimiter=self._separator, strict=True))
        except UnicodeDecodeError as error:
            return ValueError(f"not UTF-8 (byte {error.start + 1:,} of the row); save it as UTF-8")
        except csv.Error as error:
            return _csv_fault(error)
        if len(fields) != len(self.names):
            way = f"put a field with {self._separator!r} or a line end in it between quotes"
            return ValueError(f"{len(fields)} fields, and the header has {len(self.names)}; {way}")
        return {name: field or None for name, field in zip(self.names, fields, strict=True)}

    def column(self, name: str) -> Iterator[Any]:
        return _column(self, name)


TextTable = JsonLines | JsonArray | Csv


def open_text(path: Path) -> TextTable:
    """The table in a text file, by its ending and its first sign.

    Raises:
        ValueError: it is none.
        OSError: it cannot be read.
    """
    text = Text(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        return Csv(text, "\t" if path.suffix.lower() == ".tsv" else SEPARATORS)
    first = next((line.lstrip()[:1] for _, line in text.lines() if line.strip()), b"")
    if first == b"[":
        return JsonArray(decode_text(text.between(text.start, text.size)))
    table = JsonLines(text)
    if first == b"{" and len(table) > 1 and isinstance(table.row(0), ValueError) and _is_one_object(text):
        raise ValueError("one JSON object on several lines; give a JSON array of objects, or one object a line")
    return table


def _is_one_object(text: Text) -> bool:
    try:
        json.loads(text.between(text.start, text.size))
    except (ValueError, RecursionError):
        return False
    return True


def _keys(table: JsonLines | JsonArray) -> tuple[str, ...]:
    rows = (table.row(number) for number in range(min(len(table), NAMED_BY)))
    return tuple(dict.fromkeys(key for row in rows if isinstance(row, Mapping) for key in row))


def _column(table: TextTable, name: str) -> Iterator[Any]:
    for number in range(len(table)):
        row = table.row(number)
        yield row.get(name) if isinstance(row, Mapping) else None


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\n", "\r"):
        place += 1
    return place


def _at(message: str, text: str, place: int) -> ValueError:
    line, column = text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)
    return ValueError(f"line {line} column {column}: {message}")


def _csv_fault(error: csv.Error) -> ValueError:
    said = str(error)
    if "unexpected end" in said or "field limit" in said:
        return ValueError(f"{said}: a quote is opened and never closed")
    return ValueError(f"{said}; double a quote that stands in a quoted field")
