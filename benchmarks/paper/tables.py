"""Finished cells as arrays over seeds and problems. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.cells import METHODS, Scale, cells, settings_hash
from benchmarks.paper.intervals import NOTHING, SHARE, needed, two_level
from benchmarks.paper.run import read_cell
from ekipl.report.passk import pass_at_k
from ekipl.report.stats import Estimate, Floats

CellFile = Mapping[str, Any]
COUNTS = {"accuracy": ("right", "samples"), "formed": ("formed", "samples"), "skill": ("skill", "skill_of")}


@dataclass(frozen=True)
class Runs:
    """The finished cells of one task: by method, by seed."""

    task: str
    by_method: Mapping[str, Mapping[int, CellFile]]

    @property
    def methods(self) -> list[str]:
        return [method for method in METHODS if self.by_method.get(method)]

    def seeds(self, *methods: str) -> list[int]:
        """Seeds that all these methods have."""
        shared = set.intersection(*(set(self.by_method.get(method, {})) for method in methods))
        return sorted(shared)

    def files(self, method: str, seeds: Sequence[int] | None = None) -> list[CellFile]:
        """The cells of a method in the order of their seeds."""
        own = self.by_method.get(method, {})
        return [own[seed] for seed in (sorted(own) if seeds is None else seeds)]


def load(folder: Path, scale: Scale, base: str) -> tuple[dict[str, Runs], list[str], tuple[int, int]]:
    """The cells of this scale, base model and chosen rates.

    Returns:
        The runs by task; a line for each file that is ignored; the numbers of cells found and of all.
    """
    found: dict[str, dict[str, dict[int, CellFile]]] = {}
    ignored, wanted, there = [], list(cells(scale)), 0
    chosen: dict[tuple[str, str], str | None] = {}
    for cell in wanted:  # the choices of a task come before its other cells
        file = read_cell(folder / f"{cell.name}.json")
        if file is None:
            continue
        if file["base"] != base:
            ignored.append(f"{cell.name}: of another base model")
            continue
        rate = chosen.get((cell.task, cell.method)) if cell.is_trained else None
        if file["settings"] != settings_hash(cell, rate, scale):
            ignored.append(f"{cell.name}: of other settings")
            continue
        there += 1
        if cell.seed is None:
            chosen[cell.task, cell.method] = file["choice"]["chosen"]
        else:
            found.setdefault(cell.task, {}).setdefault(cell.method, {})[cell.seed] = file
    names = {f"{cell.name}.json" for cell in wanted}
    ignored += [f"{path.stem}: no cell" for path in sorted(folder.glob("*.json")) if path.name not in names]
    return {task: Runs(task, methods) for task, methods in found.items()}, ignored, (there, len(wanted))


def splits(file: CellFile, which: str) -> list[str]:
    """``id``, or with ``ood`` all other splits of the cell."""
    return [split for split in file["problems"] if (split == "id") == (which == "id")]


def shares(files: Sequence[CellFile], which: str, score: str, family: str | None = None) -> tuple[list[str], Floats]:
    """The share of each problem's samples with this score.

    Args:
        files: one for each seed.
        which: ``id`` or ``ood``.
        score: a key of ``COUNTS``.
        family: only these problems.

    Returns:
        The names of the problems that all files have a share of, and the table (seeds, problems).
    """
    counted, of = COUNTS[score]
    rows: list[dict[str, float]] = []
    for file in files:
        row: dict[str, float] = {}
        for split in splits(file, which):
            columns = file["problems"][split]
            for name, own, count, n in zip(*(columns[key] for key in ("id", "family", counted, of)), strict=True):
                if n and family in (None, columns["families"][own]):
                    row[f"{split}/{name}"] = count / n
        rows.append(row)
    return _table(rows)


def _table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], Floats]:
    """The names that all rows have, and the values as (rows, names)."""
    names = [name for name in (rows[0] if rows else ()) if all(name in row for row in rows)]
    return names, np.array([[row[name] for name in names] for row in rows], dtype=np.float64).reshape(
        len(rows), len(names)
    )


def mean(runs: Runs, method: str, which: str, score: str, family: str | None = None) -> Estimate:
    """The mean share over seeds and problems."""
    return two_level(shares(runs.files(method), which, score, family)[1], SHARE)


def difference(runs: Runs, method: str, other: str, which: str, score: str) -> Estimate:
    """``method`` - ``other`` on the same problems, paired by seed."""
    both = runs.seeds(method, other)
    names, own = shares(runs.files(method, both), which, score)
    others, against = shares(runs.files(other, both), which, score)
    common = [name for name in names if name in set(others)]
    left, right = ([known.index(name) for name in common] for known in (names, others))
    return two_level(own[:, left] - against[:, right])


def evaluated(
    runs: Runs, method: str, which: str, seeds: Sequence[int], unit: str = "samples"
) -> tuple[Floats, Floats]:
    """Samples (or steps) used until each evaluation, (evaluations,), and accuracies, (seeds, evaluations)."""
    files = runs.files(method, seeds)
    samples = np.array([file["evaluations"][unit] for file in files], dtype=np.float64)
    accuracy = [[file["evaluations"][split] for split in splits(file, which)] for file in files]
    return samples.mean(axis=0), np.array(accuracy, dtype=np.float64).mean(axis=1)


def share_needed(runs: Runs, method: str, other: str, unit: str = "samples") -> Estimate:
    """Samples or steps until ``method`` reaches the last ID accuracy of ``other``, as a share of those of ``other``."""
    both = runs.seeds(method, other)
    if not both:
        return NOTHING
    (x, y), (other_x, other_y) = (evaluated(runs, name, "id", both, unit) for name in (method, other))
    return needed(x.tolist(), y, other_x.tolist(), other_y)


def training(runs: Runs, method: str, key: str) -> tuple[Floats, Floats]:
    """Steps, (points,), and a training curve, (seeds, points), with NaN where it does not apply."""
    files = runs.files(method)
    return np.array(files[0]["training"]["step"]), np.array([f["training"][key] for f in files], dtype=np.float64)


def first_and_last(runs: Runs, method: str, key: str) -> tuple[Estimate, Estimate, Estimate]:
    """Of a training curve: the mean of its first and of its last fifth, and their difference, over seeds."""
    _, values = training(runs, method, key)  # (S, points)
    width = max(1, values.shape[1] // 5)
    first, last = values[:, :width].mean(axis=1)[:, None], values[:, -width:].mean(axis=1)[:, None]
    return two_level(first, SHARE), two_level(last, SHARE), two_level(last - first)


def passed(
    runs: Runs, method: str, which: str | None, k: int, seeds: Sequence[int] | None = None
) -> tuple[list[str], Floats]:
    """pass@k of each problem of ``id``, ``ood`` or (None) all splits: names, and the table (seeds, problems)."""
    rows = []
    for file in runs.files(method, seeds):
        row: dict[str, float] = {}
        for split in file["passk"] if which is None else splits(file, which):
            columns = file["passk"][split]
            chances = pass_at_k(columns["samples"], columns["right"], k)
            row |= {f"{split}/{n}": p for n, p in zip(columns["id"], chances, strict=True) if np.isfinite(p)}
        rows.append(row)
    return _table(rows)


def passed_difference(runs: Runs, method: str, other: str, k: int) -> Estimate:
    """pass@k of ``method`` - ``other`` over all splits, on the same problems, paired by seed."""
    both = runs.seeds(method, other)
    names, own = passed(runs, method, None, k, both)
    others, against = passed(runs, other, None, k, both)
    common = [name for name in names if name in set(others)]
    left, right = ([known.index(name) for name in common] for known in (names, others))
    return two_level(own[:, left] - against[:, right])


def ks(runs: Runs) -> list[int]:
    """Powers of two up to the samples that the cells have."""
    most = min(max(columns["samples"]) for m in runs.methods for f in runs.files(m) for columns in f["passk"].values())
    return [2**power for power in range(most.bit_length()) if 2**power <= most]
