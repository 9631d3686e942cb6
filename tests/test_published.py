from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest

from ekipl.algorithm.types import Reward
from ekipl.report.evaluate import GradedAction, summarize
from ekipl.report.published import published, published_tables
from tests.command import ekipl


def score(split: str, accuracy: float, partial: float | None = None) -> GradedAction:
    detail = {} if partial is None else {"exact": accuracy, "partial": partial}
    return GradedAction("p", split, "number", None, 0, "", "stop", 1, Reward(1.0, accuracy, detail))


def test_a_measured_row_stands_below_the_published_ones() -> None:
    evaluation = summarize([score("id", 0.0, 0.5), score("ood_left", 1.0, 1.0)])
    (table,) = published_tables("spatial", {"mine": evaluation}, "strict")
    assert table.header == ["model", "", "id", "ood_left", "ood_right"]
    assert ["Qwen2-VL-2B Reason-RFT", "published", "74.61", "64.05", "64.08"] in [list(row) for row in table.rows]
    measured, exact, partial = table.rows[-3:]
    assert list(measured) == ["mine", "measured, strict", "0.0 (0.0 to 79.3)", "100.0 (20.7 to 100.0)", "-"]
    assert exact[1:] == ["measured, exact", *measured[2:]]
    assert list(partial) == ["mine", "measured, partial", "50.0", "100.0 (20.7 to 100.0)", "-"]
    assert any("partial credit, not exact" in note for note in table.notes)
    (counting,) = published_tables("counting", {"mine": summarize([score("id", 1.0)])}, "reason_rft")
    assert counting.rows[-1][:2] == ["mine", "measured, reason_rft"]
    assert published_tables("shades", {}, "strict") == []


def test_published_rows_are_whole() -> None:
    tasks = {task: published(task) or {} for task in ("counting", "structure", "spatial")}
    assert len({tuple(task["rows"]) for task in tasks.values()}) == 1  # the same models
    for task in tasks.values():
        assert all(len(row) == len(task["splits"]) for row in task["rows"].values())
        assert all(0 <= value <= 100 for row in task["rows"].values() for value in row)
    # the published averages that are plain means of their splits: VC (first version), SP, ST of 2B CoT-SFT
    means = [fmean(task["rows"]["Qwen2-VL-2B CoT-SFT"]) for task in tasks.values()]
    assert means == pytest.approx([66.00, 34.15, 50.14], abs=0.006)


def test_external_models_are_evaluated_like_any_other(tmp_path: Path) -> None:
    few = ["limit=4", "samples=2", "splits=[id]", "model.path=external", "external.experts.1.accuracy=1"]
    done = ekipl("eval", *few, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [(s["model"], s["problems"], s["samples"]) for s in scores["splits"]] == [
        ("expert_a", 4, 8),
        ("expert_b", 4, 8),
    ]
    assert scores["splits"][1]["accuracy"]["mean"] == 1
    assert scores["differences"][0]["against"] == "expert_a"  # paired, with an interval
    assert scores["splits"][1]["detail"]["reason_rft"]["mean"] == 1  # as well
    page = (tmp_path / "table.md").read_text()
    assert "counting: accuracy by strict" in page
    assert "| reason_rft |" in page.partition("Against expert_a")[2]
