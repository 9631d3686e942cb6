"""The published results of the benchmark, among which measured ones are shown (data: ``published.json``).

Averages over splits are left out, since the published ones follow several formulas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ekipl.report.evaluate import Evaluation
from ekipl.report.tables import Table, percent_interval


def published(task: str) -> dict[str, Any] | None:
    """``splits``, ``rows`` (percent by model, one number a split) and ``notes`` of the task; None for other tasks."""
    tasks = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))["tasks"]
    found: dict[str, Any] | None = tasks.get(task)
    return found


def published_tables(task: str, evaluations: Mapping[str, Evaluation], reward: str) -> list[Table]:
    """The published rows of the task with the measured ones below, split by split; empty for other tasks.

    Args:
        task: its name.
        evaluations: by model.
        reward: name of the grader that gave their accuracies.
    """
    known = published(task)
    if known is None:
        return []
    splits = known["splits"]
    rows = [[name, "published", *(f"{value:.2f}" for value in row)] for name, row in known["rows"].items()]
    for model, evaluation in evaluations.items():
        found = {result.split: result.total for result in evaluation.splits}
        details = dict.fromkeys(name for part in found.values() for name in part.detail)
        for name in (reward, *details):
            scores = {s: part.accuracy if name == reward else part.detail.get(name) for s, part in found.items()}
            cells = (percent_interval(score) if (score := scores.get(split)) else "-" for split in splits)
            rows.append([model, f"measured, {name}", *cells])
    notes = ["averages over splits are not set here: the published ones follow several formulas", *known["notes"]]
    return [Table(f"{task}: among the published results (percent)", ["model", "", *splits], rows, notes)]
