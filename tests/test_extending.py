"""docs/extending.md: every example trains, and does what the page says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ekipl.cli import conf_dir, ordered, spelled_out
from ekipl.run.training import run_training

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"```python\n# (\w+\.py)(?: +(ekipl train [^\n]*))?\n(.*?)```", PAGE, re.DOTALL)
LINES = [line for _, line, _ in BLOCKS if line]
SMALL = "N=2 G=4 B=1 problems_per_step=2 evaluation.every=0 checkpoint.every=0 rollout.max_tokens=48 logger=jsonl"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, _, code in BLOCKS:
        with (tmp_path / name).open("a") as file:
            file.write(code + "\n\n")
    return tmp_path


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split()[2].partition("=")[0])
def test_every_example_of_the_page_trains(line: str, files: Path) -> None:
    words = spelled_out("train", [*shlex.split(line)[2:], *SMALL.split()])
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose("train", overrides=ordered(words))
    run = files / "run"
    run.mkdir()
    run_training(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)), run)
    (metrics,) = (json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines())
    assert (run / "model" / "model.safetensors").is_file()
    CHECKS[line.split()[2].partition("=")[0]](metrics, run)


def actions(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "actions" / "step-000001.jsonl").read_text().splitlines()]


def half_of_each(metrics: dict[str, float], run: Path) -> None:
    assert metrics["share/kept/policy"] == 0.5  # 2 of G = 4


def centred(metrics: dict[str, float], run: Path) -> None:
    by_problem: dict[str, list[dict[str, Any]]] = {}
    for action in actions(run):
        by_problem.setdefault(action["problem"], []).append(action)
    for offered in by_problem.values():
        rewards = [action["reward"]["format"] + action["reward"]["accuracy"] for action in offered]
        for action, reward in zip(offered, rewards, strict=True):
            if action["kept"]:
                assert action["advantage"] == pytest.approx(reward - sum(rewards) / len(rewards))


def trained(metrics: dict[str, float], run: Path) -> None:
    assert metrics["loss/skipped"] == 0


def short_answers_pay(metrics: dict[str, float], run: Path) -> None:
    assert all(action["reward"]["format"] == 0 for action in actions(run))  # a float is the accuracy


def own_problems(metrics: dict[str, float], run: Path) -> None:
    assert {action["task"] for action in actions(run)} == {"sums"}


def teacher_is_right(metrics: dict[str, float], run: Path) -> None:
    assert metrics["reward/accuracy/teacher"] == 1
    assert "reward/accuracy/expert_a" not in metrics


CHECKS = {
    "selection": half_of_each,
    "objective.baseline": centred,
    "objective.external_weight": trained,
    "reward": short_answers_pay,
    "task": own_problems,
    "external": teacher_is_right,
    "rollout": trained,
}


def test_every_seam_has_an_example() -> None:
    assert {line.split()[2].partition("=")[0] for line in LINES} == set(CHECKS)
    assert "data=sums.py:Drawn" in PAGE
    assert all(len(code.strip().splitlines()) <= 15 for _, _, code in BLOCKS)
