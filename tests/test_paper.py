"""``make paper``: cells, their order and files, and the page. ``make paper-quick`` runs the whole path."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from benchmarks.paper import __main__ as command
from benchmarks.paper import cells, record, results
from benchmarks.paper.cells import FULL, METHODS, QUICK, Cell, Part
from benchmarks.paper.queue import Job, Queue
from benchmarks.paper.run import Ended, Place, differences
from ekipl.cli import conf_dir, spelled_out
from ekipl.config import check


def lines(scale: cells.Scale, recording: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Each command of a scale once, without those that differ in the seed or the learning rate alone."""
    found = []
    for cell in cells.cells(scale):
        if cell.seed == 0 or cell.name == "counting-ekipl-lr":
            rate = None if cell.seed is None or not cell.is_trained else "1e-4"
            found += [tuple(line) for line in cells.commands(cell, rate, scale).values()]
    found += [tuple(cells.recording(task, scale)) for task in scale.parts]
    # The model and the recording are not there yet.
    places = {"model.path=": "model.path=tiny", "external.path=": f"external.path={recording}"}
    for key, there in places.items():
        found = [tuple(there if word.startswith(key) else word for word in line) for line in found]
    return [(line[0], line[1:]) for line in dict.fromkeys(found)]


@pytest.mark.parametrize("scale", [FULL, QUICK], ids=["paper", "quick"])
def test_every_command_composes_and_is_accepted(scale: cells.Scale, tmp_path: Path) -> None:
    recording = tmp_path / "actions.jsonl"
    recording.touch()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        for name, overrides in lines(scale, recording):
            file = name.replace("-", "_")
            check(compose(file, overrides=spelled_out(name, list(overrides))), file)  # type: ignore[arg-type]


def test_second_stages_train_on_what_is_left() -> None:
    """20 of 70 steps are the first stage: 240 of 840 problems, and 50 steps for the other 600."""
    line = cells.commands(Cell("counting", "reason_rft", 0), "1e-4", FULL)["train"]
    assert {"B=50", "+first_stage.B=20", "data.train_start=240", "first_stage.data.train_limit=240"} <= set(line)
    assert "data.train_size=840" in line


def test_a_cell_is_known_by_its_settings() -> None:
    cell = Cell("counting", "ekipl", 0)
    hashes = [
        cells.settings_hash(cell, "1e-4", FULL),
        cells.settings_hash(cell, "3e-4", FULL),
        cells.settings_hash(cell, "1e-4", QUICK),
        cells.settings_hash(cell._replace(seed=1), "1e-4", FULL),
        cells.settings_hash(cell._replace(method="beyond"), "1e-4", FULL),
    ]
    assert len(set(hashes)) == len(hashes)
    assert cells.settings_hash(cell, "1e-4", FULL) == hashes[0]
    assert cells.parse("counting-sft_external_grpo-3") == ("counting", "sft_external_grpo", 3)
    assert cells.parse("counting-ekipl-lr").seed is None
    with pytest.raises(ValueError, match="no cell"):
        cells.parse("counting-nobody-1")


def test_order_is_rates_then_seed_by_seed() -> None:
    names = [cell.name for cell in cells.cells(QUICK)]
    rates = ["counting-reason_rft_zero-lr", "counting-ekipl-lr"]
    assert names == [*rates, *(f"counting-{m}-{s}" for s in (0, 1) for m in ("base", "reason_rft_zero", "ekipl"))]
    everything = [cell.task for cell in cells.cells(FULL)]
    assert list(dict.fromkeys(everything)) == ["counting", "structure", "spatial"]
    assert cells.known_methods(Part(("base", "ekipl"), (0,))) == ["base", "ekipl"]


def test_a_method_that_conf_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cells.METHODS, "later", cells.Method(("method=later",)))  # type: ignore[arg-type]
    assert cells.known_methods(Part(("later", "ekipl"), (0,))) == ["ekipl"]


