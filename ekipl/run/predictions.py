"""Completions of any origin in a file of JSON lines or a JSON array, graded without a model, an image or a data set."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekipl.algorithm.grading import grade_all
from ekipl.algorithm.seams import Grader, Task
from ekipl.algorithm.types import Problem, Reward
from ekipl.data.gold import Gold, gold_as_it_stands, gold_of
from ekipl.data.problems import Unreadable, refuse
from ekipl.errors import UsageError
from ekipl.files import atomic_write, dump_line, parse_rows
from ekipl.report.predictions import GradedRow, write_predictions
from ekipl.report.tables import Table
from ekipl.reward.graders import PUBLISHED

if TYPE_CHECKING:
    from ekipl.config import Settings

Find = Callable[[Mapping[str, Any], str], Gold]  # of a row with this question; raises ValueError


def evaluate_predictions(settings: Settings, task: Task, grade: Grader, directory: Path) -> Table:
    """Grade ``settings.predictions``; write scores.jsonl, scores.json and table.md. Raises UsageError."""
    from ekipl.run import describe

    assert settings.predictions is not None
    path = Path(settings.predictions).expanduser()
    gold = partial(gold_as_it_stands if set(settings.rewards) <= set(PUBLISHED) else gold_of, task=task)
    total, graded = grade_predictions(path, task.name, gold, grade, directory)
    title = f"{task.name}: accuracy (95 % interval)"
    return write_predictions(directory, title, path.name, total, graded, describe.meta(settings))


def grade_predictions(path: Path, task: str, gold: Find, grade: Grader, out_dir: Path) -> tuple[int, list[GradedRow]]:
    """Grade rows ``{"id", "answer", "completion"}``, JSON lines or an array, and write ``out_dir/scores.jsonl``.

    A row may state the ``kind`` of its answer, and have its question as ``problem`` and its ``scene``. Ids may repeat:
    they are completions of one problem. The rows of ``scores.jsonl`` are in the order of the file and have ``id``,
    ``format``, ``accuracy``, ``error`` and the details of the reward. Tokens that end a turn are taken off the
    completions. A row that cannot be graded, because of its gold answer or its completion, has null scores and the
    reason as ``error``.

    Returns the number of rows, and those that were graded. Raises UsageError when the file cannot be read or has
    invalid lines; nothing is written then.
    """
    rows = _without_ends(path, _read(path))
    read = [_problem(row, task, gold) for row in rows]
    asked = [(one, row["completion"]) for one, row in zip(read, rows, strict=True) if isinstance(one, Problem)]
    rewards, graded = iter(grade_all(grade, asked)), []
    with atomic_write(out_dir / "scores.jsonl") as file:
        for row, one in zip(rows, read, strict=True):
            scores: dict[str, Any] = {"id": row["id"], "format": None, "accuracy": None, "error": None}
            got = next(rewards) if isinstance(one, Problem) else one
            if isinstance(one, Problem) and isinstance(got, Reward):
                scores |= {"format": got.format, "accuracy": got.accuracy, **got.detail}
                scores |= {"parts": dict(got.parts)} if got.parts else {}
                graded.append(GradedRow(json.dumps(row["id"]), one.kind, got))
            else:
                scores["error"] = str(got)
            file.write(dump_line(scores))
    unreadable = Unreadable()
    for problem, _ in asked:
        unreadable.note(problem)
    unreadable.say(f"predictions: {path}")
    return len(rows), graded


_ENDS = re.compile(  # of a turn or a text, in the families of models
    r"(?:\s*(?:<\|(?:im_end|endoftext|eot_id|end_of_text|end|eom_id|assistant_end|return)\|>|</s>|<eos>|<end_of_turn>"
    r"|<｜end▁of▁sentence｜>|\[EOS\]|<pad>|<\|pad\|>))+\s*\Z"
)
_LONGEST_ENDS = 400  # characters at the end that may be such tokens


def _without_ends(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without end-of-turn tokens behind their completions; the first such token is named once."""
    bare, seen = [], []
    for row in rows:
        text = row["completion"]
        found = _ENDS.search(text, max(0, len(text) - _LONGEST_ENDS))
        seen += [found[0].strip()] if found else []
        bare.append({**row, "completion": text[: found.start()]} if found else row)
    if seen:
        print(
            f"predictions: {path}: warning: {len(seen)} of {len(rows)} completions end in tokens such as {seen[0]}; "
            "they were taken off before grading",
            file=sys.stderr,
        )
    return bare


class _NoGold(Exception):
    """A row without a gold answer of a kind that the task has."""


def _problem(row: Mapping[str, Any], task: str, gold: Find) -> Problem | _NoGold:
    question = str(row.get("problem", ""))
    try:
        found = gold(row, question)
    except ValueError as error:
        return _NoGold(str(error))
    metadata = {"scene": row["scene"]} if row.get("scene") else {}
    metadata |= {"accepted": found.accepted} if found.accepted else {}
    return Problem(str(row["id"]), task, "predictions", (), question, "", found.answer, found.kind, metadata)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        found = parse_rows(path.read_bytes())
    except OSError as error:
        raise UsageError(f"predictions: {path}: {error.strerror}; give a JSONL file") from error
    except ValueError as error:
        raise UsageError(f"predictions: {path}: {error}") from error
    refuse(f"predictions: {path}", [f"{place}: {fault}" for place, row in found if (fault := _fault(row))])
    return [row for _, row in found]


def _fault(row: Any) -> str:
    """Why a row cannot be graded, "" when it can."""
    if not isinstance(row, dict):
        return str(row) if isinstance(row, ValueError) else "not a JSON object"
    has = {**row, "answer": row.get("solution") if row.get("answer") is None else row["answer"]}
    faults = [f"{field}: missing" for field in ("id", "answer", "completion") if has.get(field) is None]
    faults += [] if isinstance(row.get("completion", ""), str | None) else ["completion: not a text"]
    return "; ".join(faults)
