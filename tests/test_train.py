"""``ekipl train`` as a user runs it, on the tiny model; the kills are real."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from benchmarks.kills import killed, same, saving
from benchmarks.kills import metrics as rows
from ekipl.errors import UsageError
from ekipl.policy.model import TINY
from ekipl.run.resume import refuse_another_run
from tests.command import SMOKE, WHOLE, ekipl


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


def told(run: Path) -> dict[str, bytes]:
    """What the run keeps of its candidates and evaluations."""
    folders = [run / name for name in ("actions", "evaluations", "images")]
    return {f"{folder.name}/{file.name}": file.read_bytes() for folder in folders for file in folder.iterdir()}


def test_a_damaged_checkpoint_costs_only_its_own_step(finished: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(finished, directory)
    shutil.rmtree(directory / "model")  # as if the run had not been finished
    broken = directory / "checkpoints" / "step-4" / "learning-0.safetensors"
    broken.write_bytes(broken.read_bytes()[:-10])
    done = ekipl(*WHOLE, f"hydra.run.dir={directory}")
    assert done.returncode == 0, done.stderr
    assert "step-4: damaged: learning-0.safetensors has " in done.stderr
    assert same(directory, finished)
    assert told(directory) == told(finished)


@pytest.mark.slow
def test_a_run_killed_twice_ends_as_if_nothing_had_happened(finished: Path, tmp_path: Path) -> None:
    """Killed once it has trained a step, then while it saves; resumed in the test's process."""
    run, rng = tmp_path / "run", random.Random(0)
    training = killed(WHOLE, run, lambda: len(rows(run)) > 1)  # the first row is of step 0
    kills = [training, killed(WHOLE, run, saving(run, 1, rng))]
    for kill in kills:
        assert kill is not None, "the run ended before it could be killed"
        assert kill.at in ("saving", "training")
        assert kill.done - kill.saved <= 1  # checkpoint.every is 1
    done = ekipl(*WHOLE, f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    assert same(run, finished), kills
    assert told(run) == told(finished)


def test_another_run_in_the_same_directory_is_refused(finished: Path) -> None:
    before = (finished / "config.yaml").read_text()
    done = ekipl(*SMOKE, "B=3", f"hydra.run.dir={finished}")
    assert done.returncode == 2
    assert "holds a run with other settings" in done.stderr
    assert "Traceback" not in done.stderr
    assert (finished / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ("external: {budget_usd: 1}\n", "external: {budget_usd: 2}\n", None),
        ("external: {models: [{choices: 1}]}", "external: {models: [{choices: 8}]}", None),
        ("checkpoint: {keep: 1}", "checkpoint: {keep: 2}", None),
        ("rollout: {keep: 1}", "rollout: {keep: 2}", "rollout.keep: 2"),  # another section's key of that name
        ("external: {models: [{params: {choices: 1}}]}", "external: {models: [{params: {choices: 8}}]}", "choices: 8"),
        ("B: 2\nI: 2", "B: 3\nI: 2", "B: 3"),  # the reference would be refreshed elsewhere
        ("B: 3\nI: 1", "B: 2\nI: 1", "B: 2"),
        ("B: 2\nI: 1", "B: 3\nI: 1", None),
        ("B: 2\nI: 2", "B: 2\nI: 3", None),
        ("epochs: 1\nI: 1", "epochs: 1.5\nI: 1", None),
        ("B: 2\nI: 1\nN: 1", "B: 3\nI: 1\nN: 2", "B: 3, N: 2"),
        ("logger: {wandb: true}", "logger: {wandb: false}", None),
        ("B: 2\nN: 3", "B: 2", "no N"),
        ("B: [", "B: 2", "not the settings of a run"),  # torn
    ],
)
def test_which_settings_may_change_on_resume(before: str, now: str, changed: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(before)
    (tmp_path / "metrics.jsonl").write_text("")  # it has begun
    if changed is None:
        refuse_another_run(tmp_path / "config.yaml", now)
        return
    with pytest.raises(UsageError, match=changed):
        refuse_another_run(tmp_path / "config.yaml", now)


def test_the_smoke_experiment_learns(tmp_path: Path) -> None:
    done = ekipl(*SMOKE, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert max(row["loss/grad_norm"] for row in rows(tmp_path)[1:]) > 0
    before, after = (load_file(folder / "model.safetensors") for folder in (TINY, tmp_path / "model"))
    assert before.keys() == after.keys()
    assert any(not before[name].equal(after[name]) for name in before)


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
def test_bad_settings_leave_no_directory(override: str, words: str, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    done = ekipl(*SMOKE, override, f"hydra.run.dir={directory}")
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not directory.exists()
