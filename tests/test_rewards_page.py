"""docs/rewards.md: its files train by its commands, and its other commands are accepted."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ekipl.cli import conf_dir, ordered, spelled_out
from ekipl.config import check
from ekipl.run.training import run_training
from tests.command import ekipl
from tests.test_extending import SMALL, actions

PAGE = (Path(__file__).parents[1] / "docs" / "rewards.md").read_text()
FILES = re.findall(r"```python\n# (\w+\.py) +(ekipl train [^\n]*)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("ekipl ")
]
RUN = [line for line in (*(line for _, line, _ in FILES), *COMMANDS) if ".py" in line]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    for name, _, text in FILES:
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("line", RUN)
def test_the_rewards_of_the_page_train(line: str, folder: Path) -> None:
    words = spelled_out("train", [*shlex.split(line)[2:], *SMALL.split()])
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose("train", overrides=ordered(words))
    run = folder / "run"
    run.mkdir()
    run_training(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)), run)
    (metrics,) = (json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines())
    weights = cfg.reward_weights or [1]
    names = [word.rpartition(":")[2] for word in ([cfg.reward] if isinstance(cfg.reward, str) else cfg.reward)]
    for action in actions(run):
        parts, total = action["reward"]["parts"], action["reward"]["total"]
        assert total == pytest.approx(sum(w * parts[name] for w, name in zip(weights, names, strict=True)))
        if "strict" in names:
            assert parts["strict"] == action["reward"]["format"] + action["reward"]["accuracy"]
    assert {f"reward/part/{name}/expert_a" for name in names} <= metrics.keys()
    assert metrics.get("group/refused/ungraded", 0) == 0


@pytest.mark.parametrize("line", [line for line in COMMANDS if line not in RUN])
def test_the_other_commands_of_the_page_are_accepted(line: str, folder: Path) -> None:
    _, command, *words = shlex.split(line)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        settings = check(compose(command, overrides=ordered(spelled_out(command, words))), command)  # type: ignore[arg-type]
    assert "judge" in (*settings.rewards, *(settings.also_grade_with or ()))


def test_a_dry_run_counts_the_judgements(folder: Path) -> None:
    words = ["reward=[strict,judge]", "judge.samples=2", "N=3", "M=1", "B=2", "problems_per_step=4"]
    done = ekipl("train", *words, "--dry-run", f"hydra.run.dir={folder / 'run'}")
    assert re.search(r"judgements +\| +96 \|", done.stdout), done.stdout + done.stderr  # 2 x 4 x (3 + 3) x 2


@pytest.mark.slow
def test_a_run_refuses_to_go_on_with_another_reward_and_ends_with_the_trace_of_a_broken_one(folder: Path) -> None:
    words = ["train", "experiment=smoke", "B=1", "reward=my_reward.py:close", f"hydra.run.dir={folder / 'run'}"]
    done = ekipl(*words)
    assert done.returncode == 0, done.stderr
    assert list(json.loads((folder / "run" / "code.json").read_text())) == ["reward: my_reward.py:close"]
    (folder / "my_reward.py").write_text(FILES[0][2] + "\n# another\n")
    done = ekipl(*words, "B=2")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "reward: my_reward.py:close: the file has changed since the run began" in done.stderr
