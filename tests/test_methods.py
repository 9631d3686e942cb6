"""The supervised and the two-stage methods through ``ekipl train``, on the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ekipl.algorithm.loss import loss, token_weights
from ekipl.algorithm.objective import Objective
from ekipl.algorithm.types import Problem
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
