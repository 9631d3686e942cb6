"""``ekipl train`` as a user runs it: real processes, real kills."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from benchmarks.kills import killed, same
from benchmarks.kills import metrics as rows

SMOKE = ["train", "experiment=smoke", "rollout.max_tokens=96"]
WHOLE = [*SMOKE, "B=2", "I=2", "mu=2"]


def ekipl(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ekipl", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run of four steps."""
    directory = tmp_path_factory.mktemp("train") / "whole"
    done = ekipl(*WHOLE, f"hydra.run.dir={directory}")
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


def unfinished(run: Path, directory: Path) -> Path:
    """A copy of a finished run, as it was before its model was written."""
    shutil.copytree(run, directory)
    shutil.rmtree(directory / "model")
    return directory


def test_a_damaged_checkpoint_costs_its_step_alone(finished: Path, tmp_path: Path) -> None:
    directory = unfinished(finished, tmp_path / "run")
    broken = directory / "checkpoints" / "step-4" / "learning-0.safetensors"
    broken.write_bytes(broken.read_bytes()[:-10])
    done = ekipl(*WHOLE, f"hydra.run.dir={directory}")
    assert done.returncode == 0, done.stderr
    assert "step-4: damaged: learning-0.safetensors has " in done.stderr
    assert same(directory, finished)


@pytest.mark.slow
def test_another_number_of_processes_goes_on(finished: Path, tmp_path: Path) -> None:
    directory = unfinished(finished, tmp_path / "run")
    shutil.rmtree(directory / "checkpoints" / "step-4")
    done = ekipl(*WHOLE, "engine=zero3", "engine.num_processes=2", f"hydra.run.dir={directory}")
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in rows(directory)] == [0, 1, 2, 3, 4]
    ours, theirs = (load_file(d / "model" / "model.safetensors") for d in (directory, finished))
    for name in ours:
        assert (ours[name] - theirs[name]).norm() <= 1e-3 * theirs[name].norm() + 1e-6, name


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_if_nothing_had_happened(finished: Path, tmp_path: Path) -> None:
    rng = random.Random()
    tries = [killed(WHOLE, tmp_path, rng, length=12, saving=saving) for saving in (True, False, True)]
    kills = [kill for kill in tries if kill is not None]  # the others had come to their end
    assert kills[0].at in ("saving", "training")
    assert all(kill.done - kill.saved <= 1 for kill in kills), kills  # checkpoint.every is 1
    done = ekipl(*WHOLE, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert same(tmp_path, finished), kills


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
