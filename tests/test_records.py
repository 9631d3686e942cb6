from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.algorithm.types import Action, Group, Problem, Reward
from ekipl.errors import UsageError
from ekipl.files import atomic_write, read_jsonl, write_json, write_jsonl, write_text
from ekipl.run.records import Record, actions_file, read_actions, records_of_group, write_actions

# Every code point except surrogates, then lone surrogates put between them so that no two stand together.
text = st.lists(st.text(max_size=20), max_size=4).flatmap(
    lambda parts: st.sampled_from(["\ud83d", "\udc00", "\0", "\u2028", "\r\n", "\x1b[31m"]).map(lambda s: s.join(parts))
)
number = st.floats(allow_nan=False, allow_infinity=False)
rewards = st.builds(Reward, number, number, st.dictionaries(text, number, max_size=3))
actions = st.builds(
    Action,
    problem_id=text,
    source=text,
    index=st.integers(0, 10**9),
    text=text,
    finish=st.sampled_from(["stop", "length"]),
    tokens=st.none() | st.lists(st.integers(0, 2**31), max_size=5).map(tuple),
    logprobs=st.none() | st.lists(number, max_size=5).map(tuple),
    reward=st.none() | rewards,
)
records = st.builds(
    Record,
    task=text,
    split=text,
    action=actions,
    sampling=st.dictionaries(text, text | st.integers(-(2**60), 2**60) | number, max_size=3),
    seed=st.integers(0, 2**60),
    kept=st.none() | st.booleans(),
    advantage=st.none() | number,
)


def record(text: str = "three", index: int = 0) -> Record:
    action = Action("p1", "policy", index, text, "stop", reward=Reward(1.0, 0.0))
    return Record("counting", "id", action, {"model": "m"}, 3)


def problem() -> Problem:
    return Problem("p1", "counting", "train", (), "q", "prompt", "3", "number")


@given(st.lists(records, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Record]) -> None:
    path = tmp_path_factory.mktemp("r") / "actions.jsonl"
    assert write_actions(path, iter(rows)) == len(rows)
    assert read_actions(path) == rows
    assert len(path.read_bytes().splitlines()) == len(rows)
    assert path.read_bytes().isascii()


def test_a_surrogate_pair_comes_back_as_its_character(tmp_path: Path) -> None:
    write_actions(tmp_path / "a.jsonl", [record("\ud83d\ude00")])
    assert read_actions(tmp_path / "a.jsonl")[0].action.text == "\U0001f600"


def test_a_group_says_what_was_kept_with_which_advantage(tmp_path: Path) -> None:
    offered = (
        Action("p1", "policy", 0, "a", "stop", (5, 2), (-0.1, -0.2), Reward(1.0, 1.0, {"partial": 0.5})),
        Action("p1", "policy", 1, "b", "length", reward=Reward(0.0, 0.0)),
        Action("p1", "gpt", 0, "c", "stop", reward=Reward(1.0, 0.0)),
    )
    group = Group(problem(), offered, kept=(2, 0), advantages=(-0.7, 0.7))
    sampling = {"policy": {"temperature": 1.0}, "gpt": {"temperature": 0.7}}
    write_actions(tmp_path / "g.jsonl", records_of_group(group, sampling, seed=9))
    got = read_actions(tmp_path / "g.jsonl")
    assert [(r.kept, r.advantage) for r in got] == [(True, 0.7), (False, None), (True, -0.7)]
    assert [r.action for r in got] == list(offered)
    assert [r.sampling["temperature"] for r in got] == [1.0, 1.0, 0.7]
    assert {(r.task, r.split, r.seed) for r in got} == {("counting", "train", 9)}


def test_a_torn_last_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_actions(path, [record(index=i) for i in range(3)])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"a\.jsonl:3: .*cut off.*delete this last line"):
        read_actions(path)


def test_a_missing_last_line_end_is_no_tear(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_actions(path, [record(), record(index=1)])
    path.write_bytes(path.read_bytes()[:-1])
    assert len(read_actions(path)) == 2


def test_all_bad_lines_are_named_together(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_actions(path, [record()])
    good = json.loads(path.read_text())

    def changed(**fields: object) -> bytes:
        return json.dumps(good | fields).encode()

    bad = {
        b"[" * 100_000: "nested too deeply",
        b"[1]": "not a JSON object",
        b"\xff\xfe{}": "not",
        b'{"schema": 1, "reward": NaN}': "NaN is not a JSON number",
        changed(schema=2): "schema 2; this version of ekipl reads schema 1",
        changed(text=None): "text: None is not a text",
        changed(index=True): "index: True is not a whole number",
        changed(finish="eos"): "finish 'eos': one of stop, length",
        changed(reward={"format": 1.0, "accuracy": "1", "detail": {}}): "accuracy: '1' is not a finite number",
        changed(tokens=[1, "2"]): "tokens: '2' is not a whole number",
    }
    path.write_bytes(b"\n".join(bad) + b"\n")
    with pytest.raises(UsageError) as error:
        read_actions(path)
    lines = str(error.value).splitlines()
    assert len(lines) == len(bad)
    for number, (line, reason) in enumerate(zip(lines, bad.values(), strict=True), start=1):
        assert f"a.jsonl:{number}: {reason}" in line


def test_only_ten_bad_lines_are_shown(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"x\n" * 500)
    with pytest.raises(UsageError, match="490 more bad lines") as error:
        read_actions(tmp_path / "a.jsonl")
    assert len(str(error.value).splitlines()) == 11


def test_infinite_numbers_are_refused_both_ways(tmp_path: Path) -> None:
    action = Action("p1", "policy", 0, "a", "stop", reward=Reward(1.0, float("nan")))
    with pytest.raises(ValueError, match="action 0 of policy for p1"):
        write_actions(tmp_path / "a.jsonl", [Record("t", "id", action)])
    assert not (tmp_path / "a.jsonl").exists()
    write_actions(tmp_path / "a.jsonl", [record()])
    path = tmp_path / "a.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"accuracy":0.0', b'"accuracy":1e999'))
    with pytest.raises(UsageError, match="accuracy: inf"):
        read_actions(path)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none.jsonl: No such file"):
        read_jsonl(tmp_path / "none.jsonl")


def test_actions_of_an_interrupted_run_stay_beside_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_actions(path, [record("old")])

    def broken() -> Iterator[Record]:
        yield record("new")
        assert [r.action.text for r in read_actions(tmp_path / "a.jsonl.partial")] == ["new"]  # on disk already
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_actions(path, broken())
    assert [r.action.text for r in read_actions(path)] == ["old"]
    assert [r.action.text for r in read_actions(tmp_path / "a.jsonl.partial")] == ["new"]
    write_actions(path, [record("newer")])
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_folder_means_its_actions(tmp_path: Path) -> None:
    assert actions_file(str(tmp_path)) == tmp_path / "actions.jsonl"
    assert actions_file(tmp_path / "x.jsonl") == tmp_path / "x.jsonl"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)

    def rows() -> Iterator[dict[str, int]]:
        yield {"new": 1}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(path, rows())
    assert path.read_text() == "1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (
        "import sys, time, pathlib\nfrom ekipl.files import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])) as f:\n f.write(b'new'); f.flush(); "
        "print('in', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait(timeout=300)
    assert path.read_text() == "old"


def test_atomic_write_makes_the_folder_and_keeps_the_mode_of_new_files(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a" / "b.bin") as file:
        file.write(b"x")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "a" / "b.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_files_hold_null_for_what_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"mean": float("nan"), "k": (1, float("inf"))})
    assert json.loads((tmp_path / "a.json").read_text()) == {"mean": None, "k": [1, None]}
