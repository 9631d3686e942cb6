"""Scores of a file of completions, as ``scores.json`` and a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from ekipl.algorithm.types import AnswerKind, Reward
from ekipl.files import write_json, write_text
from ekipl.report.stats import cluster_interval
from ekipl.report.tables import Table, percent, percent_interval


class GradedRow(NamedTuple):
    """A completion with its reward."""

    problem: str
    kind: AnswerKind
    reward: Reward


def write_predictions(
    directory: Path, title: str, name: str, total: int, graded: Sequence[GradedRow], meta: Mapping[str, Any]
) -> Table:
    """Write ``scores.json`` and ``table.md`` of a file of completions with ``total`` rows; return the table."""
    means, errors = summary(graded), total - len(graded)
    problems = len({row.problem for row in graded})
    accuracy = cluster_interval([row.reward.accuracy for row in graded], [row.problem for row in graded])
    counts = {"split": "predictions", "rows": total, "errors": errors}
    split = {**counts, **means, "problems": problems, "accuracy": accuracy._asdict()}
    write_json(directory / "scores.json", {"splits": [split], "meta": meta})
    others = {key: value for key, value in means.items() if key not in ("accuracy", "kinds")}
    header = ["file", "rows", "problems", "accuracy %", *(f"{key} %" for key in others), "errors"]
    shares = [percent(math.nan if value is None else value) for value in others.values()]
    kinds = means["kinds"] if len(means["kinds"]) > 1 else {}
    notes = [f"{kind}: {percent(part['accuracy'])} % of {part['rows']} rows" for kind, part in kinds.items()]
    if errors:
        notes.append(f"{errors} rows could not be graded and are in no mean: scores.jsonl says why")
    cells = [name, str(total), str(problems), percent_interval(accuracy), *shares, str(errors)]
    table = Table(title, header, [cells], notes)
    write_text(directory / "table.md", table.markdown())
    return table


def summary(graded: Sequence[GradedRow]) -> dict[str, Any]:
    """Means over the rows of ``format``, ``accuracy`` and the details; rows and accuracy by kind under ``kinds``.

    Without any row the means are None.
    """
    if not graded:
        return {"format": None, "accuracy": None, "kinds": {}}
    rewards = [row.reward for row in graded]
    details = dict.fromkeys(name for reward in rewards for name in reward.detail)
    kinds: dict[str, list[float]] = {}
    for row in graded:
        kinds.setdefault(row.kind, []).append(row.reward.accuracy)
    return {
        "format": fmean(reward.format for reward in rewards),
        "accuracy": fmean(reward.accuracy for reward in rewards),
        **{name: fmean(reward.detail[name] for reward in rewards if name in reward.detail) for name in details},
        "kinds": {kind: {"rows": len(scores), "accuracy": fmean(scores)} for kind, scores in sorted(kinds.items())},
    }
