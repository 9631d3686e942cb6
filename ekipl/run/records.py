"""Actions on disk: one JSON line an action, the contract between the commands.

``rollout``, ``external-sample`` and ``train`` write these files; ``passk`` and ``external=recorded`` read them.
Lines are pure ASCII, everything else is escaped: NUL, U+2028 and lone surrogates in a model's text can neither split a
line nor fail to be written.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast, get_args

from ekipl.algorithm.types import Action, Finish, Group, Reward
from ekipl.errors import UsageError

SCHEMA = 1
_SHOWN = 10  # bad lines named in one error
_KINDS: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}

Sampling = Mapping[str, str | int | float]
T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """One line of an actions file.

    Attributes:
        task: the task's name.
        split: the problem's split; problem ids are unique within it.
        action: with its reward, if it was scored.
        sampling: how it was sampled: ``model`` and the decoding settings.
        seed: the seed of the draw.
        kept: whether selection kept it; None where nothing was selected.
        advantage: of a kept action (Eq. 1).
    """

    task: str
    split: str
    action: Action
    sampling: Sampling = field(default_factory=dict)
    seed: int = 0
    kept: bool | None = None
    advantage: float | None = None


def records_of_group(group: Group, sampling: Mapping[str, Sampling], seed: int) -> Iterator[Record]:
    """One record for each action offered; ``sampling`` is looked up by source."""
    advantages = dict(zip(group.kept, group.advantages, strict=True))
    task, split = group.problem.task, group.problem.split
    for i, action in enumerate(group.offered):
        yield Record(task, split, action, sampling.get(action.source, {}), seed, i in advantages, advantages.get(i))


def write_actions(path: Path, records: Iterable[Record]) -> int:
    """Writes records as they come and returns their number; the file takes its name only when it is complete.

    Until then it is ``NAME.partial``, which stays after an exception or a kill: its actions may have cost money.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    count = 0
    with partial.open("wb") as file:
        for record in records:
            file.write(_line(record))
            file.flush()
            count += 1
        os.fsync(file.fileno())
    partial.replace(path)
    return count


def actions_file(path: str | Path) -> Path:
    """The actions file that a setting means: itself, or ``actions.jsonl`` in a run folder."""
    given = Path(path).expanduser()
    return given / "actions.jsonl" if given.is_dir() else given


def read_actions(path: Path) -> list[Record]:
    """The records of a file, in its order.

    Every text comes back as it was, with one exception: a high surrogate directly before a low one comes back as the
    one character that the pair stands for (JSON has one spelling for both).

    Raises:
        UsageError: the file cannot be read, its last line is cut off, or lines are not records (all named together).
    """
    return _read(path, _record)


def map_actions(path: Path, make: Callable[[Record], T]) -> list[T]:
    """``make`` of every record, for files too large to hold. Raises UsageError like ``read_actions``."""
    return _read(path, lambda row: make(_record(row)))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of any JSONL file. Raises UsageError like ``read_actions``."""
    return _read(path, lambda row: row)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A new binary file that takes the name ``path`` when the block ends well; otherwise the name keeps what it had."""
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


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file at once, in UTF-8 (a lone surrogate becomes "?")."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="replace"))


def write_json(path: Path, value: Any) -> None:
    """Writes a whole JSON file at once; NaN and infinities become null."""
    write_text(path, json.dumps(finite(value), indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a whole JSONL file at once; NaN and infinities become null."""
    with atomic_write(path) as file:
        file.writelines(dump_line(finite(row)) for row in rows)


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
    """One complete line. Raises ValueError for NaN and infinities: what may hold them goes through ``finite`` first."""
    return json.dumps(row, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def parse_line(line: bytes) -> dict[str, Any]:
    """The JSON object of one line. Raises ValueError with the reason."""
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg}, column {error.colno})") from error
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _read(path: Path, make: Callable[[dict[str, Any]], T]) -> list[T]:
    """What ``make`` makes of every line, or one error that names the bad lines."""
    made, bad = [], []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    made += [make(parse_line(line))] if line.strip() else []
                except ValueError as error:
                    bad.append(f"{path}:{number}: {error}{_torn(line)}")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give a JSONL file that a command of ekipl wrote") from error
    if bad:
        more = [f"{path}: {len(bad) - _SHOWN} more bad lines"] if len(bad) > _SHOWN else []
        raise UsageError("\n".join(bad[:_SHOWN] + more))
    return made


def _torn(line: bytes) -> str:
    """What else to say of a bad line without its end; a whole object without one is a hand-made file's, and not bad."""
    if line.endswith(b"\n"):
        return ""
    return "; cut off, its writer was stopped: delete this last line or write the file again"


def _line(record: Record) -> bytes:
    action, reward = record.action, record.action.reward
    row = {
        "schema": SCHEMA,
        "problem": action.problem_id,
        "task": record.task,
        "split": record.split,
        "source": action.source,
        "index": action.index,
        "text": action.text,
        "finish": action.finish,
        "tokens": action.tokens,
        "logprobs": action.logprobs,
        "reward": reward and {"format": reward.format, "accuracy": reward.accuracy, "detail": dict(reward.detail)},
        "kept": record.kept,
        "advantage": record.advantage,
        "sampling": dict(record.sampling),
        "seed": record.seed,
    }
    try:
        return dump_line(row)
    except ValueError as error:
        who = f"action {action.index} of {action.source} for {action.problem_id}"
        raise ValueError(f"{who}: {error} ({reward})") from error


def _record(row: Mapping[str, Any]) -> Record:
    if row.get("schema") != SCHEMA:
        raise ValueError(f"schema {row.get('schema')!r}; this version of ekipl reads schema {SCHEMA}")
    finish = _get(row, "finish", str)
    if finish not in get_args(Finish):
        raise ValueError(f"finish {finish!r}: one of {', '.join(get_args(Finish))}")
    action = Action(
        problem_id=_get(row, "problem", str),
        source=_get(row, "source", str),
        index=_get(row, "index", int),
        text=_get(row, "text", str),
        finish=cast(Finish, finish),
        tokens=_tuple(row, "tokens", int),
        logprobs=_tuple(row, "logprobs", float),
        reward=None if row.get("reward") is None else _reward(_get(row, "reward", dict)),
    )
    return Record(
        task=_get(row, "task", str),
        split=_get(row, "split", str),
        action=action,
        sampling=_get(row, "sampling", dict),
        seed=_get(row, "seed", int),
        kept=None if row.get("kept") is None else _get(row, "kept", bool),
        advantage=None if row.get("advantage") is None else _get(row, "advantage", float),
    )


def _reward(row: Mapping[str, Any]) -> Reward:
    detail = _get(row, "detail", dict)
    scores = {key: _get(detail, key, float) for key in detail}
    return Reward(_get(row, "format", float), _get(row, "accuracy", float), scores)


def _tuple(row: Mapping[str, Any], key: str, kind: type[T]) -> tuple[T, ...] | None:
    if row.get(key) is None:
        return None
    return tuple(_is(item, key, kind) for item in _get(row, key, list))


def _get(row: Mapping[str, Any], key: str, kind: type[T]) -> T:
    if key not in row:
        raise ValueError(f"{key}: missing")
    return _is(row[key], key, kind)


def _is(value: Any, key: str, kind: type[T]) -> T:
    """The value, of exactly this type: True is no number; only an integer may stand for a float."""
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{key}: {repr(value)[:60]} is not {_KINDS[kind]}")
    return value
