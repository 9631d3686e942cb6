"""Files of a run: each is written whole or not at all; JSON lines are pure ASCII; a full disk is a UsageError.

In ASCII everything else is escaped: NUL, U+2028 and lone surrogates in a model's text can neither split a line nor
fail to be written.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from safetensors import SafetensorError

from ekipl.errors import UsageError

FULL = (errno.ENOSPC, errno.EDQUOT)
IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS)
LEFT_OVER = 2**20  # bytes that can still be free after a larger write has failed
_SHOWN = 10  # bad lines named in one error

T = TypeVar("T")


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A new binary file. It gets the name ``path`` when the block ends; after an exception ``path`` is unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")  # same folder, so that the rename is atomic
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def usual_modes(path: Path) -> None:
    """Give a file, or all files in a folder, the permissions of new files; safetensors writes for their owner only.

    The umask decides, as for every other file of a run.
    """
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            file.chmod(0o666 & ~_umask())


def _umask() -> int:
    try:  # reading it from the process is no change of it, which other threads would see
        status = Path("/proc/self/status").read_text()
        return int(status.partition("Umask:")[2].split()[0], 8)
    except (OSError, IndexError, ValueError):
        value = os.umask(0o022)
        os.umask(value)
        return value


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 (a lone surrogate becomes "?")."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="replace"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; NaN and infinities become null."""
    write_text(path, json.dumps(finite(value), indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSONL file; NaN and infinities become null."""
    with atomic_write(path) as file:
        file.writelines(dump_line(finite(row)) for row in rows)


def decode_text(content: bytes) -> str:
    """The text of a file in UTF-8, UTF-16 or UTF-32, without a byte order mark. Raises ValueError with the reason."""
    encoding = json.detect_encoding(content)  # by the mark, or by where zeros stand
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"not {encoding.upper()} (byte {error.start + 1:,}); save it as UTF-8") from error


def parse_rows(content: bytes) -> list[tuple[str, Any]]:
    """The rows of a JSON array or of JSON lines, whichever it is, each with its place: ``row 3`` or ``line 3``.

    A value that is a ValueError says why that line is no JSON object. Raises ValueError when nothing can be read.
    """
    text = decode_text(content)
    if text.lstrip()[:1] == "[":
        found = _json_of(text)
        if not found:
            raise ValueError("holds no rows; give a JSON array of objects, or one object a line")
        return [(f"row {number}", row) for number, row in enumerate(found, 1)]
    with suppress(ValueError):  # one object, on one line or several
        found = _json_of(text)
        if isinstance(found, dict):
            return [("row 1", found)]
    rows = [(f"line {n}", _row_of(line)) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise ValueError("empty; give a JSON array of objects, or one object a line")
    return rows


def _json_of(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _row_of(line: str) -> Any:
    try:
        return parse_line(line.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        return error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file. Raises UsageError like ``map_jsonl``."""
    return map_jsonl(path, lambda row: row)


def map_jsonl(path: Path, make: Callable[[dict[str, Any]], T]) -> list[T]:
    """``make(row)`` for every row; blank lines are skipped.

    Raises:
        UsageError: the file cannot be read, or lines are no JSON objects, are cut off, or make ``make`` raise
            ValueError. One error names the first ten bad lines.
    """
    made, bad = [], []
    try:
        with path.open("rb") as lines:
            if (head := lines.read(4)) and (head[:1] == b"[" or json.detect_encoding(head) != "utf-8"):
                with suppress(_OtherForm):
                    return _map_other(path, make)
            lines.seek(0)
            for number, line in enumerate(lines, start=1):
                try:
                    made += [make(parse_line(line))] if line.strip() else []
                except ValueError as error:
                    bad.append(f"{path}:{number}: {error}{_torn(line)}")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give a JSONL file that a command of ekipl wrote") from error
    _refuse(path, bad)
    return made


class _OtherForm(Exception):
    pass


def _map_other(path: Path, make: Callable[[dict[str, Any]], T]) -> list[T]:
    """``map_jsonl`` of what another program has made of the file: a JSON array, another encoding, a byte order mark.

    Raises:
        _OtherForm: it is none of these as a whole, so that its lines are to be judged one by one.
        UsageError: like ``map_jsonl``.
    """
    made, bad = [], []
    try:
        rows = parse_rows(path.read_bytes())
    except ValueError as error:
        raise _OtherForm from error
    for place, row in rows:
        try:
            if not isinstance(row, dict):
                raise row if isinstance(row, ValueError) else ValueError("not a JSON object")
            made.append(make(row))
        except ValueError as error:
            bad.append(f"{path}: {place}: {error}")
    _refuse(path, bad)
    return made


def _refuse(path: Path, bad: Sequence[str]) -> None:
    if bad:
        more = [f"{path}: {len(bad) - _SHOWN} more bad lines"] if len(bad) > _SHOWN else []
        raise UsageError("\n".join([*bad[:_SHOWN], *more]))


def finite(value: Any) -> Any:
    """The value with None for every NaN and infinity in it, so that every JSON reader opens the file."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def dump_line(row: Mapping[str, Any]) -> bytes:
    """One complete line. Raises ValueError for NaN and infinities; ``finite`` replaces them."""
    return json.dumps(row, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def parse_line(line: bytes) -> dict[str, Any]:
    """The JSON object of one line. Raises ValueError with the reason."""
    try:
        row = json.loads(line, parse_constant=refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg}, column {error.colno})") from error
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


@contextmanager
def explain_full_disk(directory: Path) -> Iterator[None]:
    """Turn the error of a write into ``directory`` into a UsageError when the disk is full or something is in the way.

    Other errors are passed on.

    ``torch.save`` hides the reason in a RuntimeError, so the free space is looked up; safetensors puts it in its text.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        stated = any(f"os error {number}" in str(error) for number in FULL)
        hidden = isinstance(error, RuntimeError) and shutil.disk_usage(directory).free < LEFT_OVER
        if stated or hidden or (isinstance(error, OSError) and error.errno in FULL):
            raise UsageError(
                f"hydra.run.dir: {directory}: no space left on its disk; make room, or give another directory"
            ) from error
        place = error.filename if isinstance(error, OSError) and error.errno in IN_THE_WAY else None
        if isinstance(place, str | Path) and Path(place).absolute().is_relative_to(directory.absolute()):
            raise UsageError(
                f"{place}: {error.strerror}; move away what is there, or give another hydra.run.dir"  # type: ignore[union-attr]
            ) from error
        raise


def refuse_constant(name: str) -> float:
    """For ``parse_constant`` of JSON: raises ValueError for NaN and infinities."""
    raise ValueError(f"{name} is not a JSON number")


def _torn(line: bytes) -> str:
    """The advice to add for a bad line without a line end; a valid object without one is accepted, not torn."""
    if line.endswith(b"\n"):
        return ""
    return "; cut off, its writer was stopped: delete this last line or write the file again"