def queue(jobs: list[Job], stopped: Callable[[], None] = lambda: None) -> tuple[Queue, list[str]]:
    said: list[str] = []
    return Queue(jobs, 1, said.append, stopped, Ended), said


def test_queue_waits_for_what_a_job_needs_and_leaves_out_what_cannot_run() -> None:
    ran: list[str] = []

    def fail() -> None:
        raise ValueError("broken")

    jobs = [
        Job("late", lambda: ran.append("late"), ("early", "done before")),
        Job("early", lambda: (time.sleep(0.05), ran.append("early"))[1]),
        Job("bad", fail),
        Job("lost", lambda: ran.append("lost"), ("bad",)),
    ]
    found, said = queue(jobs)
    found.run(2, None)
    assert ran == ["early", "late"]
    assert found.failed == {"bad": "ValueError: broken", "lost": "what it needs has failed"}
    assert any("3 of 5 cells done" in line for line in said)


def test_queue_ends_when_the_time_is_over() -> None:
    ended: list[bool] = []

    def long() -> None:
        while not ended:
            time.sleep(0.01)
        raise Ended

    found, said = queue([Job("long", long), Job("never", lambda: None)], lambda: ended.append(True))
    found.run(1, 0.0)
    assert ended
    assert not found.failed
    assert len(said) == 1  # that the time is over


def made_up(place: Place, cell: Cell, right: list[int], **changed: Any) -> None:
    """A finished cell: 2 samples of each of four problems a split, so many of them right."""
    rate = None if cell.seed is None or not cell.is_trained else "1e-4"
    names = [f"p{i}" for i in range(len(right))]
    columns = {"id": names, "families": ["a", "b"], "family": [0, 0, 1, 1], "samples": [2] * 4, "right": right}
    columns |= {"formed": [2] * 4, "skill_of": [0, 0, 2, 2], "skill": [0, 0, 1, 1]}
    passk = {"id": names, "samples": [4] * 4, "right": right}
    training = {"step": [5, 10], "accuracy": [0.1, 0.2], "skill": [None, 0.5], "dead": [0.2, 0.4]}
    training |= {"external_offered": [0.6, 0.6], "external_kept": [0.8, 0.5 + 0.1 * (cell.seed or 0)]}
    last = sum(right) / 8
    evaluations = {"steps": [0, 10], "samples": [0, 100], "id": [0.0, last], "ood": [0.0, last]}
    about = {"settings": cells.settings_hash(cell, rate, place.scale), "base": place.base, "learning_rate": rate}
    found = {
        **{"cell": cell.name, "choice": {"chosen": "1e-4"}, "training": training, "evaluations": evaluations},
        **{"problems": {"id": columns, "ood": columns}, "passk": {"id": passk, "ood": passk}},
        **{"samples": {"policy": 40, "external": 60}, "requests": 60, "notional_usd": 0.5, "seconds": 10.0},
        **{"versions": {"ekipl": "0"}, "machine": "made up", "date": "2026-01-01", **about, **changed},
    }
    record.write_cell(place.file(cell), found)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "runs", tmp_path / "out" / "results" / "paper" / "cells", QUICK, "made up")


def test_finished_cells_are_not_run_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(Place, "run", lambda self, cell: (ran.append(cell.name), made_up(self, cell, [0, 1, 2, 2]))[1])
    monkeypatch.setattr(Place, "record_experts", lambda self, task: ran.append(f"experts of {task}"))
    made_up(place, Cell("counting", "ekipl", None), [])
    made_up(place, Cell("counting", "ekipl", 0), [0, 0, 2, 2])
    made_up(place, Cell("counting", "base", 0), [0, 0, 0, 0], base="another")
    made_up(place, Cell("counting", "base", 1), [0, 0, 0, 0], settings="others")
    assert not command.work(place, ["counting"], tuple(METHODS), 1, None)
    grpo = [f"counting-reason_rft_zero-{part}" for part in ("lr", 0, 1)]
    assert sorted(ran) == sorted(
        ["experts of counting", "counting-base-0", "counting-base-1", "counting-ekipl-1", *grpo]
    )
    ran.clear()
    assert not command.work(place, ["counting"], tuple(METHODS), 2, None)
    assert not ran


