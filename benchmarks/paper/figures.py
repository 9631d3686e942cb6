"""The figures of one task, from its finished cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.paper.cells import MAIN
from benchmarks.paper.intervals import SHARE, two_level
from benchmarks.paper.tables import Runs, evaluated, ks, passed, training
from ekipl.report import plots
from ekipl.report.stats import Estimate, Floats

# One colour each, in every figure; the tables have all methods.
SHOWN = (*MAIN, "luffy")


def draw(folder: Path, runs: Runs) -> list[tuple[Path, str]]:
    """Write the figures of a task; return their files and what they show."""
    trained = [method for method in SHOWN if method in runs.methods and method != "base"]
    found = []
    if trained:
        path = folder / f"{runs.task}-curve.png"
        _curves(path, runs, trained)
        found.append((path, "accuracy against training samples, own and external; bands: 95 % over seeds"))
        path = folder / f"{runs.task}-training.png"
        _training(path, runs, trained)
        found.append((path, "external share of the kept actions, and groups without gradient; bands: 95 % over seeds"))
    path = folder / f"{runs.task}-passk.png"
    _passk(path, runs, [method for method in SHOWN if method in runs.methods])
    found.append((path, "pass@k; bands: 95 % over seeds and problems"))
    return found


def band(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean and interval over seeds of each column of shares."""
    return _drawn([two_level(column[:, None], SHARE) for column in values.T])


def _drawn(estimates: Sequence[Estimate]) -> tuple[Floats, Floats, Floats]:
    """Means and ends; the mean itself where there is no interval."""
    mean, low, high = (np.array(part, dtype=np.float64) for part in zip(*estimates, strict=True))
    return mean, np.where(np.isnan(low), mean, low), np.where(np.isnan(high), mean, high)


def _curves(path: Path, runs: Runs, methods: Sequence[str]) -> None:
    with plots.figure(path, ["ID", "OOD"], "accuracy (%)") as panels:
        for axes, which in zip(panels, ("id", "ood"), strict=True):
            for method in methods:
                samples, accuracy = evaluated(runs, method, which, runs.seeds(method))
                plots.line(axes, SHOWN.index(method), method, samples, *band(accuracy))
            axes.set(xlabel="training samples, own and external")
        panels[0].set(ylim=(0, None))  # of all panels; set earlier, it would cut the others


def _training(path: Path, runs: Runs, methods: Sequence[str]) -> None:
    keys = {"External share kept": "external_kept", "Groups without gradient": "dead"}
    with plots.figure(path, list(keys), "%") as panels:
        for axes, key in zip(panels, keys.values(), strict=True):
            for method in methods:
                steps, values = training(runs, method, key)
                plots.line(axes, SHOWN.index(method), method, steps, *band(values))
            axes.set(xlabel="step")
        panels[0].set(ylim=(0, None))


def _passk(path: Path, runs: Runs, methods: Sequence[str]) -> None:
    every = ks(runs)
    with plots.figure(path, ["ID", "OOD"], "pass@k (%)") as panels:
        for axes, which in zip(panels, ("id", "ood"), strict=True):
            for method in methods:
                curves = [two_level(passed(runs, method, which, k)[1], SHARE) for k in every]
                plots.line(axes, SHOWN.index(method), method, np.array(every, dtype=np.float64), *_drawn(curves))
            axes.set_xscale("log", base=2)
            axes.set_xticks(every, [str(k) for k in every])
            axes.set(xlabel="k samples")
        panels[0].set(ylim=(0, None))
