"""Signals, failures and locks of a training run: no process outlives the command, and one message says why it ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.kills import metrics
from ekipl.errors import UsageError
from ekipl.run.checkpoint import checkpoints, step_of
from ekipl.run.signals import Stop, Stopped, lock_directory
from tests.command import SMOKE, ekipl

Start = Callable[..., "subprocess.Popen[str]"]
LONG = [*SMOKE, "B=1000", "evaluation.every=0", "checkpoint.every=1000"]
ALONE = ["external=none", "M=0"]  # without LiteLLM, which takes seconds to import
PATIENCE_S = 300  # the last resort: each wait is for a condition
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="nothing is promised elsewhere")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts ``ekipl train``; afterwards no such command is left."""
    commands: list[subprocess.Popen[str]] = []

    def started(directory: Path, *arguments: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "ekipl", *LONG, *arguments, f"hydra.run.dir={directory}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        commands.append(subprocess.Popen(line, **pipes, text=True, start_new_session=True))  # type: ignore[call-overload]
        return commands[-1]

    yield started
    for command in commands:
        command.kill()


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def at_work(directory: Path) -> list[int]:
    """Processes with the directory among their arguments."""
    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if str(directory) in read(process, "cmdline")]


def read(process: Path | int, name: str) -> str:
    """A file of /proc; empty where the process has ended."""
    try:
        return Path("/proc", str(process), name).read_bytes().decode(errors="replace")
    except OSError:
        return ""


def catches(pid: int, number: int) -> bool:
    """Whether the process has its own handler for the signal."""
    caught = re.search(r"SigCgt:\s*(\w+)", read(pid, "status"))
    return bool(caught and int(caught[1], 16) & 1 << (number - 1))


def steps_of(directory: Path) -> list[int]:
    return [row["step"] for row in metrics(directory)]


def test_a_directory_has_one_user(tmp_path: Path) -> None:
    with lock_directory(tmp_path), pytest.raises(UsageError, match="another ekipl command is at work there"):
        lock_directory(tmp_path).__enter__()
    with lock_directory(tmp_path):  # must not raise: the lock has ended
        pass


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize(
    ("processes", "number", "status", "message"),
    [
        (2, signal.SIGKILL, -9, ""),
        (1, signal.SIGTERM, 143, "Terminated"),
        (2, signal.SIGINT, 130, "Interrupt"),
    ],
)
def test_no_process_outlives_the_command(
    start: Start, processes: int, number: int, status: int, message: str, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    command = start(directory, f"engine.num_processes={processes}", *(ALONE if processes == 2 else []))
    until(lambda: steps_of(directory) or command.poll() is not None)
    assert len(at_work(directory)) == (2 if processes == 1 else 4)  # the command, torch's launcher, the workers
    (os.killpg if number == signal.SIGINT else os.kill)(command.pid, number)  # a terminal interrupts the whole group
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == status
    assert (f"ekipl train: ended by a signal ({message})" in errors) == bool(message)
    assert "Traceback" not in errors
    until(lambda: not at_work(directory))
    saved = [step_of(path) for path in checkpoints(directory / "checkpoints")]
    assert saved == ([] if number == signal.SIGKILL else steps_of(directory)[-1:])  # the last step is saved


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("processes", [1, 2])
def test_processes_that_have_just_started_end_with_the_command(start: Start, processes: int, tmp_path: Path) -> None:
    command = start(tmp_path, f"engine.num_processes={processes}")
    until(lambda: len(at_work(tmp_path)) > 1)
    command.kill()
    until(lambda: not at_work(tmp_path))  # must not raise


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_before_anything_is_trained(start: Start, processes: int, tmp_path: Path) -> None:
    command = start(tmp_path, f"engine.num_processes={processes}")
    until(lambda: any("libtorch" in read(pid, "maps") for pid in at_work(tmp_path)))  # its child imports
    assert catches(command.pid, signal.SIGHUP)  # the last handler that the command installs
    os.kill(command.pid, signal.SIGINT)
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 130
    assert errors.startswith("ekipl train: ended by a signal (Interrupt)"), errors
    until(lambda: not at_work(tmp_path))


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        ("refuses", 2, "data: row 7: is bad; leave it out\n"),
        ("is_killed", 137, "ekipl train: ended by a signal (Killed); the same command with hydra.run.dir="),
    ],
)
def test_when_one_of_several_fails_its_message_is_the_only_one(
    start: Start, fault: str, status: int, message: str, tmp_path: Path
) -> None:
    command = start(tmp_path, f"reward=tests.broken_reward:{fault}", *ALONE, "engine.num_processes=2")
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == status
    told = "".join(line for line in errors.splitlines(keepends=True) if not line.startswith("train: step "))
    assert told.startswith(message), errors
    assert told.count("\n") == 1, errors
    until(lambda: not at_work(tmp_path))


@pytest.mark.slow
@on_linux
def test_a_second_signal_ends_at_once(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    command = start(directory, "mu=1000000", *ALONE)  # a step that never ends
    until(lambda: any(catches(pid, signal.SIGTERM) for pid in at_work(directory) if pid != command.pid))
    os.kill(command.pid, signal.SIGINT)
    time.sleep(2)  # a slow machine cannot fail here: the step goes on for ever
    assert command.poll() is None  # a step is not left half done
    os.kill(command.pid, signal.SIGINT)
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 130
    assert "Traceback" not in errors
    until(lambda: not at_work(directory))


@pytest.mark.slow
def test_a_refusal_by_several_processes_is_printed_once(start: Start, tmp_path: Path) -> None:
    moon = ["evaluation.every=1", "evaluation.splits=[moon]"]
    command = start(tmp_path / "run", "engine.num_processes=2", *moon, *ALONE)
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 2
    assert errors == "evaluation.splits: moon: counting has id, ood\n"


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    command = [*SMOKE, "B=1", "evaluation.every=0", "checkpoint.every=0", f"hydra.run.dir={tmp_path}"]
    first = ekipl(*command)
    before = {path: path.stat().st_mtime_ns for name in ("model", "actions") for path in (tmp_path / name).iterdir()}
    again = ekipl(*command)
    assert (first.returncode, again.returncode, again.stdout) == (0, 0, first.stdout)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_collective_that_fails_after_a_signal_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        with Stop() as stop:
            stop.requested = signal.SIGTERM
            raise RuntimeError("connection closed by peer")

    with pytest.raises(RuntimeError):
        lost()  # a single process has no others that could have ended
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(Stopped):
        lost()
