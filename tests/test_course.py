"""A resumed run goes on with the rows that it began with, each in its turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ekipl.algorithm.loop import Hyperparameters, data_order
from ekipl.algorithm.types import Problem
from ekipl.data.reason_rft import ReasonRFTData
from ekipl.engine.collectives import Processes
from ekipl.errors import BadRow, UsageError
from ekipl.run.course import Course, beginning, resumed
from ekipl.run.reading import batches
from ekipl.run.recorder import Recorder
from ekipl.tasks.counting import Counting

PLAN = Hyperparameters(N=1, G=1, I=1, B=9, mu=1, problems_per_step=2, seed=3)


def problems(root: Path, rows: Sequence[Any], **options: Any) -> Sequence[Problem]:
    """The problems of rows (id, answer)."""
    (root / "images").mkdir(exist_ok=True)
    for name, _ in rows:
        if not (path := root / "images" / f"{name}.png").exists():
            Image.new("RGB", (56, 56)).save(path)
    listed = [{"id": n, "image": f"{n}.png", "problem": "How many?", "answer": answer} for n, answer in rows]
    (root / "Visual-Counting-train-9.json").write_text(json.dumps(listed))
    return ReasonRFTData(root=str(root), **options).problems(Counting(), "train")


ROWS = [(name, 1) for name in "abcdefg"]


def trained(course: Course, present: Sequence[Problem]) -> list[list[str]]:
    return [[present[row].id for row in step] for step in course.order(PLAN)]


def test_the_same_rows_in_another_order_go_on_as_before(tmp_path: Path) -> None:
    before = problems(tmp_path, ROWS)
    course = beginning(before)
    whole = trained(course, before)
    assert whole == [[ROWS[row][0] for row in step] for step in data_order(7, PLAN)]
    course.save(tmp_path, 4, PLAN)
    now = problems(tmp_path, ROWS[::-1])
    assert trained(resumed(tmp_path, now, 4, PLAN, "refuse"), now) == whole[4:]


def test_changed_rows_are_told_and_refused(tmp_path: Path) -> None:
    beginning(problems(tmp_path, ROWS)).save(tmp_path, 4, PLAN)

    def refused(rows: Sequence[Any], **options: Any) -> str:
        now = problems(tmp_path, rows, **options)
        with pytest.raises(UsageError) as error:
            resumed(tmp_path, now, 4, PLAN, "refuse")
        assert "set data.changed=keep_order" in str(error.value)
        return str(error.value)

    assert "2 gone ('a', 'b'); 1 new ('h'); 1 with other content ('g')" in refused([*ROWS[2:6], ("g", 2), ("h", 1)])
    Image.new("RGB", (56, 56), "red").save(tmp_path / "images" / "c.png")
    assert "1 with other content ('c')" in refused(ROWS)
    resumed(tmp_path, problems(tmp_path, ROWS, check="headers"), 4, PLAN, "refuse")  # which has not read the pictures


@given(st.sets(st.integers(0, 6), max_size=4), st.integers(0, 8), st.integers(0, 8))
def test_the_old_order_less_what_is_gone(gone: set[int], first: int, second: int) -> None:
    first, second = sorted((first, second))
    everything = Course((), (), tuple(range(7)), 0, 0)
    stream = [row for step in data_order(7, PLAN) for row in step]
    place = everything.place_after(first, PLAN)
    assert place == 2 * first
    left = Course((), (), tuple(None if row in gone else row for row in range(7)), first, place)
    steps = list(left.order(PLAN))
    assert [len(step) for step in steps] == [2] * (9 - first)
    expected = [row for row in stream[place:] if row not in gone]
    got = [row for step in steps for row in step]
    assert got[: len(expected)] == expected[: len(got)]
    # a second resume goes on where the first has come to
    again = Course((), (), left.rows, second, left.place_after(second, PLAN))
    assert list(again.order(PLAN)) == steps[second - first :]


def test_what_is_gone_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = problems(tmp_path, ROWS)
    course = beginning(before)
    course.save(tmp_path, 4, PLAN)
    fewer = problems(tmp_path, ROWS[2:])
    kept = resumed(tmp_path, fewer, 4, PLAN, "keep_order")
    assert "2 gone ('a', 'b'): going on in the old order (data.changed=keep_order)" in capsys.readouterr().err
    assert (kept.size, kept.left) == (7, 5)
    assert not {"a", "b"} & {name for step in trained(kept, fewer) for name in step}
    kept.save(tmp_path, 6, PLAN)
    assert trained(resumed(tmp_path, fewer, 6, PLAN, "refuse"), fewer) == trained(kept, fewer)[2:]
    with pytest.raises(UsageError, match=r"2 back \('a', 'b'\)"):
        resumed(tmp_path, before, 6, PLAN, "refuse")


def test_a_source_without_ids_is_known_by_its_size(tmp_path: Path) -> None:
    one = Problem("p", "counting", "train", (), "?", "?", "1", "number")
    beginning([one] * 7).save(tmp_path, 4, PLAN)
    assert resumed(tmp_path, [one] * 7, 4, PLAN, "refuse").place == 8
    with pytest.raises(UsageError, match="6 training rows, and the run began with 7"):
        resumed(tmp_path, [one] * 6, 4, PLAN, "keep_order")
    (tmp_path / "data.json").unlink()  # as versions before it left it
    assert resumed(tmp_path, [one] * 6, 4, PLAN, "refuse").place == 8


def test_steps_without_any_row_are_empty_until_the_data_is_gone(tmp_path: Path) -> None:
    rows = problems(tmp_path, ROWS[:3])
    for name in "ab":
        (tmp_path / "images" / f"{name}.png").unlink()
    told: list[tuple[int, Sequence[BadRow]]] = []
    order = [[0, 1], [1, 0], [2], [0, 1], [0], [1]]
    coming = batches(rows, order, 5, Processes(0, 1), lambda *bad: told.append(bad))
    assert [len(next(coming)) for _ in range(5)] == [0, 0, 1, 0, 0]
    with pytest.raises(UsageError, match="step 11: no row of the last 3 steps can be read"):
        next(coming)
    assert [(steps, len(errors)) for steps, errors in told] == [(5, 2), (6, 2), (8, 2), (9, 1), (10, 1)]


@pytest.mark.parametrize("every", [100, 0])
def test_a_row_that_fails_during_training_costs_nothing_but_itself(
    every: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = problems(tmp_path, ROWS, bad_rows="skip")
    course = beginning(rows)
    settings = SimpleNamespace(checkpoint=SimpleNamespace(every=every, keep=2, best=None), problems_per_step=2, seed=3)
    engine = SimpleNamespace(save_state=lambda folder: (folder / "weights").write_text("w"))
    things: dict[str, Any] = {"settings": settings, "processes": Processes(0, 1), "engine": engine, "course": course}
    nothing: Any = None
    others = dict.fromkeys(("logger", "sampling", "measure", "advance", "stop", "watched"), nothing)
    recorder = Recorder(directory=tmp_path / "run", **things, **others)
    (first, second), *_ = trained(course, rows)[2:]
    (tmp_path / "images" / f"{first}.png").unlink()
    coming = batches(rows, list(course.order(PLAN))[2:], 2, Processes(0, 1), recorder.bad_rows)
    assert [problem.id for problem in next(coming)] == [second]
    said = capsys.readouterr().err
    assert f"{first}.png (row id '{first}'): cannot be read: No such file" in said
    assert "step 3: goes on without 1 of its rows (1 so far)" in said
    saved = tmp_path / "run" / "checkpoints" / "step-2"
    assert (saved / "weights").exists() == (saved / "data.json").exists() == ("step 2 is saved" in said) == (every > 0)
    refusing = problems(tmp_path, [row for row in ROWS if row[0] != first])
    (tmp_path / "images" / f"{second}.png").unlink()
    wanted = [row for row, problem in enumerate("abcdefg".replace(first, "")) if problem == second]
    with pytest.raises(UsageError, match=r"step 4: ended.*; data.bad_rows=skip goes on without such rows"):
        next(batches(refusing, [wanted], 3, Processes(0, 1), recorder.bad_rows))
