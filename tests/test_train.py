"""``ekipl train`` as a user runs it: real processes, real kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

SMOKE = ["train", "experiment=smoke", "rollout.max_tokens=96"]


def ekipl(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ekipl", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def rows(directory: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run of four steps."""
    directory = tmp_path_factory.mktemp("train") / "whole"
    done = ekipl(*SMOKE, "B=2", "I=2", "mu=2", f"hydra.run.dir={directory}")
    assert done.returncode == 0, done.stderr
    return directory


def test_a_run_directory_describes_itself(finished: Path) -> None:
    for name in ("config.yaml", ".hydra/overrides.yaml", "summary.md", "curve.png", "provenance.png"):
        assert (finished / name).is_file(), name
    steps = [row["step"] for row in rows(finished)]
    assert steps == [0, 1, 2, 3, 4]
    last = rows(finished)[-1]
    for key in (
        "group/frac_zero_variance",
        "reward/accuracy/policy",
        "reward/format/expert_a",
        "share/offered/policy",
        "share/kept/expert_b",
        "loss/clip_fraction",
        "loss/kl",
        "loss/entropy",
        "length/tokens/policy",
        "length/truncated/policy",
        "eval/id/accuracy",
        "eval/ood/accuracy",
    ):
        assert key in last, key
    assert sum(last[f"share/offered/{s}"] for s in ("policy", "expert_a", "expert_b")) == pytest.approx(1)
    actions = [json.loads(line) for line in (finished / "actions/step-000004.jsonl").read_text().splitlines()]
    assert {row["source"] for row in actions} == {"policy", "expert_a", "expert_b"}
    assert all(row["reward"] is not None for row in actions)
    kept = [row["advantage"] for row in actions if row["kept"]]
    assert len(kept) == 2 * 4  # two problems, G = 4
    assert None not in kept


def test_a_killed_run_goes_on_as_if_nothing_had_happened(finished: Path, tmp_path: Path) -> None:
    directory = tmp_path / "killed"
    command = [*SMOKE, "B=2", "I=2", "mu=2", f"hydra.run.dir={directory}"]
    process = subprocess.Popen([sys.executable, "-m", "ekipl", *command], start_new_session=True)
    deadline = time.monotonic() + 200
    while not list((directory / "checkpoints").glob("step-[123]")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (directory / "model").exists()
    done = ekipl(*command)
    assert done.returncode == 0, done.stderr
    assert rows(directory) == rows(finished)
    ours, theirs = (load_file(d / "model" / "model.safetensors") for d in (directory, finished))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def test_another_run_in_the_same_directory_is_refused(finished: Path) -> None:
    before = (finished / "config.yaml").read_text()
    done = ekipl(*SMOKE, "B=3", f"hydra.run.dir={finished}")
    assert done.returncode == 2
    assert "holds a run with other settings" in done.stderr
    assert "Traceback" not in done.stderr
    assert (finished / "config.yaml").read_text() == before


def test_plain_grpo_without_kl_and_evaluation(tmp_path: Path) -> None:
    done = ekipl(*SMOKE, "M=0", "beta=0", "evaluation.every=0", "checkpoint.every=0", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    for row in rows(tmp_path):
        assert "loss/kl" not in row
        assert row["share/kept/policy"] == 1
    assert not (tmp_path / "curve.png").exists()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_the_sweep_of_the_readme(tmp_path: Path) -> None:
    small = ["B=1", "problems_per_step=2", "N=2", "evaluation.every=0", f"hydra.sweep.dir={tmp_path}"]
    done = ekipl("train", "--multirun", "G=8,16", "M=0,1,2", *small)
    assert done.returncode == 0, done.stderr
    runs = sorted(path.parent.name for path in tmp_path.glob("*/summary.md"))
    assert runs == ["0", "1", "2", "3", "4", "5"]
    assert "fewer" not in done.stdout
    offered = [rows(tmp_path / run)[0]["group/offered"] for run in runs]
    assert offered == [2, 4, 6, 2, 4, 6]  # N (M + 1) for M = 0, 1, 2


def test_a_batch_holds_no_copies(tmp_path: Path) -> None:
    done = ekipl(*SMOKE, "problems_per_step=5", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    assert "problems_per_step: 5: a batch of the 4 training problems would hold copies; set it to 4" in done.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("M=3", "only 2"),
        ("N=0", "N"),
        ("model.path=/nowhere", "model.path"),
        ("task=juggling", "counting"),
        ("data.train_limit=0", "train_limit"),
    ],
)
def test_bad_settings_leave_nothing_behind(override: str, words: str, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    done = ekipl(*SMOKE, override, f"hydra.run.dir={directory}")
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not directory.exists()