def evaluated_only(self: Place, folder: Path, line: Any, places: Any) -> None:
    """Stands in for the commands of a cell of the base model: one problem, two samples, one of them right."""
    (folder).mkdir(parents=True, exist_ok=True)
    graded = {"split": "id", "problem": "p", "family": "f", "text": "t", "format": 1.0, "detail": {}}
    if line[0] == "eval":
        rows = [{**graded, "sample": i, "accuracy": float(i)} for i in (0, 1)]
        (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        reward = {"format": 1.0, "accuracy": 1.0, "detail": {}}
        row = {"split": "id", "problem": "p", "index": 0, "text": "t", "reward": reward}
        (folder / "actions.jsonl").write_text(json.dumps(row) + "\n")


def test_the_file_of_a_cell(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "_command", evaluated_only)
    cell = Cell("counting", "base", 0)
    place.run(cell)
    found = place.finished(cell)
    assert found is not None
    assert found["problems"]["id"]["right"] == [1]
    assert found["passk"]["id"] == {"id": ["p"], "samples": [1], "right": [1]}
    assert found["commands"]["eval"][:2] == ["eval", "model.path=tiny"]
    assert found["hashes"].keys() == {"eval", "passk"}
    text = place.file(cell).read_text()
    place.file(cell).unlink()
    monkeypatch.setattr(Place, "_command", None)  # the run directory has the file
    place.run(cell)
    assert place.file(cell).read_text() == text


def test_verify_runs_a_cell_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Place, "_command", evaluated_only)
    cell = Cell("counting", "base", 0)
    place.run(cell)
    words = ["--verify", cell.name, "--out", str(tmp_path / "out"), "--runs", str(tmp_path)]
    assert command.main(words) == 0
    assert "the same to the bit: eval, passk" in capsys.readouterr().out
    assert not list(tmp_path.glob("ekipl-verify-*"))
    file = place.file(cell)
    file.write_text(file.read_text().replace('"eval":"', '"eval":"0'))
    assert command.main(words) == 1
    assert "different: eval" in capsys.readouterr().out
    assert command.main(["--verify", "counting-base-7", "--out", str(tmp_path / "out")]) == 2


def test_a_new_learning_rate_makes_a_cell_stale(place: Place) -> None:
    choice, cell = Cell("counting", "ekipl", None), Cell("counting", "ekipl", 0)
    made_up(place, choice, [])
    made_up(place, cell, [0, 0, 2, 2])
    assert place.finished(cell) is not None
    made_up(place, choice, [], choice={"chosen": "3e-4"})
    assert place.finished(cell) is None


def test_page_of_some_cells_by_hand(tmp_path: Path) -> None:
    """ekipl has 4, 6 and 5 of 8 right, GRPO 2, 4 and 3: 62.5 % against 37.5 %, + 25 points with each seed."""
    three = replace(QUICK, name="three", parts={"counting": Part(("base", "reason_rft_zero", "ekipl"), (0, 1, 2))})
    place = Place(tmp_path, tmp_path / "out" / "results" / "paper" / "cells", three, "made up")
    ekipl, grpo = ([0, 0, 2, 2], [1, 1, 2, 2], [1, 1, 1, 2]), ([0, 0, 1, 1], [0, 0, 2, 2], [0, 1, 1, 1])
    counts = {"ekipl": ekipl, "reason_rft_zero": grpo}
    for method, rights in counts.items():
        made_up(place, Cell("counting", method, None), [])
        for seed, right in enumerate(rights):
            made_up(place, Cell("counting", method, seed), right)
    made_up(place, Cell("counting", "base", 0), [0, 0, 0, 0], base="another")
    page = results.write(tmp_path / "out", three).read_text()
    assert "8 of 11 cells" in page
    assert "Ignored: counting-base-0: of another base model." in page
    (row,) = (line for line in page.splitlines() if line.startswith("| ekipl") and "62.5 (" in line)
    assert "100.0" in row  # well-formed
    (row,) = (line for line in page.splitlines() if line.startswith("| ekipl") and "+25.0" in line)
    assert row.count("+25.0") == 2  # ID and OOD
    # The kept share falls from 0.8 to 0.5, 0.6 and 0.7: by 30, 20 and 10 points.
    (row,) = (line for line in page.splitlines() if "falling external share" in line and line.startswith("| counting"))
    assert "-20.0 (-41.3 to +1.3)" in row
    assert "| undecided" in row
    (row,) = (line for line in page.splitlines() if "better OOD" in line and line.startswith("| counting"))
    assert "+25.0" in row
    for name in ("curve", "training", "passk"):
        assert (tmp_path / "out" / "results" / "paper" / f"counting-{name}.png").stat().st_size > 10_000


