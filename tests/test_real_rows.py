"""All five commands on real rows at full resolution, where a folder of them is at hand (EKIPL_REAL_DATA)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.command import SMOKE, ekipl

REAL = os.environ.get("EKIPL_REAL_DATA")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REAL is None, reason="EKIPL_REAL_DATA names no folder of rows")]
ROWS = {"counting": {"id": 14}, "structure": {"id": 20}, "spatial": {"id": 1, "ood_left": 1, "ood_right": 1}}


def run(directory: Path, command: str, task: str, *arguments: str) -> None:
    data = ["data=reason_rft", f"data.root={REAL}", "data.train_split=id"]
    done = ekipl(command, f"task={task}", *data, *arguments, f"hydra.run.dir={directory}")
    assert done.returncode == 0, done.stderr


def test_one_command_evaluates_every_row_with_both_graders(tmp_path: Path) -> None:
    """37 rows: 14, 20 and 3."""
    command = [
        "eval",
        "--multirun",
        f"task={','.join(ROWS)}",
        "data=reason_rft",
        f"data.root={REAL}",
        "missing_split=skip",
    ]
    done = ekipl(*command, "decoding.max_tokens=24", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    for number, (task, splits) in enumerate(ROWS.items()):
        scores = json.loads((tmp_path / str(number) / "scores.json").read_text())
        assert {split["split"]: split["problems"] for split in scores["splits"]} == splits
        for split in scores["splits"]:
            assert (split["errors"], split["ungraded"]) == (0, {})
            assert {"reason_rft"} | ({"exact", "partial"} if task == "spatial" else set()) == set(split["detail"])
            assert all(
                set(score) == {"mean", "low", "high"} for score in (split["accuracy"], *split["detail"].values())
            )
        if task == "structure":  # as their ids say
            kinds = scores["splits"][0]["kinds"]
            assert {kind: part["problems"] for kind, part in kinds.items()} == {"choice": 10, "open": 10}
            assert "reason_rft" in kinds["choice"]["detail"]
        page = (tmp_path / str(number) / "table.md").read_text()
        assert ("ood: its file is missing, and it was not evaluated" in page) == (task != "spatial")
        assert "tiny" in page.partition("measured, reason_rft")[0].splitlines()[-1]  # among the published rows


@pytest.mark.parametrize("task", ROWS)
def test_train_on_real_rows(task: str, tmp_path: Path) -> None:
    small = ["experiment=smoke", "data.train_limit=2", "problems_per_step=1"]
    run(tmp_path, "train", task, *small, "evaluation.splits=[id]", "evaluation.limit=1")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert rows[-1]["share/offered/policy"] > 0
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.fixture
def training_rows(tmp_path: Path) -> Path:
    """The real rows of counting as a training file, with a stand-in for the reasoning that only training files have."""
    folder = tmp_path / "data"
    shutil.copytree(Path(str(REAL)) / "images", folder / "images")
    (source,) = Path(str(REAL)).glob("Visual-Counting-id-test*.json")
    rows = [{**row, "cot": "I count them one by one."} for row in json.loads(source.read_text())]
    (folder / "Visual-Counting-train-14-cot.json").write_text(json.dumps(rows))
    return folder


@pytest.mark.parametrize("method", ["ans_sft", "sft_ekipl"])
def test_supervised_and_two_stage_methods_on_real_rows(method: str, training_rows: Path, tmp_path: Path) -> None:
    few = ["B=1", "evaluation.every=0", "checkpoint.every=0"]
    few += ["data.train_start=4", "first_stage.data.train_limit=4"] if method == "sft_ekipl" else []
    data = ["data=reason_rft", f"data.root={training_rows}"]
    done = ekipl(*SMOKE, f"method={method}", *data, *few, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    learned = tmp_path / "run" / ("first_stage" if method == "sft_ekipl" else "")
    actions = [json.loads(line) for file in (learned / "actions").iterdir() for line in file.read_text().splitlines()]
    assert {(row["source"], row["reward"]["accuracy"]) for row in actions} == {("demonstration", 1)}
    assert all(("I count them" in row["text"]) == (method == "sft_ekipl") for row in actions)
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("task", ROWS)
def test_rollout_external_sample_and_passk(task: str, tmp_path: Path) -> None:
    few = ["splits=[id]", "limit=2"]
    run(tmp_path / "rollout", "rollout", task, *few, "samples=2", "rollout.max_tokens=48")
    run(tmp_path / "external", "external-sample", task, *few, "samples=2")
    count = min(2, ROWS[task]["id"])
    for name, sources in (("rollout", 1), ("external", 2)):
        lines = (tmp_path / name / "actions.jsonl").read_text().splitlines()
        assert len(lines) == count * 2 * sources
    run(tmp_path / "passk", "passk", task, "--k", "1,2", *few, "decoding.max_tokens=48")
    assert (tmp_path / "passk" / "passk.png").is_file()
