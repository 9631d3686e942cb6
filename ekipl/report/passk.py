"""pass@k, the chance that at least one of k samples solves a problem: estimate, curves, tables and files."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ekipl.algorithm.seams import Task
from ekipl.errors import UsageError
from ekipl.files import write_json, write_text
from ekipl.report import plots
from ekipl.report.stats import Estimate, Floats, bootstrap_means, paired_difference
from ekipl.report.tables import Table, percent_interval, points

T = TypeVar("T", bound=Hashable)


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> Floats:
    """The unbiased estimate 1 - C(n-c, k) / C(n, k), as the product 1 - prod_{i=n-c+1..n} (1 - k/i).

    Args:
        n: samples of each problem.
        c: how many of them are right, 0..n; broadcast with n.
        k: samples allowed, >= 1.

    Returns:
        In [0, 1], of the broadcast shape; NaN where n < k, as fewer than k samples cannot tell.

    Source: Chen et al., Evaluating Large Language Models Trained on Code, arXiv 2107.03374, Eq. 1.
    """
    samples, right = np.broadcast_arrays(np.asarray(n), np.asarray(c))
    if k < 1 or (right < 0).any() or (right > samples).any():
        raise ValueError(f"pass@{k} needs k >= 1 and 0 <= c <= n")
    i = np.arange(1, samples.max(initial=0) + 1)  # (max n,)
    wrong = (samples - right)[..., None]  # (..., 1)
    factors = np.where((wrong < i) & (i <= samples[..., None]), 1 - k / i, 1.0)  # (..., max n)
    passed: Floats = np.where(samples < k, np.nan, 1 - factors.prod(axis=-1))
    return passed


class Outcome(NamedTuple):
    """One sample of a model; ``right`` is None where it could not be graded."""

    model: str
    split: str
    problem: str
    right: bool | None


class Tally(NamedTuple):
    """Numbers of a problem's samples: ``drawn`` >= ``graded`` (the grader did not fail) >= ``right``."""

    drawn: int
    graded: int
    right: int


def tally(outcomes: Iterable[tuple[T, bool | None]]) -> dict[T, Tally]:
    """The tally of each problem, from pairs (problem, right); ``right`` is None where the grader failed."""
    found: dict[T, list[bool | None]] = {}
    for problem, right in outcomes:
        found.setdefault(problem, []).append(right)
    return {p: Tally(len(seen), sum(r is not None for r in seen), seen.count(True)) for p, seen in found.items()}


@dataclass(frozen=True)
class Curve:
    """pass@k of one model.

    Attributes:
        model: its name.
        problems: names of the problems, (P,).
        ks: numbers of samples, (K,).
        passed: estimate of each problem, (P, K).
        means: means over problems, with intervals, (K,).
        samples: smallest number of graded samples of a problem.
        left_out: number of problems with enough samples, of which too few could be graded.
    """

    model: str
    problems: tuple[str, ...]
    ks: tuple[int, ...]
    passed: Floats
    means: tuple[Estimate, ...]
    samples: int
    left_out: int


