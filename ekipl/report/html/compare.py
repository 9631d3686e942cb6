"""Runs side by side: what they were told, what they reached, and their differences over the same problems."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from ekipl.report.html.numbers import best_step, estimate, evaluated, paired, plain_estimate, splits_of, tail_mean
from ekipl.report.html.parts import Run, Shown

NO_SETTING = "-"
QUIET = ("hydra.", "report.")  # settings that say nothing about a result


def differing(runs: Sequence[Run]) -> list[list[str]]:
    """The settings that are not the same in all runs: the key, then the value of each.

    Where a section is of another kind, that is told, and not which of its keys the other kind does not have.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings if not key.startswith(QUIET))
    rows = {key: [str(run.settings.get(key, NO_SETTING)) for run in runs] for key in keys}
    found = {key: values for key, values in rows.items() if len(set(values)) > 1}
    kinds = {key.removesuffix("kind") for key in found if key.endswith(".kind")}
    return sorted([key, *values] for key, values in found.items() if not _is_absent(key, values, kinds))


def _is_absent(key: str, values: Sequence[str], kinds: Collection[str]) -> bool:
    return NO_SETTING in values and key.startswith(tuple(kinds))


def last_answers(run: Run) -> tuple[str, Iterable[Shown]]:
    """The answers of the last point of a run, and its name; none where the run kept none."""
    name = next(reversed([*run.points]), None)
    return ("", ()) if name is None else (name, run.points[name]())


def differences(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each further run against the first, by split: at their last evaluations, paired by problem."""
    if len(runs) < 2:
        return []
    first, answers = last_answers(runs[0])
    base = list(answers)
    found = []
    for run in runs[1:]:
        name, answers = last_answers(run)
        for split, (gain, shared) in sorted(paired(base, answers).items()):
            row = {"run": run.name, "at": name, "against": runs[0].name, "against_at": first, "split": split}
            found.append({**row, "problems": shared, "gain": plain_estimate(gain)})
    return found


def row_of(run: Run) -> dict[str, Any]:
    """A run in numbers; an accuracy is a list of mean, low and high."""
    row: dict[str, Any] = {}
    measured, best = evaluated(run.rows), best_step(run.rows)
    for split in splits_of(run.rows):
        row[f"{split} last"] = plain_estimate(estimate(measured[-1], split))
        row[f"{split} best"] = plain_estimate(estimate(best, split)) if best else None
    names = {
        "steps": run.rows[-1]["step"] if run.rows else None,
        "own share kept": tail_mean(run.rows, "share/kept/policy"),
        "no gradient": tail_mean(run.rows, "group/frac_zero_variance"),
        "own accuracy": tail_mean(run.rows, "reward/accuracy/policy"),
        "s a step": tail_mean(run.rows, "time/step"),
    }
    return row | names | {"USD": usd(run)}


def usd(run: Run) -> float | None:
    """US dollars of all external models; None where a price is unknown or nobody was asked."""
    costs = [model[-1] for model in run.spending]
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 6) if costs and len(known) == len(costs) else None


def sweep_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row a run: its name, what was swept, its numbers."""
    return [{"run": run.name, "swept": dict(run.swept), "numbers": row_of(run)} for run in runs]


def sweep_csv(runs: Sequence[Run]) -> str:
    """The table of a sweep as CSV; intervals have columns of their own."""
    rows = [_flat(row) for row in sweep_rows(runs)]
    header = list(dict.fromkeys(key for row in rows for key in row))
    text = StringIO()
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"run": row["run"], **row["swept"]}
    for key, value in row["numbers"].items():
        if isinstance(value, list):
            flat |= zip((key, f"{key} low", f"{key} high"), value, strict=True)
        else:
            flat[key] = value
    return flat


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets a quote before it."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(value):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        return bool(float(text)) or True
    except ValueError:
        return False
