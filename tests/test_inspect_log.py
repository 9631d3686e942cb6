"""The logs for ``inspect view``, read back by Inspect's own reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ekipl.algorithm.types import PATH, Action, Problem, Reward
from ekipl.data.reason_rft import ReasonRFTData
from ekipl.policy.model import TINY
from ekipl.report.evaluate import GradedAction, summarize
from ekipl.tasks.counting import Counting
from tests.command import ekipl


def test_a_picture_of_a_file_knows_its_place(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "a.png")
    row = {"id": "a", "image": "images/a.png", "problem": "?", "solution": "1"}
    (tmp_path / "Visual-Counting-id-test-1.json").write_text(json.dumps([row]))
    (image,) = ReasonRFTData(root=str(tmp_path), cache=None).problems(Counting(), "id")[0].images
    assert image.info[PATH] == str(tmp_path / "images" / "a.png")


def test_without_the_library_or_with_predictions_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekipl.config.rules.find_spec", lambda name: None)
    done = ekipl("eval", "inspect=true", "predictions=x.jsonl", cwd=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    first, second = done.stderr.splitlines()
    assert first == "inspect: true: a file of predictions has no problems to show; leave out one of the two"
    assert second.startswith("inspect: true: inspect_ai is not installed; pip install 'ekipl[inspect]'")


def graded(problem: Problem, sample: int, accuracy: float | None) -> GradedAction:
    reward = None if accuracy is None else Reward(1.0, accuracy)
    why = "no time" if accuracy is None else None
    action = Action(problem.id, "policy", sample, f"answer {sample}", "length")
    return GradedAction(
        problem.id, problem.split, problem.kind, "add", sample, action.text, "length", 3, reward, why, {"other": 0.5}
    )


def test_the_log_holds_what_was_asked_answered_and_graded(tmp_path: Path) -> None:
    inspect_log = pytest.importorskip("inspect_ai.log")
    from ekipl.report.inspect_log import write_inspect_logs

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    placed = Image.new("RGB", (4, 4))
    placed.info[PATH] = str(tmp_path / "a.png")
    images = (placed, Image.new("RGB", (5, 6)))
    one = Problem("p/1", "counting", "id", images, "How many?", "See <image> <image> How many?", "3", "number")
    two = Problem("p2", "counting", "id", (), "More?", "More?", "4", "number")
    rows = [graded(one, 0, 1.0), graded(one, 1, 0.0), graded(two, 0, 1.0), graded(two, 1, None)]
    folder = write_inspect_logs(
        tmp_path, "counting", {"id": [one, two], "ood": []}, {"../odd model": summarize(rows)}, "strict", {"seed": 7}
    )
    [file] = folder.iterdir()
    assert [Path(info.name.removeprefix("file://")) for info in inspect_log.list_eval_logs(str(folder))] == [file]
    log: Any = inspect_log.read_eval_log(str(file))
    assert (log.status, log.eval.task, log.eval.model, log.eval.config.epochs) == (
        "success", "counting_id", "../odd model", 2,
    )  # fmt: skip
    samples = sorted(log.samples, key=lambda sample: (sample.id, sample.epoch))
    assert [(s.id, s.epoch, s.target) for s in samples] == [
        ("p/1", 1, "3"), ("p/1", 2, "3"), ("p2", 1, "4"), ("p2", 2, "4"),
    ]  # fmt: skip
    parts = samples[0].input[0].content
    assert [part.type for part in parts] == ["text", "image", "text", "text", "text"]
    assert parts[1].image == str(tmp_path / "a.png")  # a reference, no pixels
    assert parts[3].text == "[an image of 5 x 6 pixels, of no file]"
    assert [s.output.completion for s in samples] == ["answer 0", "answer 1"] * 2
    assert {s.output.stop_reason for s in samples} == {"max_tokens"}
    assert {name: score.value for name, score in samples[1].scores.items()} == {
        "accuracy": 0.0, "format": 1.0, "other": 0.5,
    }  # fmt: skip
    assert set(samples[3].scores) == {"other"}  # never a 0 for what was not graded
    assert samples[3].metadata["ungraded"] == "no time"
    assert {(s.metadata["split"], s.metadata["family"]) for s in samples} == {("id", "add")}
    means = {score.name: score.metrics["mean"].value for score in log.results.scores}
    assert means == {"accuracy": 0.75, "format": 1.0, "other": 0.5}  # ((1 + 0) / 2 + 1) / 2


@pytest.mark.slow
@pytest.mark.skipif(not TINY.exists(), reason="the tiny checkpoint is not built")
def test_eval_and_passk_write_one_log_a_split(tmp_path: Path) -> None:
    inspect_log = pytest.importorskip("inspect_ai.log")
    few = ["limit=2", "decoding.max_tokens=4", "inspect=true"]
    done = ekipl("eval", *few, f"hydra.run.dir={tmp_path / 'eval'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "eval" / "inspect")
    means = {
        row["split"]: row["accuracy"]["mean"]
        for row in json.loads((tmp_path / "eval/scores.json").read_text())["splits"]
    }
    for split in ("id", "ood"):
        log = inspect_log.read_eval_log(str(tmp_path / "eval" / "inspect" / f"{split}_1_tiny.eval"))
        assert len(log.samples) == 2
        assert log.results.scores[0].metrics["mean"].value == means[split]
    done = ekipl("passk", "--k", "1,2", "splits=[id]", *few, f"hydra.run.dir={tmp_path / 'passk'}")
    assert done.returncode == 0, done.stderr
    log = inspect_log.read_eval_log(str(tmp_path / "passk" / "inspect" / "id_1_tiny.eval"))
    assert sorted(sample.epoch for sample in log.samples) == [1, 1, 2, 2]
