"""All cells of the comparison, then its page: ``python -m benchmarks.paper``; docs/reproducing.md explains it."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.paper import results
from benchmarks.paper.cells import FULL, METHODS, QUICK, SCALES, Cell, cells, known_methods, parse
from benchmarks.paper.queue import Job, Queue
from benchmarks.paper.run import Ended, Place, differences, read_cell

DOCS = Path(__file__).parents[2] / "docs"
FILES = Path("results", "paper", "cells")  # in the folder of the page
EXPERTS = "recording of the experts, "


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, or verify one cell; return the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.paper", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few tiny cells in a temporary folder, as a test")
    parser.add_argument("--only", nargs="+", metavar="TASK", choices=tuple(FULL.parts), help="these tasks")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", choices=tuple(METHODS), help="these methods")
    parser.add_argument("--workers", type=int, default=2, help="cells at once, one core each")
    parser.add_argument("--minutes", type=float, help="end after so many; the same command goes on")
    parser.add_argument("--runs", type=Path, help="folder of run directories (runs/paper)")
    parser.add_argument("--out", type=Path, help="folder of results.md and of the cell files in results/paper (docs)")
    parser.add_argument("--machine", default="not stated", help="what it runs on, as the page shall say")
    parser.add_argument("--verify", metavar="CELL", help="run a finished cell, such as counting-needed-0, again")
    given = parser.parse_args(arguments)
    if given.verify:
        return verify(given.verify, given.out or DOCS, given.runs)
    scale = QUICK if given.quick else FULL
    runs = given.runs or (Path(tempfile.mkdtemp(prefix="ekipl-paper-")) if given.quick else Path("runs/paper"))
    out = given.out or (runs if given.quick else DOCS)
    place = Place(runs, out / FILES, scale, given.machine)
    tasks = [task for task in scale.parts if task in (given.only or scale.parts)]
    for task in tasks:
        for missing in sorted(set(scale.parts[task].methods) - set(known_methods(scale.parts[task]))):
            say(f"{task}-{missing}: left out, conf/method has no {missing}")
    failed = work(place, tasks, given.methods or tuple(METHODS), given.workers, given.minutes)
    say(f"Results: {results.write(out, scale)}")
    return 1 if failed else 0


def work(
    place: Place, tasks: Sequence[str], methods: Sequence[str], workers: int, minutes: float | None
) -> dict[str, str]:
    """Run the cells of these tasks and methods that have no file yet; return those that failed, with the reason."""
    wanted = [cell for cell in cells(place.scale, tasks) if cell.method in methods]
    missing = [cell for cell in wanted if place.finished(cell) is None]
    for cell in missing:
        if (old := read_cell(place.file(cell))) is not None:
            why = "another base model" if old["base"] != place.base else "other settings"
            say(f"{cell.name}: its file is of {why}, so it is run again")
    queue = Queue(jobs(place, missing), len(wanted) - len(missing), say, place.end, Ended)
    queue.run(workers, minutes)
    return queue.failed


def jobs(place: Place, missing: Sequence[Cell]) -> list[Job]:
    """The cells as jobs, each task's recording before the first that needs it."""
    found: list[Job] = []
    for cell in missing:
        experts = f"{EXPERTS}{cell.task}"
        needs = [Cell(cell.task, cell.method, None).name] if cell.seed is not None else []
        if METHODS[cell.method].recorded:
            needs.append(experts)
            if all(job.name != experts for job in found):
                found.append(Job(experts, partial(place.record_experts, cell.task), counts=False))
        found.append(Job(cell.name, partial(place.run, cell), tuple(needs)))
    return found


def verify(name: str, out: Path, runs: Path | None) -> int:
    """Run a finished cell again in a fresh folder and say what differs; 0 where nothing does."""
    cell = parse(name)
    old = read_cell(out / FILES / f"{name}.json")
    if old is None or cell.seed is None:
        say(f"{name}: no file of such a cell in {out / FILES}")
        return 2
    fresh = Path(tempfile.mkdtemp(prefix="ekipl-verify-", dir=runs))
    place = Place(fresh, fresh / "cells", SCALES[old["scale"]], old["machine"])
    if old["base"] != place.base:
        say(f"{name}: the file is of another base model")
        return 2
    place.known_rate = old["learning_rate"]
    if METHODS[cell.method].recorded:
        place.record_experts(cell.task)
    place.run(cell)
    new = read_cell(place.file(cell))
    assert new is not None
    differing = differences(old, new)
    same = [key for key in old["hashes"] if key not in differing]
    say(f"{name}: the same to the bit: {', '.join(same) or 'nothing'}")
    if differing:
        versions = "" if old["versions"] == new["versions"] else f"; versions then: {old['versions']}"
        say(f"{name}: different: {', '.join(differing)} (it ran on: {old['machine']}{versions}); see {fresh}")
        return 1
    shutil.rmtree(fresh)
    return 0


def say(line: str) -> None:
    """A line that is seen at once."""
    print(line, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does: the running commands are ended first
    sys.exit(main())
