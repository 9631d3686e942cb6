"""Grade completions that anything has written: no model, no image, no data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from ekipl.algorithm.seams import Grader
from ekipl.algorithm.types import AnswerKind, Problem, Reward
from ekipl.data.problems import refuse
from ekipl.errors import GraderError, UsageError
from ekipl.files import atomic_write, dump_line, parse_line

Gold = Callable[[Mapping[str, Any], str], tuple[str, AnswerKind]]


def score_predictions(path: Path, task: str, gold: Gold, grade: Grader, out_dir: Path) -> dict[str, Any]:
    """Grade a JSONL file of rows ``{"id", "answer", "completion"}`` and write ``out_dir/scores.jsonl``.

    A row may state the ``kind`` of its answer, and give its question as ``problem`` and its ``scene``; ids may repeat
    (several completions of one problem). The written rows have ``id``, ``format``, ``accuracy``, ``error`` and, where
    the grader reports them, ``exact`` and ``partial``, in the order of the file; what cannot be graded, for its gold
    answer or its completion, has null scores and says why.

    Args:
        path: the file.
        task: its name.
        gold: the gold answer of a row with this question, and its kind; raises ValueError where there is none.
        grade: the reward.
        out_dir: of ``scores.jsonl``.

    Returns:
        ``rows``, ``errors``, and the means over the graded rows (null without any): ``format``, ``accuracy``, what else
        the grader reports, and ``kinds`` with rows and accuracy of each kind of answer.

    Raises:
        UsageError: the file cannot be read, or lines in it are no such rows; nothing is written.
    """
    rows = _read(path)
    graded: list[tuple[AnswerKind, Reward]] = []
    with atomic_write(out_dir / "scores.jsonl") as file:
        for row in rows:
            scores: dict[str, Any] = {"id": row["id"], "format": None, "accuracy": None, "error": None}
            try:
                problem = _problem(row, task, gold)
                reward = grade(problem, row["completion"])
            except (_NoGold, GraderError) as error:
                scores["error"] = str(error)
            else:
                scores |= {"format": reward.format, "accuracy": reward.accuracy, **reward.detail}
                graded.append((problem.kind, reward))
            file.write(dump_line(scores))
    return {"rows": len(rows), "errors": len(rows) - len(graded), **_means(graded)}


class _NoGold(Exception):
    """A row without a gold answer that the task can have."""


def _problem(row: Mapping[str, Any], task: str, gold: Gold) -> Problem:
    question = str(row.get("problem", ""))
    try:
        answer, kind = gold(row, question)
    except ValueError as error:
        raise _NoGold(str(error)) from error
    metadata = {"scene": row["scene"]} if row.get("scene") else {}
    return Problem(str(row["id"]), task, "predictions", (), question, "", answer, kind, metadata)


def _means(graded: list[tuple[AnswerKind, Reward]]) -> dict[str, Any]:
    if not graded:
        return {"format": None, "accuracy": None, "kinds": {}}
    rewards = [reward for _, reward in graded]
    kinds: dict[str, list[float]] = {}
    for kind, reward in graded:
        kinds.setdefault(kind, []).append(reward.accuracy)
    return {
        "format": fmean(reward.format for reward in rewards),
        "accuracy": fmean(reward.accuracy for reward in rewards),
        **{name: fmean(reward.detail[name] for reward in rewards) for name in rewards[0].detail},
        "kinds": {kind: {"rows": len(scores), "accuracy": fmean(scores)} for kind, scores in sorted(kinds.items())},
    }


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"predictions: {path}: {error.strerror}; give a JSONL file") from error
    rows, faults = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(_row(line))
            except ValueError as error:
                faults.append(f"line {number}: {error}")
    refuse(f"predictions: {path}", faults)
    if not rows:
        raise UsageError(f"predictions: {path}: no rows; each line is an object with id, answer and completion")
    return rows


def _row(line: bytes) -> dict[str, Any]:
    row = parse_line(line)
    has = {**row, "answer": row.get("solution") if row.get("answer") is None else row["answer"]}
    faults = [f"{field}: missing" for field in ("id", "answer", "completion") if has.get(field) is None]
    faults += [] if isinstance(row.get("completion", ""), str | None) else ["completion: not a text"]
    if faults:
        raise ValueError("; ".join(faults))
    return row
