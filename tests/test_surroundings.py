"""Unlucky surroundings of a command: files in the way, sweeps, dry runs, logins, settings without effect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ekipl.config.effects import without_effect
from ekipl.config.values import without
from ekipl.errors import UsageError
from ekipl.files import explain_full_disk
from ekipl.run.resume import FILES, FOLDERS, refuse_another_run, refuse_strange_files
from ekipl.run.saved import load_saved
from tests.command import SMOKE, ekipl
from tests.test_config import _keys, composed, refusal

__all__ = ["_keys"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_where_a_run_has_a_folder_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(UsageError, match=rf"{name}: a file, where a run has a folder; move it away"):
        refuse_strange_files(tmp_path)


def test_what_lies_in_the_way_is_one_line_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "actions").write_text("mine")
    done = ekipl(*SMOKE, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == (
        f"{tmp_path}/actions: a file, where a run has a folder; move it away, or give another hydra.run.dir\n"
    )
    assert (tmp_path / "actions").read_text() == "mine"
    (tmp_path / "eval" / "actions.jsonl").mkdir(parents=True)
    done = ekipl("eval", f"hydra.run.dir={tmp_path}/eval")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "actions.jsonl: a folder, where a run has a file" in done.stderr
    assert set(FILES) & set(FOLDERS) == set()


def test_a_write_into_something_else_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("")
    with pytest.raises(UsageError, match=r"plots: File exists; move away what is there"), explain_full_disk(tmp_path):
        (tmp_path / "plots").mkdir()
    with pytest.raises(IsADirectoryError), explain_full_disk(tmp_path / "elsewhere"):
        tmp_path.read_text()


@pytest.mark.parametrize("text", ["B: [", "", "5", "a: 1", "${", "B: ${oc.env", "\x00", "- 1"])
def test_a_torn_config_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UsageError) as refused:
        load_saved(tmp_path / "config.yaml")
    line = str(refused.value)
    assert line.startswith(f"{tmp_path}/config.yaml: not the settings of a run (")
    assert "\n" not in line
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UsageError, match="not the settings of a run|holds a run with other settings"):
        refuse_another_run(tmp_path / "config.yaml", "B: 2")


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_is_told_where_it_writes(flag: str, tmp_path: Path) -> None:
    done = ekipl("train", flag, "G=4,8", "hydra.run.dir=runs/x", cwd=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert done.stderr == (
        "ekipl train: hydra.run.dir=runs/x: a sweep writes its jobs to hydra.sweep.dir; "
        "set hydra.sweep.dir=runs/x instead\n"
    )
    done = ekipl("eval", "hydra.sweep.dir=runs/x", cwd=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "set hydra.run.dir=runs/x instead" in done.stderr


@pytest.mark.parametrize(("command", "mode"), [("train", ["--multirun", "G=8,16"]), ("external-sample", [])])
def test_a_dry_run_leaves_nothing_behind(mode: list[str], command: str, tmp_path: Path) -> None:
    done = ekipl(command, *mode, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    if not mode:
        (tmp_path / "run" / ".hydra").mkdir(parents=True)
        (tmp_path / "run" / ".hydra" / "config.yaml").write_text("mine")
        assert ekipl(command, "--dry-run", f"hydra.run.dir={tmp_path}/run", cwd=tmp_path).returncode == 0
        assert [path.name for path in (tmp_path / "run").rglob("*")] == [".hydra", "config.yaml"]


def test_a_dry_run_says_how_many_gpus_it_assumes_and_what_one_alone_would_need(tmp_path: Path) -> None:
    output = ekipl("train", "task=spatial", "model=qwen2vl_7b", "B=1", "--dry-run", cwd=tmp_path).stdout
    line = re.search(
        r"for 7 GPUs \(one machine with engine\.num_processes=7\); one GPU alone \(engine\.num_processes=1\) would "
        r"need ([\d.]+) GiB",
        output,
    )
    assert line is not None, output
    alone = ["task=spatial", "model=qwen2vl_7b", "B=1", "engine.num_processes=1", "--dry-run"]
    output = ekipl("train", *alone, cwd=tmp_path).stdout
    assert "for one GPU (engine.num_processes=1)" in output
    total = re.search(r"\| sum +\| +([\d.]+)", output)
    assert total is not None
    assert total[1] == line[1]


def test_no_login_is_told_before_anything_loads_and_the_folder_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", f"{tmp_path}/netrc")
    line = (
        "logger.mode: online: no login to api.wandb.ai (neither WANDB_API_KEY nor a line in .netrc); run wandb login, "
        "or set logger.mode=offline"
    )
    assert refusal("train", "logger=wandb") == [line]
    composed("train", "logger=wandb", "logger.mode=offline")
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password 0123456789\n")
    composed("train", "logger=wandb")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert "no login to wandb.example.org" in refusal("train", "logger=wandb")[0]
    # a folder in which nothing was trained takes the corrected command, and the logger may change in any
    config = tmp_path / "config.yaml"
    config.write_text("N: 3\nlogger: {mode: online}\n")
    refuse_another_run(config, "N: 4\nlogger: {mode: offline}\n")
    (tmp_path / "metrics.jsonl").write_text("")
    refuse_another_run(config, "N: 3\nlogger: {mode: offline}\n")
    with pytest.raises(UsageError, match="N: 4"):
        refuse_another_run(config, "N: 4\nlogger: {mode: online}\n")


@pytest.mark.parametrize(
    ("command", "overrides", "told"),
    [
        ("train", ["model.lora.alpha=8"], "model.lora.alpha: 8: model.lora.rank=0 trains without adapters"),
        ("train", ["selection.contrast=2"], "selection.contrast: 2: only selection=contrast reads it"),
        ("train", ["objective.shaped_gamma=0.5"], "objective.shaped_gamma: 0.5: only objective.external_weight=shaped"),
        ("train", ["beta=0", "objective.kl_on=own"], "objective.kl_on: own: beta=0 has no KL term"),
        ("train", ["evaluation.every=0", "evaluation.limit=3"], "evaluation.limit: 3: evaluation.every=0"),
        ("train", ["checkpoint.every=0", "checkpoint.keep=3"], "checkpoint.keep: 3: checkpoint.every=0"),
        ("train", ["logger.project=mine"], "logger.project: mine: Weights & Biases is not used"),
        (
            "train",
            ["external.on_exhausted=policy_only"],
            "external.on_exhausted: policy_only: external.budget_usd=null",
        ),
        (
            "eval",
            ["rollout.temperature=0.5"],
            "rollout.temperature: 0.5: eval samples as decoding.* says; set decoding.t",
        ),
        ("passk", ["rollout.max_tokens=5"], "rollout.max_tokens: 5: passk samples as decoding.* says"),
        (
            "passk",
            ["records=[x]", "decoding.top_p=0.5"],
            "decoding.top_p: 0.5: records is read, and nothing is sampled",
        ),
        ("eval", ["predictions=p", "limit=3"], "limit: 3: the rows of predictions are graded as they are"),
        ("eval", ["predictions=p", "model.path=tiny"], "model.path: tiny: predictions is read, and nothing is sampled"),
    ],
)
def test_settings_without_effect_are_refused(command: str, overrides: list[str], told: str, tmp_path: Path) -> None:
    done = ekipl(command, *overrides, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n"), list(tmp_path.iterdir())) == (2, 1, []), done.stderr
    assert done.stderr.startswith(told)


@pytest.mark.parametrize(
    ("command", "overrides"),
    [
        ("train", ["model.lora.rank=4", "model.lora.alpha=8"]),
        ("train", ["selection=contrast", "selection.contrast=2"]),
        ("train", ["external.budget_usd=1", "external.on_exhausted=policy_only"]),
        ("train", ["external=none", "evaluation.limit=3", "checkpoint.keep=3", "objective.kl_on=own"]),
        ("eval", ["models=[tiny]", "records=[x]", "decoding.top_p=0.5", "rollout.batch_size=4"]),
        ("external_sample", ["rollout.max_tokens=40"]),
    ],
)
def test_settings_with_effect_pass(command: str, overrides: list[str]) -> None:
    from omegaconf import OmegaConf

    values = without(set(), OmegaConf.to_container(composed(command, *overrides)))  # type: ignore[arg-type]
    assert without_effect(values, command, overrides) == []