def curve(
    model: str,
    tallies: Mapping[str, Tally],
    ks: Sequence[int],
    coverage: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Curve:
    """pass@k at every k, averaged over problems, with bootstrap intervals (NaN where all problems agree).

    Args:
        model: its name.
        tallies: by problem.
        ks: at most the fewest samples that a problem has.
        coverage: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UsageError: a problem has fewer samples than the largest k, or no problem has that many graded ones.
    """
    largest = max(ks)
    few = [problem for problem, tally in tallies.items() if tally.drawn < largest]
    if few:
        raise UsageError(
            f"passk.k: {largest}: pass@k needs k samples or more, but {model} has {tallies[few[0]].drawn} of {few[0]}"
            f"{f' and too few of {len(few) - 1} other problems' if few[1:] else ''}; "
            "take more samples (passk.samples) or a smaller k"
        )
    whole = {problem: tally for problem, tally in tallies.items() if tally.graded >= largest}
    if not whole:
        raise UsageError(f"{model}: no problem has the {largest} graded samples that pass@{largest} needs")
    n = np.array([tally.graded for tally in whole.values()])  # (P,)
    c = np.array([tally.right for tally in whole.values()])  # (P,)
    passed = np.stack([pass_at_k(n, c, k) for k in ks], axis=1)  # (P, K)
    low, high = bootstrap_means(passed, coverage, resamples, seed)
    means = tuple(Estimate(*map(float, point)) for point in zip(passed.mean(axis=0), low, high, strict=True))
    return Curve(model, tuple(whole), tuple(ks), passed, means, int(n.min()), len(tallies) - len(whole))


def difference(first: Curve, second: Curve, coverage: float = 0.95, seed: int = 0) -> tuple[Estimate, ...]:
    """second - first at every k over the problems that both have, paired by problem: (K,)."""
    row = {problem: i for i, problem in enumerate(second.problems)}
    common = [(i, row[problem]) for i, problem in enumerate(first.problems) if problem in row]
    a, b = first.passed[[i for i, _ in common]], second.passed[[j for _, j in common]]  # (shared P, K)
    return tuple(paired_difference(a[:, i], b[:, i], coverage, seed=seed) for i in range(len(first.ks)))


def write_passk(
    directory: Path, task: Task, outcomes: Iterable[Outcome], ks: Sequence[int], seed: int, meta: Mapping[str, Any]
) -> list[Table]:
    """Write ``passk.json``, ``passk.png`` and ``table.md``; return the tables. The task's splits come first.

    ``ks`` are ascending. Raises UsageError as ``curve``.
    """
    curves = _curves(task, outcomes, ks, seed)
    splits = {split: [_entry(one) for one in of_split] for split, of_split in curves.items()}
    compared = list(_compared(curves))
    differences = [
        {**names, "k": ks, "difference": [estimate._asdict() for estimate in estimates]}
        for names, estimates in compared
    ]
    write_json(directory / "passk.json", {"splits": splits, "differences": differences, "meta": meta})
    plots.passk(directory / "passk.png", splits)
    at_k = [f"pass@{k} %" for k in ks]
    tables = [_curve_table(task.name, at_k, curves)]
    if compared:
        rows = [[*names.values(), *map(points, estimates)] for names, estimates in compared]
        title = "Difference in points (paired by problem, 95 % interval)"
        tables.append(Table(title, ["model", "against", "split", *at_k], rows))
    write_text(directory / "table.md", "\n".join(table.markdown() for table in tables))
    return tables


def _curves(task: Task, outcomes: Iterable[Outcome], ks: Sequence[int], seed: int) -> dict[str, list[Curve]]:
    """A curve for each model, by split; the task's own splits come first."""
    seen: dict[str, dict[str, list[tuple[str, bool | None]]]] = {}
    for one in outcomes:
        seen.setdefault(one.split, {}).setdefault(one.model, []).append((one.problem, one.right))
    splits = [split for split in dict.fromkeys((*task.splits, *seen)) if split in seen]
    return {split: [curve(model, tally(own), ks, seed=seed) for model, own in seen[split].items()] for split in splits}


def _entry(curve: Curve) -> dict[str, Any]:
    """The curve in ``passk.json``."""
    mean, low, high = zip(*curve.means, strict=True)
    return {
        "model": curve.model,
        "problems": len(curve.problems),
        "samples": curve.samples,
        "left_out": curve.left_out,
        "k": curve.ks,
        "mean": mean,
        "low": low,
        "high": high,
    }


def _compared(curves: Mapping[str, Sequence[Curve]]) -> Iterator[tuple[dict[str, str], tuple[Estimate, ...]]]:
    """Each further model - the first one of its split, at every k, paired by problem."""
    for split, (first, *others) in curves.items():
        for other in others:
            yield {"model": other.model, "against": first.model, "split": split}, difference(first, other)


def _curve_table(task: str, at_k: Sequence[str], curves: Mapping[str, Sequence[Curve]]) -> Table:
    every = [(split, one) for split, of_split in curves.items() for one in of_split]
    rows = [
        [one.model, split, str(len(one.problems)), str(one.samples), *map(percent_interval, one.means)]
        for split, one in every
    ]
    notes = [
        f"{one.model}, {split}: {one.left_out} problems left out, too few of their samples could be graded"
        for split, one in every
        if one.left_out
    ]
    return Table(f"{task}: pass@k (95 % interval)", ["model", "split", "problems", "samples", *at_k], rows, notes)
