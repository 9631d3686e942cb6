"""``eval`` and ``passk`` that are stopped keep what they have; models are checked before the first one loads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ekipl.errors import UsageError
from ekipl.policy.model import TINY, check_folder
from ekipl.run import actions_io, hub, kept, sampling
from ekipl.run.records import Record, read_actions
from tests.command import ekipl
from tests.test_config import _keys, composed, refusal

__all__ = ["_keys", "composed"]
EVAL = ["eval", "splits=[id]", "limit=6", "decoding.max_tokens=8", "samples=2"]
PASSK = ["passk", "splits=[id]", "limit=6", "decoding.max_tokens=8", "--k", "1,2"]


@contextmanager
def stopped_after(actions: int, how: BaseException) -> Iterator[list[int]]:
    """Commands are stopped when so many actions were graded; the value counts those that were sampled."""
    seen: list[int] = []
    records = kept.rewarded

    def counted(*arguments: Any) -> Iterator[Record]:
        for record in records(*arguments):
            if len(seen) == actions:
                raise how
            seen.append(1)
            yield record

    patch = pytest.MonkeyPatch()
    patch.setattr(kept, "rewarded", counted)
    patch.setattr(sampling, "ACTIONS_AT_ONCE", 4)
    try:
        yield seen
    finally:
        patch.undo()


def results(folder: Path) -> Any:
    """What the command found, without the time and the folder."""
    name = "scores.json" if (folder / "scores.json").exists() else "passk.json"
    found = json.loads((folder / name).read_text())
    found.pop("meta", None)
    return found


@pytest.mark.parametrize("command", [EVAL, PASSK], ids=["eval", "passk"])
@pytest.mark.parametrize("how", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["Ctrl-C", "full"])
def test_a_stopped_command_goes_on_from_where_it_was(command: list[str], how: BaseException, tmp_path: Path) -> None:
    whole = ekipl(*command, f"hydra.run.dir={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr
    with stopped_after(7, how):  # of 12; the fourth problem has one of its two
        done = ekipl(*command, f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == (130 if isinstance(how, KeyboardInterrupt) else 2)
    assert "Traceback" not in done.stderr
    if isinstance(how, KeyboardInterrupt):
        assert f"kept in {tmp_path}/run; the same command goes on from there" in done.stderr
    partial = tmp_path / "run" / "actions.jsonl.partial"
    assert len(read_actions(partial)) == 7
    partial.write_bytes(partial.read_bytes() + b'{"schema":1,"prob')  # torn
    with stopped_after(-1, how) as sampled:
        done = ekipl(*command, f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert len(sampled) == 6
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert len(read_actions(tmp_path / "run" / "actions.jsonl")) == 12
    assert not partial.exists()
    assert not (tmp_path / "run" / "unfinished").exists()


def test_a_command_that_had_no_completion_yet_is_in_nobodys_way(tmp_path: Path) -> None:
    with stopped_after(0, KeyboardInterrupt()):
        ekipl(*EVAL, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    (tmp_path / "run" / "actions.jsonl.partial").write_bytes(b"")
    assert ekipl(*EVAL, "seed=5", f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path).returncode == 0


def test_the_same_command_finds_what_was_stopped_beside_it_and_another_does_not(tmp_path: Path) -> None:
    with stopped_after(8, KeyboardInterrupt()):
        ekipl(*EVAL, cwd=tmp_path)
    (before,) = tmp_path.glob("runs/eval/*")
    other = ekipl(*EVAL, "seed=5", f"hydra.run.dir={before}", cwd=tmp_path)
    assert (other.returncode, "holds completions of a command that was stopped" in other.stderr) == (2, True)
    with stopped_after(-1, KeyboardInterrupt()) as sampled:
        assert ekipl(*EVAL, "seed=5", cwd=tmp_path).returncode == 0
        assert len(sampled) == 12
        done = ekipl(*EVAL, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(sampled) == 12 + 4
    assert f"goes on with the completions in {before.relative_to(tmp_path)}" in done.stderr.replace(f"{tmp_path}/", "")


def test_completions_of_a_model_that_has_changed_are_not_taken(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "model")
    command = [*EVAL, f"model.path={tmp_path}/model", f"hydra.run.dir={tmp_path}/run"]
    with stopped_after(4, KeyboardInterrupt()):
        ekipl(*command)
    os.utime(tmp_path / "model" / "model.safetensors", (1, 1))
    done = ekipl(*command)
    assert (done.returncode, "or another model; give the same to go on" in done.stderr) == (2, True)


def test_a_second_model_keeps_the_first_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(TINY, tmp_path / "model")
    command = [*EVAL, f"models=[{tmp_path}/model]", f"hydra.run.dir={tmp_path}/run"]
    with stopped_after(13, KeyboardInterrupt()):
        ekipl(*command)
    loaded: list[str] = []
    build = actions_io.build.build_sampler

    def noted(settings: Any, decoding: Any, path: str) -> Any:
        loaded.append(path)
        return build(settings, decoding, path)

    monkeypatch.setattr(actions_io.build, "build_sampler", noted)
    done = ekipl(*command)
    assert done.returncode == 0, done.stderr
    assert loaded == [f"{tmp_path}/model"]  # the first one is not even loaded
    assert [row["model"] for row in results(tmp_path / "run")["splits"]] == ["tiny", f"{tmp_path.name}"]


@pytest.mark.slow
def test_a_killed_command_keeps_what_it_has(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "ekipl", *EVAL[:2], "limit=200", "samples=4", f"hydra.run.dir={tmp_path}/run"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = tmp_path / "run" / "actions.jsonl.partial"
    deadline = time.monotonic() + 300
    while not partial.exists() or not partial.stat().st_size:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = partial.read_bytes().count(b"\n") // 4
    assert there > 0
    with stopped_after(-1, KeyboardInterrupt()) as sampled:
        done = ekipl(*line[3:])
    assert done.returncode == 0, done.stderr
    assert len(sampled) == 4 * (200 - there)


# Models


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("damage", "told", "command"),
    [
        (cut, "model.safetensors has ", EVAL),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be loaded: ", PASSK),
    ],
)
def test_all_models_are_checked_before_the_first_one_loads(
    damage: Any, told: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(TINY, tmp_path / "bad")
    damage(tmp_path / "bad")
    monkeypatch.setattr(actions_io.build, "build_sampler", lambda *_: pytest.fail("a model was loaded"))
    done = ekipl(*command, f"models=[{tmp_path}/bad]", f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"models: {tmp_path}/bad: cannot be loaded: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_path_is_first_of_all_a_missing_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    meant = "no such folder (did you mean runs/model?); name a model folder"
    assert refusal("eval", "model.path=runs/modle")[0].startswith(f"model.path: runs/modle: {meant}")
    assert refusal("passk", "models=[runs/xyz]")[0].startswith(
        "models.0: runs/xyz: no such folder; name a model folder"
    )


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors is damaged"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("[]"), "index.json is not to be read"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b"}}'),
            "b is missing",
        ),
    ],
)
def test_damage_of_a_model_folder_is_seen_without_loading_it(damage: Any, told: str, tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "bad")
    check_folder("x", tmp_path / "bad")
    damage(tmp_path / "bad")
    with pytest.raises(UsageError, match=f"^models: x: cannot be loaded: .*{told}"):
        check_folder("x", tmp_path / "bad")


@contextmanager
def silent_hub() -> Iterator[str]:
    """A hub that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def hold() -> None:
            held = []
            while not ended.is_set():
                try:
                    held.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=hold, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        ended.set()


@pytest.mark.parametrize(
    ("kind", "command", "told"),
    [
        ("silent", "eval", "says nothing within"),
        ("gone", "train", "cannot be reached ("),
        ("none", "rollout", "HF_HUB_OFFLINE"),
    ],
)
def test_a_hub_that_does_not_help_is_one_line_within_its_deadline(
    kind: str, command: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr("ekipl.data.hub.DEADLINE_S", 0.5)
    with silent_hub() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", kind == "none")
        if kind == "gone":
            monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        done = ekipl(command, "model.path=Some/Model", cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith("model.path: Some/Model: no such folder here, and the hub http://127.0.0.1:")
        assert told in done.stderr
        assert list(tmp_path.iterdir()) == []  # refused before a folder is made
    with pytest.raises(UsageError, match=r"models\.1: A/B: no such folder here"):
        hub.check_hub({"model.path": "tiny", "models.0": str(TINY), "models.1": "A/B"})
