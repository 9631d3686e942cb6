"""Runs cells: each command of a cell is a process of its own on one core, and what is finished is not run again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.paper import record
from benchmarks.paper.cells import (
    METHODS,
    OWN,
    RUNS,
    SCHEMA,
    Cell,
    Scale,
    base_hash,
    commands,
    recording,
    settings_hash,
)
from ekipl.files import write_text

DONE = {  # the file that each command writes last
    "train": "summary.md",
    "eval": "table.md",
    "passk": "table.md",
    "external-sample": "actions.jsonl",
}


class Failed(Exception):
    """A command failed; the argument says which, and the end of what it printed."""


class Ended(Exception):
    """The time is over, so the command was ended. The same call goes on with it."""


@dataclass
class Place:
    """Where cells run and where their files are.

    Attributes:
        runs: folder of run directories; may be deleted when all cells are finished.
        files: folder of the cell files.
        scale: the sizes.
        machine: what it runs on, for the cell files.
        base: hash of the base model.
        known_rate: the learning rate of every cell; None: each method's choice.
    """

    runs: Path
    files: Path
    scale: Scale
    machine: str
    base: str = field(default_factory=base_hash)
    known_rate: str | None = None
    _processes: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_over: bool = False

    @property
    def root(self) -> Path:
        """The folder of this scale and base model: run directories of others are never taken for its own."""
        return self.runs / f"{self.scale.name}-{self.base[:8]}"

    def file(self, cell: Cell) -> Path:
        return self.files / f"{cell.name}.json"

    def rate(self, cell: Cell) -> str | None:
        """The learning rate that was chosen for the cell's method. Raises KeyError while there is no choice."""
        if cell.seed is None or not cell.is_trained:
            return None
        if self.known_rate is not None:
            return self.known_rate
        chosen = self.finished(Cell(cell.task, cell.method, None))
        if chosen is None:
            raise KeyError(f"{cell.name}: no learning rate was chosen")
        return str(chosen["choice"]["chosen"])

    def finished(self, cell: Cell) -> dict[str, Any] | None:
        """The cell's file, if it is of these settings and of this base model."""
        try:
            rate = self.rate(cell)
        except KeyError:
            return None
        found = read_cell(self.file(cell))
        is_same = found is not None and found["settings"] == settings_hash(cell, rate, self.scale)
        return found if found is not None and is_same and found["base"] == self.base else None

    def record_experts(self, task: str) -> None:
        """The experts' actions of all training problems, recorded once for all methods and seeds."""
        self._command(self.root / "external" / task, recording(task, self.scale), {})

    def run(self, cell: Cell) -> None:
        """Run what is missing and write the cell's file. Raises Failed or Ended."""
        rate = self.rate(cell)
        told = settings_hash(cell, rate, self.scale)
        folder = self.root / "cells" / f"{cell.name}-{told[:8]}"
        kept = folder / "cell.json"
        if not kept.exists():
            words = commands(cell, rate, self.scale)
            for part, line in words.items():
                self._command(folder / part, line, {RUNS: str(self.root.resolve()), OWN: str(folder.resolve())})
            about = {
                "schema": SCHEMA,
                **{"cell": cell.name, "task": cell.task, "method": cell.method, "seed": cell.seed},
                **{"scale": self.scale.name, "learning_rate": rate, "base": self.base, "settings": told},
                "commands": words,
            }
            record.write_cell(kept, {**about, **self._found(cell, folder), **record.provenance(self.machine)})
        for heavy in ("checkpoints", "actions"):
            for path in folder.rglob(heavy):
                shutil.rmtree(path)
        write_text(self.file(cell), kept.read_text())

    def _found(self, cell: Cell, folder: Path) -> dict[str, Any]:
        if cell.seed is None:
            return {"choice": record.choice(cell, folder)}
        experts = self.root / "external" / cell.task if METHODS[cell.method].recorded else None
        training = record.trained(folder / "train", experts) if cell.is_trained else {}
        return {**training, **record.measured(folder), "hashes": record.hashes(folder, experts)}

    def _command(self, folder: Path, line: Sequence[str], places: Mapping[str, str]) -> None:
        """Run ``ekipl`` unless it has finished in this folder; a training that was stopped goes on."""
        if (folder / DONE[line[0]]).exists():
            return
        words = [sys.executable, "-m", "ekipl", *line, f"hydra.run.dir={folder}"]
        for name, path in places.items():
            words = [word.replace(name, path) for word in words]
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = folder.with_name(f"{folder.name}.log")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as output:
            with self._lock:
                if self._is_over:
                    raise Ended
                process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environment)
                self._processes.add(process)
            status = process.wait()
            with self._lock:
                self._processes.discard(process)
        if status and self._is_over:
            raise Ended
        if status:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise Failed(f"status {status} of: {' '.join(words[2:])}\n{tail}")

    def end(self) -> None:
        """Ask the running commands to end; a training saves a checkpoint first."""
        with self._lock:
            self._is_over = True
            for process in self._processes:
                process.terminate()


def read_cell(path: Path) -> dict[str, Any] | None:
    """The cell's file; None where there is none."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What a second run of a cell did not repeat: names of hashes and counts."""
    names = [name for name in first["hashes"] if first["hashes"][name] != second["hashes"].get(name)]
    kept = ("problems", "passk", "training", "evaluations", "samples", "requests", "notional_usd")
    return names + [name for name in kept if first.get(name) != second.get(name)]
