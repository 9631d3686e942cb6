"""The four commands that sample and measure, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ekipl.files import read_jsonl
from ekipl.policy.model import TINY
from ekipl.run.records import read_actions
from tests.command import ekipl

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TINY.exists(), reason="the tiny checkpoint is not built"),
]
SPLITS = {"counting": ["id", "ood"], "structure": ["id", "ood"], "spatial": ["id", "ood_left", "ood_right"]}
TASKS = list(SPLITS)


def run(directory: Path, *arguments: str, status: int = 0) -> str:
    """The output of a command in its own run directory; of a refusal, its message."""
    done = ekipl(*arguments, f"hydra.run.dir={directory}")
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module", params=TASKS)
def sampled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A task, and a run of external-sample on it."""
    directory = tmp_path_factory.mktemp("external")
    output = run(directory, "external-sample", f"task={request.param}", "splits=[train,id]", "limit=5", "samples=4")
    assert "| expert_a | train |        5 |" in output
    assert "| expert_a, expert_b |       10 |" in output
    return request.param, directory


def test_external_actions_are_recorded_with_model_and_reward(sampled: tuple[str, Path]) -> None:
    task, directory = sampled
    records = read_actions(directory / "actions.jsonl")
    assert len(records) == 2 * 5 * 2 * 4  # splits, problems, models, samples
    assert {record.task for record in records} == {task}
    assert {record.sampling["model"] for record in records} == {"simulated/expert_a", "simulated/expert_b"}
    assert all(record.action.reward is not None and record.kept is None for record in records)
    assert 0.3 < sum(record.action.total for record in records) / len(records) / 2 < 1


def test_recorded_actions_give_passk_and_accuracy_without_a_model(sampled: tuple[str, Path], tmp_path: Path) -> None:
    task, recording = sampled
    choice = [f"task={task}", f"records=[{recording}]", "splits=[id]", "limit=3"]
    run(tmp_path / "k", "passk", "--k", "4,1", *choice)
    curves = read(tmp_path / "k" / "passk.json")["splits"]["id"]
    assert [curve["model"] for curve in curves] == ["expert_a", "expert_b"]
    assert not (tmp_path / "k" / "actions.jsonl").exists()

    run(tmp_path / "e", "eval", *choice)
    splits = read(tmp_path / "e" / "scores.json")["splits"]
    for curve, split in zip(curves, splits, strict=True):
        assert curve["k"] == [1, 4]
        assert curve["problems"] == split["problems"] == 3
        assert curve["mean"][0] <= curve["mean"][1]
        assert curve["mean"][0] == pytest.approx(split["accuracy"]["mean"])  # pass@1 is the accuracy
        assert split["samples"] == 3 * 4


@pytest.mark.parametrize("task", TASKS)
def test_rollout(task: str, tmp_path: Path) -> None:
    output = run(tmp_path, "rollout", f"task={task}", "limit=2", "samples=3", "rollout.max_tokens=24", "seed=5")
    assert f"{task}: 3 actions a problem" in output
    records = read_actions(tmp_path / "actions.jsonl")
    assert len(records) == len(SPLITS[task]) * 2 * 3
    for record in records:
        assert record.sampling == {"model": "tiny", "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_tokens": 24}
        assert record.seed == 5
        assert record.action.tokens is not None
        assert record.action.logprobs is not None
        assert len(record.action.tokens) == len(record.action.logprobs) <= 24
    assert (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize("task", TASKS)
def test_eval(task: str, tmp_path: Path) -> None:
    output = run(tmp_path, "eval", f"task={task}", "limit=3", "decoding=greedy", "decoding.max_tokens=24")
    scores = read(tmp_path / "scores.json")
    assert [split["split"] for split in scores["splits"]] == SPLITS[task]
    for split in scores["splits"]:
        assert split["problems"] == 3
        assert 0 <= split["accuracy"]["low"] <= split["accuracy"]["mean"] <= split["accuracy"]["high"] <= 1
    assert scores["meta"]["decoding"]["temperature"] == 0
    assert scores["meta"]["versions"]["torch"]
    rows = read_jsonl(tmp_path / "scores.jsonl")
    assert len(rows) == 3 * len(SPLITS[task])
    assert (tmp_path / "table.md").read_text().splitlines()[2] in output


def test_models_are_compared_and_drawn_together(tmp_path: Path) -> None:
    copy = tmp_path / "copied" / "model"  # as ekipl train saves it: the run has the name of its folder
    copy.parent.mkdir()
    copy.symlink_to(TINY)
    few = ["limit=2", "splits=[id]", "decoding.max_tokens=16", f"models=[{copy}]"]
    output = run(tmp_path / "k", "passk", "--k", "1,2", *few)
    tiny, copied = read(tmp_path / "k" / "passk.json")["splits"]["id"]
    assert (tiny["model"], copied["model"]) == ("tiny", "copied")
    assert tiny["mean"] == copied["mean"]  # the same weights, seed and problems
    assert "Difference" in output
    Image.open(tmp_path / "k" / "passk.png").verify()
    assert len(read_actions(tmp_path / "k" / "actions.jsonl")) == 2 * 2 * 2

    run(tmp_path / "again", "passk", "--k", "1,2", f"records=[{tmp_path / 'k'}]")
    assert read(tmp_path / "again" / "passk.json")["splits"] == read(tmp_path / "k" / "passk.json")["splits"]

    run(tmp_path / "e", "eval", *few)
    (difference,) = read(tmp_path / "e" / "scores.json")["differences"]
    assert (difference["model"], difference["against"], difference["accuracy"]["mean"]) == ("copied", "tiny", 0.0)


def test_predictions_need_no_model(tmp_path: Path) -> None:
    rows = [{"id": i, "answer": "3", "completion": f"<think>x</think><answer>{i}</answer>"} for i in (3, 4)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(tmp_path / "out", "eval", "task=counting", f"predictions={tmp_path / 'p.jsonl'}")
    assert [row["accuracy"] for row in read_jsonl(tmp_path / "out" / "scores.jsonl")] == [1.0, 0.0]
    assert read(tmp_path / "out" / "scores.json")["splits"][0]["accuracy"]["mean"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "splits=[id,foo]"], "splits: foo: counting has train, id, ood"),
        (["passk", "records=[{run}]", "--k", "1,5"], "pass@k needs k samples or more, but expert_a has 4"),
        (["passk", "records=[{run},{run}]", "--k", "1"], "80 samples are there more than once"),
        (["passk", "records=[{run}]", "models=[expert_a]"], "models.0: expert_a: no such folder"),
        (["eval", "records=[{run}]", "splits=[ood]"], "no action of a problem of ood; the splits there are id, train"),
        (["eval", "records=[{run}/none.jsonl]"], "none.jsonl: No such file or directory"),
        (
            ["rollout", "task=spatial", "task._target_=ekipl.tasks.Nothing"],
            "_target_: ekipl.tasks:Nothing: ekipl.tasks has no",
        ),
    ],
)
def test_a_refusal_names_key_value_and_reason(
    arguments: list[str], words: str, recording: Path, tmp_path: Path
) -> None:
    output = run(tmp_path / "run", *(argument.format(run=recording) for argument in arguments), status=2)
    assert words in output
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("recording")
    run(directory, "external-sample", "splits=[train,id]", "limit=5", "samples=4")
    return directory