def test_page_without_cells(tmp_path: Path) -> None:
    assert "0 of 8 cells" in results.write(tmp_path, QUICK).read_text()


def test_counts_of_a_problem_by_hand() -> None:
    rows = [
        {"split": "id", "problem": "p", "family": "f", "accuracy": 1.0, "format": 1.0, "detail": {"skill": 1.0}},
        {"split": "id", "problem": "p", "family": "f", "accuracy": 0.0, "format": 1.0, "detail": {"skill": 0.0}},
        {"split": "id", "problem": "p", "family": "f", "accuracy": 0.5, "format": 0.0, "detail": {}},
        {"split": "id", "problem": "p", "family": "f", "accuracy": None, "format": None, "detail": {}},
    ]
    found = record.tallies(rows)["id"]
    expected = {"samples": 3, "right": 1, "formed": 2, "skill_of": 2, "skill": 1}
    assert found == {"id": ["p"], "families": ["f"], "family": [0], **{key: [value] for key, value in expected.items()}}


def test_two_stages_are_one_curve(tmp_path: Path) -> None:
    """First stage: 2 steps of 3 problems with one demonstration. Second: 1 step with 4 candidates, half of them own."""

    def write(folder: Path, rows: list[dict[str, Any]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def row(step: int, **more: float) -> dict[str, Any]:
        return {"step": step, "progress/problems": 3.0 * step, "group/frac_zero_variance": 0.5, **more}

    evaluation = {"eval/id/accuracy": 0.25, "eval/id/accuracy_low": 0.1}
    demonstrated = {"group/offered": 1.0, "share/offered/demonstration": 1.0}
    mixed = {"group/offered": 4.0, "share/offered/policy": 0.5, "share/kept/policy": 0.75}
    write(tmp_path / "first_stage", [row(0, **evaluation), row(1, **demonstrated), row(2, **demonstrated)])
    write(tmp_path, [row(0, **evaluation), row(1, **mixed, **evaluation)])
    rows = record.metric_rows(tmp_path)
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert [row["external"] for row in rows] == [0, 3, 6, 12]
    assert [row["policy"] for row in rows] == [0, 0, 0, 6]
    assert rows[-1]["progress/problems"] == 9
    drawn = record.curves(rows)
    assert drawn["evaluations"] == {"steps": [0, 3], "samples": [0, 18], "id": [0.25, 0.25]}
    assert drawn["training"]["external_kept"] == [pytest.approx((1 + 1 + 0.25) / 3, abs=1e-4)]
    assert drawn["training"]["accuracy"] == [None]


def test_a_second_run_is_compared_by_hashes_and_counts() -> None:
    old = {"hashes": {"model": "a", "metrics": "b"}, "passk": {"id": 1}}
    assert differences(old, {**old, "date": "later"}) == []
    assert differences(old, {"hashes": {"model": "a", "metrics": "c"}, "passk": {"id": 2}}) == ["metrics", "passk"]


def test_all_methods_of_the_main_comparison_are_there() -> None:
    assert set(cells.MAIN) <= set(METHODS)
    assert set(cells.JUDGED) <= set(cells.MAIN)
