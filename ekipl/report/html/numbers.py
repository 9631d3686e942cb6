"""Numbers of a training for the page: columns of metrics, the result in a sentence, tables."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from ekipl.report.html.parts import Run, Shown
from ekipl.report.stats import Estimate, mean_intervals, paired_difference
from ekipl.report.tables import percent_interval, points

POINTS = 1_000  # of a curve; more rows are averaged

SPLITS = {"id": "in distribution", "ood": "out of distribution"}


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The metrics of training steps by name; of many rows means of ``width`` neighbours each."""
    steps = [row for row in rows if "group/frac_zero_variance" in row]
    width = max(1, math.ceil(len(steps) / POINTS))
    blocks = [steps[start : start + width] for start in range(0, len(steps), width)]
    names = list(
        dict.fromkeys(name for row in steps for name in row if name != "step" and not name.startswith("eval/"))
    )
    values = {name: [_mean(row.get(name) for row in block) for block in blocks] for name in names}
    return {"width": width, "step": [block[-1]["step"] for block in blocks], "values": values}


def _mean(values: Any) -> float | None:
    known = [value for value in values if isinstance(value, int | float)]
    return float(f"{fmean(known):.5g}") if known else None


def evaluated(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of steps that were evaluated."""
    return [row for row in rows if any(key.startswith("eval/") and key.endswith("/accuracy") for key in row)]


def splits_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The splits that were evaluated, in order of appearance."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("eval/") and key.endswith("/accuracy"))
    return [key.split("/")[1] for key in keys]


def estimate(row: Mapping[str, Any], split: str) -> Estimate:
    """Accuracy of a split at a step."""
    values = (row.get(f"eval/{split}/{key}") for key in ("accuracy", "accuracy_low", "accuracy_high"))
    return Estimate(*(math.nan if value is None else float(value) for value in values))


def curves(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Accuracy of each split over the training problems seen."""
    found = []
    for split in splits_of(rows):
        measured = [row for row in evaluated(rows) if row.get(f"eval/{split}/accuracy") is not None]
        bands = [plain_estimate(estimate(row, split)) for row in measured]
        x = [[row["step"], row.get("progress/problems")] for row in measured]
        found.append({"split": split, "at": x, "estimates": bands})
    return found


def plain_estimate(value: Estimate) -> list[float | None]:
    """Mean, low and high for JSON."""
    return [None if math.isnan(number) else round(number, 5) for number in value]


def best_step(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The evaluation with the highest accuracy on the first split; of equal ones the earliest."""
    measured = evaluated(rows)
    first = next(iter(splits_of(rows)), None)
    known = [row for row in measured if first and row.get(f"eval/{first}/accuracy") is not None]
    return max(known, key=lambda row: (row[f"eval/{first}/accuracy"], -row["step"]), default=None)


def results(run: Run) -> list[dict[str, Any]]:
    """Of each split the accuracy at the first, best and last evaluation, and the paired gain of last over first."""
    rows = evaluated(run.rows)
    best = best_step(run.rows)
    if len(rows) < 1 or best is None:
        return []
    first, last = rows[0], rows[-1]
    gains = {}
    names = [f"step {row['step']}" for row in (first, last)]
    if len(rows) > 1 and all(name in run.points for name in names):
        gains = paired(run.points[names[0]](), run.points[names[1]]())
    found = []
    for split in splits_of(run.rows):
        told = {
            name: plain_estimate(estimate(row, split)) for name, row in zip("abc", (first, best, last), strict=True)
        }
        gain = gains.get(split)
        shared = None if gain is None else [plain_estimate(gain[0]), gain[1]]
        at = [row["step"] for row in (first, best, last)]
        found.append(
            {"split": split, "at": at, "first": told["a"], "best": told["b"], "last": told["c"], "gain": shared}
        )
    return found


def paired(first: Iterable[Shown], second: Iterable[Shown]) -> dict[str, tuple[Estimate, int]]:
    """second - first in accuracy by split, over the problems that both have graded answers to, and their number."""
    a, b = ({shown.key: shown for shown in part if shown.accuracy is not None} for part in (first, second))
    shares: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key in a.keys() & b.keys():
        shares[a[key].split].append((a[key].accuracy or 0.0, b[key].accuracy or 0.0))
    tables = {split: np.array(sorted(pairs)) for split, pairs in shares.items()}  # (P, 2)
    return {split: (paired_difference(both[:, 0], both[:, 1]), len(both)) for split, both in tables.items()}


def sentence(run: Run) -> str:
    """The result of a training in words."""
    parts = []
    for result in results(run):
        first, last = (_estimate(result[name]) for name in ("first", "last"))
        where = SPLITS.get(result["split"], f"on {result['split']}")
        start, _, end = result["at"]
        if start == end:
            parts.append(f"{where} {percent_interval(last)} % at step {end}")
            continue
        gain = f", a change of {points(_estimate(result['gain'][0]))} points" if result["gain"] else ""
        parts.append(f"{where} from {percent_interval(first)} to {percent_interval(last)} %{gain}")
    if not parts:
        return ""
    text = "; ".join(parts)
    return f"Accuracy {text} (95 % intervals over problems)."


def _estimate(values: Sequence[float | None]) -> Estimate:
    return Estimate(*(math.nan if value is None else value for value in values))


def tail_mean(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """The mean of a metric over the last fifth of the training steps."""
    steps = [row for row in rows if "group/frac_zero_variance" in row]
    return _mean(row.get(key) for row in steps[-max(1, len(steps) // 5) :]) if steps else None


def breakdown(name: str, shown: Iterable[Shown]) -> list[list[Any]]:
    """Rows of name, split, family, problems and accuracy with its interval; without family first those of a split."""
    parts: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    for one in shown:
        if (accuracy := one.accuracy) is not None:
            parts[one.split, None].append(accuracy)
            if one.statement is not None and one.statement.family is not None:
                parts[one.split, one.statement.family].append(accuracy)
    found = []
    for (split, family), shares in sorted(parts.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        (share,) = mean_intervals([[value] for value in shares])
        found.append([name, split, family, len(shares), plain_estimate(share)])
    return found
