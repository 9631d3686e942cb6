"""The summary page and the figures of a training run, from its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ekipl.algorithm.metrics import sources_of
from ekipl.files import read_jsonl
from ekipl.report import plots
from ekipl.report.stats import Estimate
from ekipl.report.tables import Table, percent, percent_interval

MetricsRow = Mapping[str, Any]


def write_report(directory: Path, spending: Table | None, split: str | None = None, ended: str | None = None) -> str:
    """Draw ``curve.png`` and ``provenance.png``; return the summary as Markdown.

    Args:
        directory: of the run.
        spending: the table of the external models' cost; None: there was none.
        split: by whose accuracy the best checkpoint was kept; None: none was, and the first split decides.
        ended: why the run ended before its last step; None: it did not.
    """
    rows = read_jsonl(directory / "metrics.jsonl")
    evaluated = [row for row in rows if any(key.startswith("eval/") for key in row)]
    steps = [row for row in rows if "group/frac_zero_variance" in row]
    drawn = {
        "curve.png": plots.curve(directory / "curve.png", rows),
        "provenance.png": plots.provenance(directory / "provenance.png", rows),
    }
    parts = [_with_files(accuracy_table(evaluated, split), evaluated, directory, split, ended)] if evaluated else []
    parts += [_learning(steps)] if steps else []
    parts += [spending] if spending else []
    files = [name for name, is_there in drawn.items() if is_there] + ["model/"]
    files += [*(["adapter/"] if (directory / "adapter").is_dir() else []), "metrics.jsonl", "actions/"]
    return "\n".join([table.markdown() for table in parts] + [f"In {directory}: {', '.join(files)}", ""])


def accuracy_table(rows: Sequence[MetricsRow], split: str | None) -> Table:
    """The first, the best and the last evaluation of each split; ``split`` decides which is best, else the first."""
    first, best, last = rows[0], _best(rows, split), rows[-1]
    splits = _splits(last)
    shown = {f"step {first['step']}": first, f"best: step {best['step']}": best, f"step {last['step']}": last}
    notes = []
    if best in (first, last):
        del shown[f"best: step {best['step']}"]
    else:
        note = f"best by {split or splits[0]}; as the best of {len(rows)} evaluations it looks better than it is"
        notes.append(note)
    body = [[name, *(percent_interval(_estimate(row, name)) for row in shown.values())] for name in splits]
    return Table("Accuracy in percent (95 % interval)", ["split", *shown], body, notes)


def _with_files(
    table: Table, rows: Sequence[MetricsRow], directory: Path, split: str | None, ended: str | None
) -> Table:
    """The table with notes on the end of the run and on the checkpoint that is kept as the best."""
    step = _best(rows, split)["step"]
    kept = directory / "checkpoints" / f"step-{step}"
    notes = [f"ended before its last step: {ended}"] if ended else []
    if split and kept.is_dir():
        notes.append(f"the model of step {step}, the best by {split}: ekipl eval model.path={kept}")
    return replace(table, notes=[*table.notes, *notes])


def _splits(row: MetricsRow) -> list[str]:
    return [key.split("/")[1] for key in row if key.startswith("eval/") and key.endswith("/accuracy")]


def _best(rows: Sequence[MetricsRow], split: str | None) -> MetricsRow:
    key = f"eval/{split or _splits(rows[-1])[0]}/accuracy"
    return max(rows, key=lambda row: -1.0 if row.get(key) is None else float(row[key]))


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
