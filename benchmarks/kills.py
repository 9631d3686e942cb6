"""Kill real training runs at random moments and go on with them: ``python -m benchmarks.kills``.

Writes ``docs/results/kills.md``: whether the metrics and the final weights equal those of an uninterrupted run, bit for
bit. ``kill -9`` hits the command and what it has started at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psutil
from safetensors.torch import load_file

from ekipl.report.scores import versions
from ekipl.run.checkpoint import checkpoints, step_of

COMMAND = ["train", "experiment=smoke", "B=4", "I=2", "mu=2", "checkpoint.every=2", "evaluation.every=4"]
RESULT = Path(__file__).parent.parent / "docs" / "results" / "kills.md"


@dataclass(frozen=True)
class Kill:
    """One run that was killed: when, and what it was at."""

    seconds: float
    at: str
    done: int  # steps in metrics.jsonl
    saved: int  # steps in the newest checkpoint
    same: bool = False  # as the uninterrupted run, once it has ended


def main() -> None:
    """Kill, go on, compare, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--machine", default="not stated", help="what it ran on, as the table shall say")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.monotonic()
        finish(COMMAND, whole := folder / "whole")
        length = time.monotonic() - begun
        rows = []
        for number in range(arguments.kills):
            run = folder / str(number)
            while True:
                due = saving(run, rng.randint(1, 3), rng) if number % 2 else after(rng.uniform(0, length))
                if (kill := killed(COMMAND, run, due)) is not None:
                    break
                shutil.rmtree(run)  # it came to its end first
            finish(COMMAND, run)
            rows.append(Kill(kill.seconds, kill.at, kill.done, kill.saved, same(run, whole)))
            print(rows[-1], flush=True)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(table(rows, arguments.machine))


def after(seconds: float) -> Callable[[], bool]:
    """Due when the seconds have passed."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def saving(run: Path, wanted: int, rng: random.Random) -> Callable[[], bool]:
    """Due up to 50 ms after the ``wanted``-th checkpoint from now has been begun."""
    seen: set[str] = set()

    def due() -> bool:
        partial = {path.name for path in (run / "checkpoints").glob("step-*.partial")}
        seen.update(partial)
        if not partial or len(seen) < wanted:
            return False
        time.sleep(rng.uniform(0, 0.05))
        return True

    return due


def killed(command: Sequence[str], run: Path, due: Callable[[], bool]) -> Kill | None:
    """Start the run and kill it as soon as ``due()``; None where it has ended by itself before that."""
    line = [sys.executable, "-m", "ekipl", *command, f"hydra.run.dir={run}"]
    begun = time.monotonic()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not due():
        time.sleep(0.001)
    if process.poll() is not None:
        return None
    for victim in [*psutil.Process(process.pid).children(recursive=True), process]:
        os.kill(victim.pid, signal.SIGKILL)
    process.wait()
    partial = {path.name for path in (run / "checkpoints").glob("step-*.partial")}
    rows = metrics(run)
    saved = [step_of(path) for path in checkpoints(run / "checkpoints")]
    at = "saving" if partial else "training" if rows else "starting"
    return Kill(time.monotonic() - begun, at, rows[-1]["step"] if rows else 0, max(saved, default=0))


def finish(command: Sequence[str], run: Path) -> None:
    """Let the run come to its end."""
    line = [sys.executable, "-m", "ekipl", *command, f"hydra.run.dir={run}"]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)


def metrics(run: Path) -> list[dict[str, Any]]:
    """The whole rows of metrics.jsonl, without what depends on the clock."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    parsed = [json.loads(line) for line in lines if line.endswith("\n")]
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in parsed]


def same(run: Path, other: Path) -> bool:
    """Metrics and final weights, to the last bit."""
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (run, other))
    equal = ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
    return equal and metrics(run) == metrics(other)


def table(rows: Sequence[Kill], machine: str) -> str:
    """The page: a line for each kill."""
    lines = [
        f"| {n} | {row.seconds:.1f} | {row.at} | {row.done} | {row.saved} | {row.done - row.saved} | "
        f"{'equal' if row.same else 'DIFFERENT'} |"
        for n, row in enumerate(rows, start=1)
    ]
    head = [
        "# Runs killed at random moments",
        "",
        f"Written by `python -m benchmarks.kills` on {date.today().isoformat()}; {machine}; "
        f"{', '.join(f'{name} {version}' for name, version in versions().items())}.",
        f"Each run of `ekipl {' '.join(COMMAND)}` was ended by `kill -9` once, every second one while it saved,",
        "then gone on with; the last column compares metrics and final weights with an uninterrupted run, bit by bit.",
        "",
        "| # | killed after (s) | while | steps done | steps in the newest checkpoint | run again | result |",
        "| ---: | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    return "\n".join([*head, *lines]) + "\n"


if __name__ == "__main__":
    main()
