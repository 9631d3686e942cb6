"""A training ends with the command that started it, has its directory to itself, and is refused in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ekipl.errors import UsageError
from ekipl.lifetime import sole_user

Start = Callable[..., "subprocess.Popen[str]"]
LONG = ["train", "experiment=smoke", "B=1000", "evaluation.every=0", "checkpoint.every=1"]


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
    with sole_user(tmp_path), pytest.raises(UsageError, match="another ekipl train is at work there"):
        sole_user(tmp_path).__enter__()
    with sole_user(tmp_path):
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
    until(lambda: list(directory.glob("checkpoints/step-*")) or command.poll() is not None, 200)
    assert len(at_work(directory)) == (2 if processes == 1 else 4)  # the command, torch's launcher, the workers
    (os.killpg if number == signal.SIGINT else os.kill)(command.pid, number)  # a terminal interrupts the whole group
    _, told = command.communicate(timeout=60)
    assert command.returncode == status
    assert (f"ekipl train: ended by a signal ({said})" in told) == bool(said)
    assert "Traceback" not in told
    until(lambda: not at_work(directory), 20)


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
