"""The best checkpoint, and runs that end early: by hand, and exact across a stop and a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ekipl.config.sections import StopSettings
from ekipl.report.page import write_report
from ekipl.run import training
from ekipl.run.best import Best, best_of, end_of
from ekipl.run.records import Record
from tests.command import ekipl
from tests.test_config import refusal


def through(*accuracies: float) -> Best:
    best = Best()
    for number, accuracy in enumerate(accuracies):
        best = best.after(10 * number, accuracy)
    return best


def test_the_best_is_the_first_of_the_highest() -> None:
    assert through(0.1, 0.3, 0.2, 0.3) == Best(10, 0.3, 2, 0.3)  # of the two at 0.3 the earlier; two came after it
    assert through() == Best(None, -math.inf, 0, -math.inf)
    nothing = through(math.nan)
    assert (nothing.step, nothing.since) == (None, 1)  # nothing was graded
    assert through(math.nan, 0.0).step == 10


def test_it_is_the_same_after_a_checkpoint(tmp_path: Path) -> None:
    for best in (Best(), through(0.25, 0.5, 0.125)):
        best.save(tmp_path)
        assert best_of(tmp_path) == best
    assert best_of(None) == best_of(tmp_path / "of an earlier version") == Best()


@pytest.mark.parametrize(
    ("accuracies", "stop", "reason"),
    [
        ((0.1, 0.9), StopSettings(at=0.9, patience=None), "an accuracy of 90.0% on id (stop.at=0.9)"),
        ((0.9, 0.1), StopSettings(at=0.9, patience=None), None),  # the last one decides
        ((0.5, 0.4), StopSettings(at=None, patience=2), None),
        (
            (0.5, 0.4, 0.5),
            StopSettings(at=None, patience=2),
            "2 evaluations on id that are not above 50.0% of step 0 (stop.patience=2)",
        ),
        ((0.5, 0.4, 0.6), StopSettings(at=None, patience=1), None),
        ((), StopSettings(at=0.1, patience=1), None),
        ((math.nan,), StopSettings(at=0.1, patience=2), None),
        ((0.1, 0.2, 0.1), StopSettings(at=None, patience=None), None),
    ],
)
def test_when_a_run_ends(accuracies: tuple[float, ...], stop: StopSettings, reason: str | None) -> None:
    assert through(*accuracies).enough(stop, "id") == reason


def row(step: int, accuracy: float) -> str:
    values = {"accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1}
    return json.dumps({"step": step, **{f"eval/id/{key}": value for key, value in values.items()}}) + "\n"


def test_the_summary_shows_first_best_and_last_with_intervals(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(map(row, (0, 10, 20, 30), (0.2, 0.5, 0.5, 0.4))))
    (tmp_path / "checkpoints" / "step-10").mkdir(parents=True)
    page = write_report(tmp_path, None, "id", "2 evaluations")
    assert "| split |              step 0 |       best: step 10 |             step 30 |" in page
    assert "| id    | 20.0 (10.0 to 30.0) | 50.0 (40.0 to 60.0) | 40.0 (30.0 to 50.0) |" in page
    assert "* ended before its last step: 2 evaluations" in page
    assert "* best by id; as the best of 4 evaluations it looks better than it is" in page
    assert f"ekipl eval model.path={tmp_path}/checkpoints/step-10" in page


def test_what_looks_at_evaluations_needs_them() -> None:
    lines = refusal("train", "evaluation.every=0", "stop.at=0.5", "stop.patience=1", "checkpoint.best=id")
    assert [line.partition(":")[0] for line in lines] == ["checkpoint.best", "stop.at", "stop.patience"]
    assert refusal("train", "checkpoint.every=0", "checkpoint.best=id") == [
        "checkpoint.best: id: checkpoint.every=0 keeps none; set it to 1 or more, or checkpoint.best=null"
    ]
    assert "not among evaluation.splits=ood" in refusal("train", "evaluation.splits=[ood]", "checkpoint.best=id")[0]


RUN = ["train", "experiment=smoke", "B=5", "evaluation.every=1", "evaluation.splits=[id]", "checkpoint.keep=1"]


def scripted(monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> list[float]:
    """The evaluations of the run give these accuracies in turn; the value holds those that are left."""
    left = list(accuracies)

    def measured(*_: Any) -> tuple[dict[str, float], list[Record]]:
        accuracy = left.pop(0)
        return {f"eval/id/{key}": accuracy for key in ("accuracy", "accuracy_low", "accuracy_high")}, []

    monkeypatch.setattr(training, "evaluated", measured)
    return left


@pytest.mark.slow
def test_the_best_checkpoint_stays_and_patience_ends_the_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*RUN, "checkpoint.best=id", "stop.patience=2", f"hydra.run.dir={tmp_path}"]
    left = scripted(monkeypatch, 0.1, 0.5, 0.4, 0.5)  # steps 0 to 3
    done = ekipl(*words)
    assert (done.returncode, left) == (0, []), done.stderr
    assert "ends after step 3: 2 evaluations on id that are not above 50.0% of step 1 (stop.patience=2)" in done.stderr
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"step-1", "step-3"}
    assert "| 10.0 (10.0 to 10.0) | 50.0 (50.0 to 50.0) |" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "model" / "config.json").is_file()
    assert ekipl(*words).returncode == 0  # it is finished: nothing is evaluated

    (tmp_path / "ended.json").unlink()  # as if it was killed between its checkpoint and its end
    (tmp_path / "model").rename(tmp_path / "gone")
    assert ekipl(*words).returncode == 0
    assert end_of(tmp_path)["step"] == 3

    left = scripted(monkeypatch, 0.6, 0.1)  # steps 4 and 5
    assert ekipl(*words, "stop.patience=4").returncode == 0
    assert left == []
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"step-4", "step-5"}
    assert end_of(tmp_path) == {}
