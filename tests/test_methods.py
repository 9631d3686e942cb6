"""The supervised and the two-stage methods through ``ekipl train``, on the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from ekipl.algorithm.loss import loss, token_weights
from ekipl.algorithm.objective import Objective
from ekipl.algorithm.schedule import Schedule
from ekipl.algorithm.types import Problem
from ekipl.cli import conf_dir
from ekipl.config import Settings, check, first_stage
from ekipl.errors import UsageError
from ekipl.external.offline import Demonstrations
from tests.command import SMOKE, ekipl


def problem(metadata: dict[str, Any]) -> Problem:
    return Problem("p", "counting", "train", (), "How many?", "How many?", "3", "number", metadata)


def test_a_demonstration_is_the_rows_own_answer() -> None:
    (answer,) = Demonstrations("data", with_reasoning=True).sample([problem({"cot": "1 and 2"})], 8)
    assert [a.text for a in answer.actions] == ["<think>\n1 and 2\n</think>\n<answer>\n3\n</answer>"]
    assert (answer.actions[0].source, answer.actions[0].finish) == ("data", "stop")
    (bare,) = Demonstrations("data", with_reasoning=False).sample([problem({})], 8)
    assert [a.text for a in bare.actions] == ["3"]
    with pytest.raises(UsageError, match="data: p: no cot"):
        Demonstrations("data", with_reasoning=True).sample([problem({})], 8)


def test_the_supervised_objective_is_the_mean_log_likelihood_of_the_tokens() -> None:
    logp = torch.tensor([[-1.0, -2.0, -0.5], [-3.0, -0.1, 0.0]], requires_grad=True)
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    objective = Objective(beta=0.0, external_weight="unit", aggregation="token_mean")
    weights = token_weights(objective, mask, actions=2, tokens=5)
    result = loss(objective, logp, logp.detach(), None, torch.ones(2), torch.ones(2).bool(), mask, weights)
    result.value.backward()  # type: ignore[no-untyped-call]
    assert logp.grad is not None
    assert torch.equal(logp.grad, -mask / 5)  # of -(sum of logp over the tokens) / 5


def rows(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_supervised_learning_raises_the_likelihood_of_the_answers(tmp_path: Path) -> None:
    few = ["problems_per_step=4", "B=6", "evaluation.every=0", "checkpoint.every=0"]
    done = ekipl(*SMOKE, "method=ans_sft", *few, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    seen = rows(tmp_path)
    assert seen[-1]["loss/external_probability"] > seen[0]["loss/external_probability"]  # of the same four answers
    assert {row["share/kept/demonstration"] for row in seen} == {1.0}
    actions = [json.loads(line) for line in (tmp_path / "actions" / "step-000001.jsonl").read_text().splitlines()]
    assert {(row["source"], row["advantage"], row["reward"]["accuracy"]) for row in actions} == {
        ("demonstration", 1, 1)
    }
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_two_stages_are_one_command_that_goes_on_where_it_stopped(tmp_path: Path) -> None:
    few = ["data.train_start=4", "first_stage.data.train_limit=4", "evaluation.every=0", "B=1"]
    command = [*SMOKE, "method=reason_rft", *few, f"hydra.run.dir={tmp_path}"]
    done = ekipl(*command)
    assert done.returncode == 0, done.stderr
    first, second = tmp_path / "first_stage", tmp_path
    assert rows(first)[-1]["share/kept/demonstration"] == rows(second)[-1]["share/kept/policy"] == 1
    trained = {
        json.loads(line)["problem"] for f in (first / "actions").iterdir() for line in f.read_text().splitlines()
    }
    assert trained <= {f"counting-train-{i}" for i in range(4)}
    sampled = {
        json.loads(line)["problem"] for f in (second / "actions").iterdir() for line in f.read_text().splitlines()
    }
    assert sampled <= {f"counting-train-{i}" for i in range(4, 8)}
    (second / "model").rename(tmp_path / "model.gone")  # as if the second stage had been stopped
    before = (first / "model" / "model.safetensors").stat().st_mtime_ns
    again = ekipl(*command)
    assert again.returncode == 0, again.stderr
    assert (second / "model" / "model.safetensors").read_bytes() == (
        tmp_path / "model.gone" / "model.safetensors"
    ).read_bytes()
    assert (first / "model" / "model.safetensors").stat().st_mtime_ns == before


METHODS = sorted(file.stem for file in (conf_dir() / "method").glob("*.yaml"))
SHIPPED = {
    *("ekipl", "reason_rft_zero", "reason_rft", "sft_ekipl", "ans_sft", "cot_sft", "compute_matched", "contrast"),
    *("pool_baseline", "drop_below", "shaped", "unit", "sft_external", "sft_external_grpo", "beyond", "luffy", "hpt"),
    *("chord", "chord_phi", "s2l_po", "ampo", "needed"),
}


def settings(method: str, *overrides: str) -> tuple[Settings, Settings | None]:
    """Of a method, and of its first stage."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose("train", overrides=[f"method={method}", *overrides])
    before = first_stage(cfg)
    return check(cfg, "train"), check(before, "train") if before is not None else None


