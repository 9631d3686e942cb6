"""The summary page and the figures of a training run, from its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ekipl.algorithm.metrics import sources_of
from ekipl.files import read_jsonl
from ekipl.report import plots
from ekipl.report.stats import Estimate
from ekipl.report.tables import Table, percent, percent_interval

MetricsRow = Mapping[str, Any]


def write_report(directory: Path, spending: Table | None) -> str:
    """Draw ``curve.png`` and ``provenance.png``; return the summary as Markdown, with the table of ``spending``."""
    rows = read_jsonl(directory / "metrics.jsonl")
    evaluated = [row for row in rows if any(key.startswith("eval/") for key in row)]
    steps = [row for row in rows if "group/frac_zero_variance" in row]
    drawn = {
        "curve.png": plots.curve(directory / "curve.png", rows),
        "provenance.png": plots.provenance(directory / "provenance.png", rows),
    }
    parts = [_accuracy(evaluated)] if evaluated else []
    parts += [_learning(steps)] if steps else []
    parts += [spending] if spending else []
    files = [name for name, is_there in drawn.items() if is_there] + ["model/"]
    files += [*(["adapter/"] if (directory / "adapter").is_dir() else []), "metrics.jsonl", "actions/"]
    return "\n".join([table.markdown() for table in parts] + [f"In {directory}: {', '.join(files)}", ""])


def _accuracy(rows: Sequence[MetricsRow]) -> Table:
    """The first and the last evaluation of each split."""
    first, last = rows[0], rows[-1]
    splits = [k.split("/")[1] for k in last if k.startswith("eval/") and k.endswith("/accuracy")]
    body = [
        [split, percent_interval(_estimate(first, split)), percent_interval(_estimate(last, split))] for split in splits
    ]
    header = ["split", f"step {first['step']}", f"step {last['step']}"]
    return Table("Accuracy in percent (95 % interval)", header, body)


def _estimate(row: MetricsRow, split: str) -> Estimate:
    def number(key: str) -> float:
        value = row.get(f"eval/{split}/{key}")
        return float("nan") if value is None else float(value)

    return Estimate(number("accuracy"), number("accuracy_low"), number("accuracy_high"))


def _learning(rows: Sequence[MetricsRow]) -> Table:
    """Accuracies, shares and groups without gradient, over the first and the last fifth of the steps."""
    size = max(1, len(rows) // 5)
    early, late = rows[:size], rows[-size:]
    names = {"group/frac_zero_variance": "groups without gradient"}
    for source in dict.fromkeys(source for row in rows for source in sources_of(row)):
        names |= {f"reward/accuracy/{source}": f"accuracy, {source}", f"share/kept/{source}": f"share kept, {source}"}
    body = [[name, percent(_mean(early, key)), percent(_mean(late, key))] for key, name in names.items()]
    span = "step" if size == 1 else f"{size} steps"
    header = ["percent", f"first {span}", f"last {span}"]
    return Table("Training", header, body, [f"{fmean(row['time/step'] for row in rows):.2f} s a step"])


def _mean(rows: Sequence[MetricsRow], key: str) -> float:
    values = [row[key] for row in rows if row.get(key) is not None]
    return fmean(values) if values else float("nan")
