from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ekipl.report import plots


def pixels(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def share_of(colour: str, path: Path) -> float:
    """Share of the picture that has this colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return float((np.abs(pixels(path) - wanted).max(axis=-1) < 3).mean())


def row(step: int, kept: float = 0.5, accuracy: float | None = None) -> dict[str, Any]:
    shares = {"share/offered/policy": 0.25, "share/offered/gpt": 0.75, "share/kept/policy": kept}
    measured: dict[str, Any] = {}
    if accuracy is not None:
        measured = {f"eval/id/accuracy{what}": accuracy + d for what, d in (("", 0.0), ("_low", -0.1), ("_high", 0.1))}
    return {"step": step, "progress/problems": 12.0 * step, **shares, "share/kept/gpt": 1 - kept, **measured}


def line(model: str, ks: tuple[int, ...] = (1, 4, 16)) -> dict[str, Any]:
    return {"model": model, "k": ks, "mean": [0.2] * len(ks), "low": [0.1] * len(ks), "high": [0.3] * len(ks)}


def test_provenance_areas_have_the_size_of_the_shares(tmp_path: Path) -> None:
    assert plots.provenance(tmp_path / "p.png", [row(step, kept=0.8) for step in (1, 2, 3)])
    policy, external = (share_of(colour, tmp_path / "p.png") for colour in plots.COLOURS[:2])
    # two panels of one size: policy 0.25 + 0.8, external 0.75 + 0.2 (the grid and the legend take a little)
    assert policy / external == pytest.approx(1.05 / 0.95, rel=0.03)


@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_provenance_of_any_length(tmp_path: Path, steps: int) -> None:
    assert plots.provenance(tmp_path / "p.png", [row(step) for step in range(1, steps + 1)])
    assert share_of(plots.COLOURS[0], tmp_path / "p.png") > 0.1


def test_curve_draws_what_was_measured_and_skips_the_rest(tmp_path: Path) -> None:
    rows = [row(0, accuracy=0.3), row(1), row(2, accuracy=0.5) | {"eval/ood/accuracy": None}]
    assert plots.curve(tmp_path / "c.png", rows)
    assert share_of(plots.COLOURS[0], tmp_path / "c.png") > 0.001
    assert share_of(plots.COLOURS[1], tmp_path / "c.png") < 0.001  # ood: a legend entry without a line


def test_nothing_to_draw_is_no_file(tmp_path: Path) -> None:
    assert not plots.curve(tmp_path / "c.png", [{"step": 1, "loss/policy": 0.1}])
    assert not plots.provenance(tmp_path / "p.png", [])
    assert list(tmp_path.iterdir()) == []


def test_a_model_has_one_colour_in_all_panels(tmp_path: Path) -> None:
    plots.passk(tmp_path / "k.png", {"id": [line("a"), line("b")], "ood": [line("b")]})
    a, b = (share_of(colour, tmp_path / "k.png") for colour in plots.COLOURS[:2])
    assert b > 1.4 * a


def test_a_higher_panel_is_not_cut(tmp_path: Path) -> None:
    high = line("b") | {"mean": [0.9] * 3, "low": [0.8] * 3, "high": [1.0] * 3}
    plots.passk(tmp_path / "k.png", {"id": [line("a")], "ood": [high]})
    a, b = (share_of(colour, tmp_path / "k.png") for colour in plots.COLOURS[:2])
    assert b > 0.7 * a


@pytest.mark.parametrize("name", ["$\\frac{", "_hidden", "x" * 300, "a\nb\x00", "<b>&amp;"])
def test_hostile_names_are_drawn(tmp_path: Path, name: str) -> None:
    plots.passk(tmp_path / "k.png", {name: [line(name, ks=tuple(range(1, 65)))]})
    assert pixels(tmp_path / "k.png").shape[1] < 1500


def test_matplotlib_is_loaded_only_to_draw() -> None:
    code = "import sys, ekipl.report.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