def test_the_methods_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[1] / "docs" / "algorithm.md").read_text()
    assert set(METHODS) == SHIPPED
    assert [method for method in METHODS if f"`{method}`" not in page] == []


@pytest.mark.parametrize("recipe", ["tiny", "paper"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes_with_every_recipe(method: str, recipe: str) -> None:
    mine, _ = settings(method, f"recipe={recipe}", "external=simulated")
    assert mine.method.name == method


def test_the_methods_of_the_field_have_their_published_settings() -> None:
    luffy, _ = settings("luffy")
    assert (luffy.candidates, luffy.G, luffy.selection.rule) == ((7, 1), 8, "top_g")  # all eight are kept
    objective = luffy.objective
    assert (objective.std, objective.eps, objective.beta, objective.aggregation) == ("none", None, 0, "constant")
    assert (objective.external_weight, objective.shaped_gamma) == ("shaped", 0.1)
    beyond, _ = settings("beyond")
    assert (beyond.G, beyond.objective.beta, beyond.selection.rule) == (beyond.N + 2, 0, "beyond")
    needed, _ = settings("needed")
    assert (needed.G, needed.objective.beta, needed.selection.rule) == (needed.N + 2, 0, "needed")
    assert needed.selection.switch == 3
    hpt, _ = settings("hpt")
    assert (hpt.selection.rule, hpt.selection.switch, hpt.objective.external_weight) == ("hpt", 0, "unit")
    ampo, _ = settings("ampo")
    assert (ampo.G, ampo.selection.rule, ampo.selection.rescue, ampo.selection.rank) == (
        8,
        "rescue",
        2,
        "comprehension",
    )
    assert (ampo.eps, ampo.beta, ampo.objective.std, ampo.objective.external_weight) == (0.2, 0, "none", "shaped")
    chord, _ = settings("chord")
    assert chord.objective.external_mix == Schedule(start=0.9, end=0.05, steps=200)
    phi, _ = settings("chord_phi")
    assert phi.objective.external_mix is not None
    assert (phi.objective.external_mix.at(0), phi.objective.external_mix.at(500)) == (0.1, 0.1)
    assert phi.objective.external_weight == "chord_phi"


def test_supervised_learning_of_external_actions_comes_before_grpo_on_the_same_problems() -> None:
    second, first = settings("sft_external_grpo")
    assert first is not None
    assert (first.policy_samples, first.M, first.selection.rule, first.objective.baseline) == (
        0,
        2,
        "external_right",
        "none",
    )
    grpo, _ = settings("reason_rft_zero")
    assert (second.M, second.G, second.objective, second.selection) == (0, 8, grpo.objective, grpo.selection)
    assert first.data == second.data == grpo.data


@pytest.mark.slow
def test_supervised_stage_skips_problems_without_a_right_external_action(tmp_path: Path) -> None:
    few = ["problems_per_step=2", "B=2", "evaluation.every=0", "checkpoint.every=0", "N=1", "M=1"]
    wrong = ["external.experts.0.accuracy=0"]
    rule = ["method=sft_external", "selection=external_right"]
    done = ekipl(*SMOKE, *rule, *few, *wrong, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert {(row["group/size"], row["loss/skipped"]) for row in rows(tmp_path)} == {(0, 1)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["sft_external_grpo", "luffy", "hpt", "chord_phi", "beyond", "needed", "s2l_po", "ampo"]
)
def test_methods_of_the_field_train(method: str, tmp_path: Path) -> None:
    few = ["problems_per_step=2", "B=1", "evaluation.every=0", "checkpoint.every=0", "external.experts.0.accuracy=1"]
    done = ekipl(*SMOKE, f"method={method}", "G=12", *few, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path)
    if method == "hpt":
        assert row["share/kept/policy"] < 1
    lines = (tmp_path / "actions" / "step-000001.jsonl").read_text().splitlines()
    others = [action for action in map(json.loads, lines) if action["source"] != "policy"]
    assert all((action["logprobs"] is not None) == (method == "ampo") for action in others)
    if method != "sft_external_grpo":
        assert row["loss/external_weight"] > 0
