"""Evaluations as tables and as files: ``scores.json``, ``scores.jsonl`` and ``table.md``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ekipl.files import write_json, write_jsonl, write_text
from ekipl.report.evaluate import Evaluation, Part, SplitResult, compare
from ekipl.report.stats import Estimate
from ekipl.report.tables import Table, number, percent, percent_interval, points

PACKAGES = ("ekipl", "torch", "transformers", "numpy", "pillow", "math-verify")

NOTHING = Estimate(math.nan, math.nan, math.nan)

Evaluations = Mapping[str, Evaluation]  # by model; the others are compared with the first


def accuracy_table(title: str, evaluations: Evaluations, notes: Sequence[str] = ()) -> Table:
    """A row for each model and split. The notes report completions that could not be graded, then ``notes``."""
    rows = list(_rows(evaluations))
    details = _details(summary.total for _, summary in rows)
    header = ["model", "split", "problems", "accuracy %", *(f"{name} %" for name in details)]
    ungraded = [f"{model}, {summary.split}: {line}" for model, summary in rows for line in _ungraded(summary)]
    return Table(
        f"{title} (95 % interval)",
        [*header, "format %", "cut off %", "tokens", "errors"],
        [[model, *_cells(summary, details)] for model, summary in rows],
        [*ungraded, *notes],
    )


def write_scores(
    directory: Path,
    title: str,
    evaluations: Evaluations,
    meta: Mapping[str, Any],
    further: Sequence[Table] = (),
    notes: Sequence[str] = (),
) -> list[Table]:
    """Write the three files; return the tables of ``table.md`` without that of the families, which is long.

    ``meta`` is the provenance in ``scores.json``, ``further`` are tables after those of the accuracies, and ``notes``
    stand below the first.
    """
    shown = [accuracy_table(title, evaluations, notes), *_against_first(evaluations), *_parts(evaluations), *further]
    shown += _breakdown("kind of answer", evaluations, lambda summary: summary.kinds)
    families = _breakdown("family", evaluations, lambda summary: summary.families)
    lines = ({"model": model, **score.as_row()} for model, e in evaluations.items() for score in e.scores)
    write_jsonl(directory / "scores.jsonl", lines)
    splits = [{"model": model, **as_dict(summary)} for model, summary in _rows(evaluations)]
    write_json(directory / "scores.json", {"splits": splits, "differences": _differences(evaluations), "meta": meta})
    write_text(directory / "table.md", "\n".join(table.markdown() for table in (*shown, *families)))
    return shown


def as_dict(summary: SplitResult) -> dict[str, Any]:
    """The entry of a split in ``scores.json``."""
    return {
        "split": summary.split,
        **_part_dict(summary.total),
        "samples": summary.samples,
        "format": summary.format,
        "truncated": summary.truncated,
        "length": summary.length,
        "kinds": {name: _part_dict(part) for name, part in summary.kinds.items()},
        "families": {name: _part_dict(part) for name, part in summary.families.items()},
        "error_reasons": dict(summary.reasons),
        "ungraded": dict(summary.ungraded),
        **({"parts": dict(summary.parts)} if summary.parts else {}),
    }


def versions() -> dict[str, str]:
    """Versions of the installed packages that can change a score."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _parts(evaluations: Evaluations) -> list[Table]:
    """The parts of the reward, on their own scales."""
    rows = [
        [model, summary.split, name, f"{mean:.4g}"]
        for model, summary in _rows(evaluations)
        for name, mean in summary.parts.items()
    ]
    title, header = "Parts of the reward (means, each on its own scale)", ["model", "split", "part", "mean"]
    return [Table(title, header, rows)] if rows else []


def _rows(evaluations: Evaluations) -> Iterator[tuple[str, SplitResult]]:
    return ((model, summary) for model, evaluation in evaluations.items() for summary in evaluation.splits)


def _details(parts: Iterable[Part]) -> list[str]:
    """Names of the scores other than the accuracy."""
    return list(dict.fromkeys(name for part in parts for name in part.detail))


def _scores(part: Part, details: Sequence[str]) -> list[str]:
    estimates = (part.accuracy, *(part.detail.get(name, NOTHING) for name in details))
    return [str(part.problems), *map(percent_interval, estimates)]


def _cells(summary: SplitResult, details: Sequence[str]) -> list[str]:
    return [
        summary.split,
        *_scores(summary.total, details),
        percent(summary.format),
        percent(summary.truncated),
        number(summary.length),
        str(summary.total.errors),
    ]


def _ungraded(summary: SplitResult) -> Iterator[str]:
    """Notes on completions that are in no mean."""
    if summary.reasons:
        yield (
            f"{summary.total.errors} of {summary.samples} completions could not be graded and are in no mean "
            f"({_most(summary.reasons)})"
        )
    if summary.ungraded:
        yield f"further graders could not grade all, and leave these out ({_most(summary.ungraded)})"


def _most(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in Counter(reasons).most_common(3))


def _breakdown(what: str, evaluations: Evaluations, parts: Callable[[SplitResult], Mapping[str, Part]]) -> list[Table]:
    found = [
        (model, summary.split, name, part)
        for model, summary in _rows(evaluations)
        for name, part in parts(summary).items()
    ]
    details = _details(part for *_, part in found)
    header = ["model", "split", what, "problems", "accuracy %", *(f"{name} %" for name in details), "errors"]
    rows = [[model, split, name, *_scores(part, details), str(part.errors)] for model, split, name, part in found]
    return [Table(f"By {what}", header, rows)] if rows else []


def _part_dict(part: Part) -> dict[str, Any]:
    return {"problems": part.problems, "errors": part.errors, **_estimates({"accuracy": part.accuracy, **part.detail})}


def _estimates(scores: Mapping[str, Estimate]) -> dict[str, Any]:
    """The accuracy, and the other scores under ``detail``."""
    accuracy, *others = ((name, estimate._asdict()) for name, estimate in scores.items())
    return {"accuracy": accuracy[1], "detail": dict(others)}


def _against(evaluations: Evaluations) -> Iterator[tuple[str, str, Mapping[str, Estimate]]]:
    """Differences of each further model - the first one, by split."""
    first, *others = evaluations
    for model in others:
        for split, scores in compare(evaluations[first], evaluations[model]).items():
            yield model, split, scores


def _differences(evaluations: Evaluations) -> list[dict[str, Any]]:
    first = next(iter(evaluations))
    return [
        {"model": model, "against": first, "split": split, **_estimates(scores)}
        for model, split, scores in _against(evaluations)
    ]


def _against_first(evaluations: Evaluations) -> list[Table]:
    found = list(_against(evaluations))
    names = list(dict.fromkeys(name for *_, scores in found for name in scores))
    rows = [[model, split, *(points(scores.get(name, NOTHING)) for name in names)] for model, split, scores in found]
    title = f"Against {next(iter(evaluations))} (points, paired by problem, 95 % interval)"
    return [Table(title, ["model", "split", *names], rows)] if rows else []
