"""Evaluations as tables and as files: ``scores.json``, ``scores.jsonl`` and ``table.md``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ekipl.evaluate import Evaluation, Part, Summary, compare
from ekipl.records import write_json, write_jsonl, write_text
from ekipl.stats import Estimate
from ekipl.tables import Table, number, percent, percent_interval, points

PACKAGES = ("ekipl", "torch", "transformers", "numpy", "pillow", "math-verify")

Evaluations = Mapping[str, Evaluation]  # by model, the first is the one that others are compared with


def accuracy_table(title: str, evaluations: Evaluations, notes: Sequence[str] = ()) -> Table:
    """A row for each model and split; completions that could not be graded are told below, before ``notes``."""
    rows = list(_rows(evaluations))
    details = list(dict.fromkeys(key for _, summary in rows for key in summary.detail))
    header = ["model", "split", "problems", "accuracy %", "format %", *(f"{key} %" for key in details)]
    ungraded = [f"{model}, {summary.split}: {_ungraded(summary)}" for model, summary in rows if summary.reasons]
    return Table(
        f"{title} (95 % interval)",
        [*header, "cut off %", "tokens", "errors"],
        [[model, *_cells(summary, details)] for model, summary in rows],
        [*ungraded, *notes],
    )


def write_scores(
    directory: Path, title: str, evaluations: Evaluations, meta: Mapping[str, Any], beside: Sequence[Table] = ()
) -> list[Table]:
    """Write the three files; returns the tables of ``table.md`` but the longest, that of the families.

    ``beside`` are further tables to show after the accuracies.
    """
    shown = [accuracy_table(title, evaluations), *_against_first(evaluations), *beside]
    shown += _breakdown("kind of answer", evaluations, lambda summary: summary.kinds)
    families = _breakdown("family", evaluations, lambda summary: summary.families)
    lines = ({"model": model, **score.as_row()} for model, e in evaluations.items() for score in e.scores)
    write_jsonl(directory / "scores.jsonl", lines)
    splits = [{"model": model, **as_dict(summary)} for model, summary in _rows(evaluations)]
    write_json(directory / "scores.json", {"splits": splits, "differences": _differences(evaluations), "meta": meta})
    write_text(directory / "table.md", "\n".join(table.markdown() for table in (*shown, *families)))
    return shown


def as_dict(summary: Summary) -> dict[str, Any]:
    """A split's entry in ``scores.json``."""
    return {
        "split": summary.split,
        **_part_dict(summary.total),
        "samples": summary.samples,
        "format": summary.format,
        "detail": dict(summary.detail),
        "truncated": summary.truncated,
        "length": summary.length,
        "kinds": {name: _part_dict(part) for name, part in summary.kinds.items()},
        "families": {name: _part_dict(part) for name, part in summary.families.items()},
        "error_reasons": dict(summary.reasons),
    }


def versions() -> dict[str, str]:
    """Of the packages that can change a score, where installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _rows(evaluations: Evaluations) -> Iterator[tuple[str, Summary]]:
    return ((model, summary) for model, evaluation in evaluations.items() for summary in evaluation.splits)


def _cells(summary: Summary, details: Sequence[str]) -> list[str]:
    return [
        summary.split,
        str(summary.total.problems),
        percent_interval(summary.total.accuracy),
        percent(summary.format),
        *(percent(summary.detail.get(key, math.nan)) for key in details),
        percent(summary.truncated),
        number(summary.length),
        str(summary.total.errors),
    ]


def _ungraded(summary: Summary) -> str:
    """What the reader must know of completions that are in no mean."""
    reasons = ", ".join(f"{count} x {reason}" for reason, count in Counter(summary.reasons).most_common(3))
    return f"{summary.total.errors} of {summary.samples} completions could not be graded and are in no mean ({reasons})"


def _breakdown(what: str, evaluations: Evaluations, parts: Callable[[Summary], Mapping[str, Part]]) -> list[Table]:
    rows = [
        [model, summary.split, name, str(part.problems), percent_interval(part.accuracy), str(part.errors)]
        for model, summary in _rows(evaluations)
        for name, part in parts(summary).items()
    ]
    header = ["model", "split", what, "problems", "accuracy %", "errors"]
    return [Table(f"By {what}", header, rows)] if rows else []


def _part_dict(part: Part) -> dict[str, Any]:
    return {"problems": part.problems, "errors": part.errors, "accuracy": part.accuracy._asdict()}


def _differences(evaluations: Evaluations) -> list[dict[str, Any]]:
    """Each further model - the first, by split."""
    models = list(evaluations)
    return [
        {"model": model, "against": models[0], "split": split, "accuracy": difference._asdict()}
        for model in models[1:]
        for split, difference in compare(evaluations[models[0]], evaluations[model]).items()
    ]


def _against_first(evaluations: Evaluations) -> list[Table]:
    rows = [[row["model"], row["split"], points(Estimate(**row["accuracy"]))] for row in _differences(evaluations)]
    title = f"Accuracy against {next(iter(evaluations), '')} (points, paired by problem, 95 % interval)"
    return [Table(title, ["model", "split", "difference"], rows)] if rows else []
