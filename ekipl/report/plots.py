"""The three figures, as PNG files: accuracy over training, shares of the sources, pass@k."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ekipl.algorithm.types import POLICY
from ekipl.files import atomic_write
from ekipl.report.stats import Floats
from ekipl.report.tables import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # on a new machine it logs that it caches fonts

MetricsRow = Mapping[str, Any]  # of metrics.jsonl; a metric may be missing, or null where it was not finite

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#000000",
)  # for all eyes
MARKERS = "os^Dv<>P"


def curve(path: Path, rows: Sequence[MetricsRow]) -> bool:
    """Accuracy on every split against the training problems seen, with its interval as a band (the paper's Fig. 3).

    ``rows`` are of ``metrics.jsonl``. Without an evaluation in them it returns False and writes no file.
    """
    splits = _names(rows, "eval/", "/accuracy")
    if not splits:
        return False
    with figure(path, ["Accuracy over training"], "accuracy (%), 95 % interval") as (axes,):
        for place, split in enumerate(splits):
            key = f"eval/{split}/accuracy"
            measured = [row for row in rows if row.get(key) is not None]
            x, *shares = (_column(measured, k) for k in ("progress/problems", key, f"{key}_low", f"{key}_high"))
            line(axes, place, split, x, *shares)
        axes.set(xlabel="training problems seen", ylim=(0, None))
    return True


def provenance(path: Path, rows: Sequence[MetricsRow]) -> bool:
    """The share of each source among the actions offered and among those kept, over the steps.

    From 100 rows of ``metrics.jsonl`` on, moving means are drawn. Without shares it returns False and writes no file.
    """
    from matplotlib.ticker import MaxNLocator

    sources = sorted(_names(rows, "share/offered/"), key=lambda source: (source != POLICY, source))
    steps = [row for row in rows if any(f"share/offered/{source}" in row for source in sources)]
    if not steps:
        return False
    width = max(1, len(steps) // 50)
    x = _smooth(_column(steps, "step"), width)
    unit = "share of actions (%)" + (f", means of {width} steps" if width > 1 else "")
    with figure(path, ["Offered", "Kept"], unit, stacked=True) as panels:
        for axes, what in zip(panels, ("offered", "kept"), strict=True):
            shares = [np.nan_to_num(_column(steps, f"share/{what}/{source}")) for source in sources]
            areas = np.array([_smooth(100 * share, width) for share in shares])  # (sources, points)
            ends = x if len(x) > 1 else x + np.array([-0.5, 0.5])  # an area needs two
            colours = [COLOURS[place % len(COLOURS)] for place in range(len(sources))]
            layers = np.broadcast_to(areas, (len(sources), len(ends)))
            axes.stackplot(ends, layers, labels=[_label(source) for source in sources], colors=colours)
            axes.set(xlabel="step", xlim=(ends[0], ends[-1]), ylim=(0, 100))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return True


def passk(path: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """pass@k of the models, a panel for each split, with intervals as bands.

    Args:
        path: the PNG file.
        splits: as in ``passk.json``, the curves of each split with ``model``, ``k``, ``mean``, ``low`` and ``high``.
    """
    models = list(dict.fromkeys(one["model"] for curves in splits.values() for one in curves))
    with figure(path, list(splits), "pass@k (%), 95 % interval") as panels:
        for axes, curves in zip(panels, splits.values(), strict=True):
            for one in curves:
                x, *shares = (np.array(one[key], dtype=np.float64) for key in ("k", "mean", "low", "high"))
                line(axes, models.index(one["model"]), one["model"], x, *shares)
            ks = sorted({k for one in curves for k in one["k"]})
            ticks = ks if len(ks) <= 8 else [k for k in ks if k & (k - 1) == 0]  # powers of two
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [str(k) for k in ticks])
            axes.set(xlabel="k samples")
        panels[0].set(ylim=(0, None))  # of all panels; set before the others are drawn, it would cut them


def line(axes: Axes, place: int, name: str, x: Floats, mean: Floats, low: Floats, high: Floats) -> None:
    """One line of shares in percent, with its interval as a band."""
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    axes.plot(x, 100 * mean, color=colour, marker=marker, markersize=5, linewidth=2, label=_label(name))
    axes.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
    axes.vlines(x, 100 * low, 100 * high, color=colour, alpha=0.3)  # visible where the band has one point only


@contextmanager
def figure(path: Path, titles: Sequence[str], unit: str, stacked: bool = False) -> Iterator[list[Axes]]:
    """Panels side by side with one legend, in reverse order for stacked areas; saved when the block succeeds."""
    from matplotlib.figure import Figure  # uses Agg, so no display is needed

    drawn = Figure(figsize=(1.5 + 4.5 * len(titles), 4.2), layout="constrained")
    panels = list(drawn.subplots(1, len(titles), sharey=True, squeeze=False)[0])
    yield panels
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(_label(title))
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(unit)
    entries = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    drawn.legend(entries.values(), entries.keys(), loc="outside right center", frameon=False, reverse=stacked)
    with atomic_write(path) as file:
        drawn.savefig(file, format="png", dpi=150)


def _column(rows: Sequence[MetricsRow], key: str) -> Floats:
    """The metric of each row, NaN where it is missing or null."""
    return np.array([row.get(key) for row in rows], dtype=np.float64)


def _names(rows: Sequence[MetricsRow], before: str, after: str = "") -> list[str]:
    """The parts of metric names between ``before`` and ``after``, in order of appearance."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith(before) and key.endswith(after))
    return [key.removeprefix(before).removesuffix(after) for key in keys]


def _smooth(values: Floats, width: int) -> Floats:
    """Moving mean: (n,) -> (n - width + 1,)."""
    means: Floats = np.convolve(values, np.full(width, 1 / width), mode="valid")
    return means


def _label(text: str) -> str:
    """The name escaped for matplotlib (no formula, no hidden leading underscore) and cut to 32 characters."""
    short = plain(text) if len(text) <= 32 else plain(text[:15] + "..." + text[-14:])
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")
