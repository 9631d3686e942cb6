"""All five commands on real rows at full resolution, where a folder of them is at hand (EKIPL_REAL_DATA)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REAL = os.environ.get("EKIPL_REAL_DATA")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REAL is None, reason="EKIPL_REAL_DATA names no folder of rows")]
ROWS = {"counting": {"id": 14}, "structure": {"id": 20}, "spatial": {"id": 1, "ood_left": 1, "ood_right": 1}}


def ekipl(directory: Path, command: str, task: str, *arguments: str) -> str:
    data = ["data=reason_rft", f"data.root={REAL}", "data.train_split=id"]
    line = [command, f"task={task}", *data, *arguments, f"hydra.run.dir={directory}"]
    done = subprocess.run([sys.executable, "-m", "ekipl", *line], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def splits(task: str) -> str:
    return f"splits=[{','.join(ROWS[task])}]"


@pytest.mark.parametrize("task", ROWS)
def test_eval_reads_every_row(task: str, tmp_path: Path) -> None:
    ekipl(tmp_path, "eval", task, splits(task), "rollout.max_tokens=48", "decoding.max_tokens=48")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert {split["split"]: split["problems"] for split in scores["splits"]} == ROWS[task]
    assert sum(split["errors"] for split in scores["splits"]) == 0


@pytest.mark.parametrize("task", ROWS)
def test_train_on_real_rows(task: str, tmp_path: Path) -> None:
    small = ["experiment=smoke", "data.train_limit=2", "rollout.max_tokens=64", "problems_per_step=1"]
    ekipl(tmp_path, "train", task, *small, "evaluation.splits=[id]", "evaluation.limit=1")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert rows[-1]["share/offered/policy"] > 0
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("task", ROWS)
def test_rollout_external_sample_and_passk(task: str, tmp_path: Path) -> None:
    few = ["splits=[id]", "limit=2"]
    ekipl(tmp_path / "rollout", "rollout", task, *few, "samples=2", "rollout.max_tokens=48")
    ekipl(tmp_path / "external", "external-sample", task, *few, "samples=2")
    count = min(2, ROWS[task]["id"])
    for name, sources in (("rollout", 1), ("external", 2)):
        lines = (tmp_path / name / "actions.jsonl").read_text().splitlines()
        assert len(lines) == count * 2 * sources
    ekipl(tmp_path / "passk", "passk", task, "--k", "1,2", *few, "decoding.max_tokens=48")
    assert (tmp_path / "passk" / "passk.png").is_file()
