"""The schema of actions files: one JSON line per action.

``rollout``, ``external-sample`` and ``train`` write these files; ``passk`` and ``external=recorded`` read them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from ekipl.algorithm.types import Action, Finish, Group, Reward
from ekipl.errors import UsageError
from ekipl.files import dump_line, map_jsonl, parse_line
from ekipl.report.statement import Statement

SCHEMA = 1
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
        action: the action, with its reward if it was graded.
        sampling: ``model`` and the decoding settings.
        seed: the seed of the sample.
        kept: whether selection kept the action; None where there was no selection.
        advantage: the advantage of a kept action (Eq. 1).
        statement: what the problem says; None in files of older versions.
        refused: candidates of the problem that could not take part, counted by reason.
    """

    task: str
    split: str
    action: Action
    sampling: Sampling = field(default_factory=dict)
    seed: int = 0
    kept: bool | None = None
    advantage: float | None = None
    statement: Statement | None = None
    refused: Mapping[str, int] = field(default_factory=dict)


def records_of_group(
    group: Group, sampling: Mapping[str, Sampling], seed: int, statement: Statement | None = None
) -> Iterator[Record]:
    """One record for each offered action; ``sampling`` maps a source to its sampling settings."""
    advantages = dict(zip(group.kept, group.advantages, strict=True))
    task, split = group.problem.task, group.problem.split
    for i, action in enumerate(group.offered):
        chosen, how = (i in advantages, advantages.get(i)), sampling.get(action.source, {})
        yield Record(task, split, action, how, seed, *chosen, statement, group.refused)


def write_actions(path: Path, records: Iterable[Record], *, append: bool = False) -> int:
    """Write records as the iterator yields them; returns their number.

    The file is ``NAME.partial`` until it is complete. It stays after an exception or a kill, because its actions may
    have cost money. ``append`` goes on with a partial file that is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    count = 0
    with partial.open("ab" if append else "wb") as file:
        for record in records:
            file.write(line_of(record))
            file.flush()
            count += 1
        os.fsync(file.fileno())
    partial.replace(path)
    return count


def actions_file(path: str | Path) -> Path:
    """The actions file at ``path``: the file itself, or ``actions.jsonl`` in a run directory."""
    given = Path(path).expanduser()
    return given / "actions.jsonl" if given.is_dir() else given


def read_actions(path: Path) -> list[Record]:
    """The records of a file, in file order.

    Texts are read as they were written, with one exception: a high surrogate directly before a low one is read as the
    character that the pair encodes (JSON has one spelling for both).

    Raises:
        UsageError: the file cannot be read, its last line is cut off, or lines are not records.
    """
    return map_jsonl(path, _record)


def map_actions(path: Path, make: Callable[[Record], T]) -> list[T]:
    """``make(record)`` for every record, for files too large to hold. Raises UsageError like ``read_actions``."""
    return map_jsonl(path, lambda row: make(_record(row)))


def stream_actions(path: Path) -> Iterator[Record]:
    """The records of a file one at a time, for files larger than memory. Raises UsageError at one that is none."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    if line.strip():
                        yield _record(parse_line(line))
                except ValueError as error:
                    raise UsageError(f"{path}:{number}: {error}; write the file again") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give a JSONL file that a command of ekipl wrote") from error


def line_of(record: Record) -> bytes:
    """The line of a record. Raises ValueError for numbers that are not finite."""
    action, reward = record.action, record.action.reward
    row = {
        "schema": SCHEMA,
        "problem": action.problem_id,
        "task": record.task,
        "split": record.split,
        **_statement_row(record.statement),
        "source": action.source,
        "index": action.index,
        "text": action.text,
        "finish": action.finish,
        "tokens": action.tokens,
        "logprobs": action.logprobs,
        "reward": reward and _reward_row(reward),
        "kept": record.kept,
        "advantage": record.advantage,
        **({"refused": dict(record.refused)} if record.refused else {}),
        "sampling": dict(record.sampling),
        "seed": record.seed,
    }
    try:
        return dump_line(row)
    except ValueError as error:
        who = f"action {action.index} of {action.source} for {action.problem_id}"
        raise ValueError(f"{who}: {error} ({reward})") from error


def _reward_row(reward: Reward) -> dict[str, Any]:
    row = {"format": reward.format, "accuracy": reward.accuracy, "detail": dict(reward.detail)}
    return row if reward.weighed is None else {**row, "parts": dict(reward.parts), "total": reward.weighed}


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
        statement=None if row.get("question") is None else _statement(row),
        refused={key: _is(count, key, int) for key, count in _get({"refused": {}, **row}, "refused", dict).items()},
    )


def _statement_row(statement: Statement | None) -> dict[str, Any]:
    if statement is None:
        return {}
    said = {"question": statement.question, "answer": statement.answer, "family": statement.family}
    return {**said, "images": list(statement.images)}


def _statement(row: Mapping[str, Any]) -> Statement:
    family = None if row.get("family") is None else _get(row, "family", str)
    images = _tuple(row, "images", str) or ()
    return Statement(_get(row, "question", str), _get(row, "answer", str), family, images)


def _reward(row: Mapping[str, Any]) -> Reward:
    detail, parts = (
        {key: _get(scores, key, float) for key in scores}
        for scores in (_get(row, "detail", dict), _get(row, "parts", dict) if "parts" in row else {})
    )
    weighed = _get(row, "total", float) if "total" in row else None
    return Reward(_get(row, "format", float), _get(row, "accuracy", float), detail, parts, weighed)


def _tuple(row: Mapping[str, Any], key: str, kind: type[T]) -> tuple[T, ...] | None:
    if row.get(key) is None:
        return None
    items = _get(row, key, list)
    if set(map(type, items)) <= {kind} and (kind is not float or all(map(math.isfinite, items))):
        return tuple(items)  # most lines: no look at each item in turn
    return tuple(_is(item, key, kind) for item in items)


def _get(row: Mapping[str, Any], key: str, kind: type[T]) -> T:
    if key not in row:
        raise ValueError(f"{key}: missing")
    return _is(row[key], key, kind)


def _is(value: Any, key: str, kind: type[T]) -> T:
    """The value, if it has exactly this type: True is no number; an integer below 2**53 may stand for a float."""
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{key}: {repr(value)[:60]} is not {_KINDS[kind]}")
    return value
