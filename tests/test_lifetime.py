"""A training ends with its command or when asked to, has its directory to itself, and is refused in one line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ekipl.errors import UsageError
from ekipl.run.checkpoint import checkpoints, step_of
from ekipl.run.signals import Stop, Stopped, lock_directory

Start = Callable[..., "subprocess.Popen[str]"]
LONG = ["train", "experiment=smoke", "B=1000", "evaluation.every=0", "checkpoint.every=1000"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts ``ekipl train``; what a failed test leaves is killed."""
    commands: list[subprocess.Popen[str]] = []

    def started(directory: Path, *arguments: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "ekipl", *LONG, *arguments, f"hydra.run.dir={directory}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        commands.append(subprocess.Popen(line, **pipes, text=True, start_new_session=True))  # type: ignore[call-overload]
        return commands[-1]

    yield started
    for command in commands:
        command.kill()


def until(is_so: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def at_work(directory: Path) -> list[int]:
    """Processes with the directory among their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(directory).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has just ended
            pass
    return found


def test_a_directory_has_one_user(tmp_path: Path) -> None:
    with lock_directory(tmp_path), pytest.raises(UsageError, match="another ekipl train is at work there"):
        lock_directory(tmp_path).__enter__()
    with lock_directory(tmp_path):
        pass


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is promised")
@pytest.mark.parametrize(
    ("processes", "number", "status", "said"),
    [
        (1, signal.SIGKILL, -9, ""),
        (2, signal.SIGKILL, -9, ""),
        (1, signal.SIGTERM, 143, "Terminated"),
        (2, signal.SIGINT, 130, "Interrupt"),
    ],
)
def test_no_process_outlives_the_command(
    start: Start, processes: int, number: int, status: int, said: str, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    command = start(directory, f"engine.num_processes={processes}")
    until(lambda: steps_of(directory) or command.poll() is not None, 200)
    assert len(at_work(directory)) == (2 if processes == 1 else 4)  # the command, torch's launcher, the workers
    (os.killpg if number == signal.SIGINT else os.kill)(command.pid, number)  # a terminal interrupts the whole group
    _, told = command.communicate(timeout=60)
    assert command.returncode == status
    assert (f"ekipl train: ended by a signal ({said})" in told) == bool(said)
    assert "Traceback" not in told
    until(lambda: not at_work(directory), 20)
    saved = [step_of(path) for path in checkpoints(directory / "checkpoints")]
    assert saved == ([] if number == signal.SIGKILL else steps_of(directory)[-1:])  # the last step is saved


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is promised")
@pytest.mark.parametrize("processes", [1, 2])
def test_what_the_command_has_just_started_ends_with_it(start: Start, processes: int, tmp_path: Path) -> None:
    command = start(tmp_path, f"engine.num_processes={processes}")
    until(lambda: len(at_work(tmp_path)) > 1, 200)
    command.kill()
    until(lambda: not at_work(tmp_path), 10)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is promised")
@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_before_anything_is_trained(start: Start, processes: int, tmp_path: Path) -> None:
    command = start(tmp_path, f"engine.num_processes={processes}")
    until(lambda: len(at_work(tmp_path)) > 1, 200)
    time.sleep(0.5)  # it imports
    os.kill(command.pid, signal.SIGINT)
    _, told = command.communicate(timeout=60)
    assert command.returncode == 130
    assert told.startswith("ekipl train: ended by a signal (Interrupt)"), told
    until(lambda: not at_work(tmp_path), 10)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is promised")
@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("refuses", 2, "data: row 7: is bad; leave it out\n"),
        ("is_killed", 137, "ekipl train: ended by a signal (Killed); the same command with hydra.run.dir="),
    ],
)
def test_when_one_of_several_fails_it_alone_is_heard(
    start: Start, fault: str, status: int, said: str, tmp_path: Path
) -> None:
    command = start(tmp_path, f"reward=tests.broken_reward:{fault}", "M=0", "engine.num_processes=2")
    _, told = command.communicate(timeout=200)
    assert command.returncode == status
    assert told.startswith(said), told
    assert told.count("\n") == 1, told
    until(lambda: not at_work(tmp_path), 20)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is promised")
def test_a_second_wish_ends_at_once(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    command = start(directory, "mu=1000000")  # a step that never ends
    until(lambda: any(keeps_sigterm(pid) for pid in at_work(directory) if pid != command.pid), 200)
    os.kill(command.pid, signal.SIGINT)
    time.sleep(2)
    assert command.poll() is None  # a step is not left half done
    os.kill(command.pid, signal.SIGINT)
    _, told = command.communicate(timeout=20)
    assert command.returncode == 130
    assert "Traceback" not in told
    until(lambda: not at_work(directory), 20)


def keeps_sigterm(pid: int) -> bool:
    """Whether the process has a handler of its own."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(caught and int(caught[1], 16) & 1 << (signal.SIGTERM - 1))


def steps_of(directory: Path) -> list[int]:
    path = directory / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_several_processes_refuse_with_one_voice(start: Start, tmp_path: Path) -> None:
    command = start(tmp_path / "run", "engine.num_processes=2", "evaluation.every=1", "evaluation.splits=[moon]")
    _, told = command.communicate(timeout=100)
    assert command.returncode == 2
    assert told == "evaluation.splits: moon: counting has id, ood\n"


def test_a_finished_run_is_left_as_it_is(start: Start, tmp_path: Path) -> None:
    arguments = ["B=1", "checkpoint.every=0"]
    first = start(tmp_path, *arguments)
    said, _ = first.communicate(timeout=100)
    before = {path: path.stat().st_mtime_ns for name in ("model", "actions") for path in (tmp_path / name).iterdir()}
    again = start(tmp_path, *arguments)
    assert again.communicate(timeout=100)[0] == said
    assert (first.returncode, again.returncode) == (0, 0)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_process_that_was_asked_to_end_blames_nobody_for_the_others_that_have_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost() -> None:
        with Stop() as stop:
            stop.requested = signal.SIGTERM
            raise RuntimeError("connection closed by peer")

    with pytest.raises(RuntimeError):
        lost()  # alone it has an error of its own
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(Stopped):
        lost()
