"""What waiting for external models costs a step: ``python -m benchmarks.external_prefetch``.

Trains ``model=tiny`` for real on answers of a real HTTP server that takes 2 s a call, and on those of one that takes
none, in turn and several times over: once with the settings of ``external=openai_server`` as they are shipped (all
samples of a problem in one call), once with a call for each sample. Writes the ratios of the steps after the first to
``docs/results/external_prefetch.md``: of each step the fastest of all runs, for other work on the machine only adds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

from ekipl.files import read_jsonl
from ekipl.report.tables import Table
from tests.openai_server import OpenAIServer, digits

RESULTS = Path(__file__).parent.parent / "docs" / "results"
STEPS, PROBLEMS, SAMPLES = 31, 4, 4
LIBRARIES = ("torch", "transformers", "deepspeed", "litellm")
SETTINGS: Mapping[str, tuple[int, Sequence[str]]] = {  # calls a step, overrides
    "as shipped": (PROBLEMS, ()),
    "choices=1, concurrency=256": (
        PROBLEMS * SAMPLES,
        ("external.models.0.choices=1", "external.models.0.concurrency=256"),
    ),
}

Run = list[tuple[float, float]]  # of each step after the first its seconds, and those spent waiting for external models


def run(delay_s: float, calls: int, settings: Sequence[str], folder: Path) -> Run:
    """One training run, whose every step asks so many ``calls``."""
    with OpenAIServer(lambda request: replace(digits(request), delay_s=delay_s)) as server:
        overrides = [
            "external=openai_server",
            f"external.models.0.api_base={server.url}",
            f"external.cache={folder / 'cache.sqlite'}",
            f"B={STEPS}",
            f"N={SAMPLES}",
            f"problems_per_step={PROBLEMS}",
            f"data.train_size={STEPS * PROBLEMS}",
            "evaluation.every=0",
            "checkpoint.every=0",
            f"hydra.run.dir={folder / 'run'}",
            *settings,
        ]
        command = [sys.executable, "-m", "ekipl", "train", *overrides]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert len(server.requests) == STEPS * calls
    rows = read_jsonl(folder / "run" / "metrics.jsonl")[1:]
    return [(row["time/step"], row["time/external"]) for row in rows]


def rows_of(name: str, delays: Sequence[float], runs: Mapping[float, Sequence[Run]]) -> list[list[str]]:
    """A row for each server, the last with the ratio."""
    rows, fastest = [], []
    for delay in delays:
        sums = [tuple(map(sum, zip(*one, strict=True))) for one in runs[delay]]
        fastest.append(sum(min(step for step, _ in same) for same in zip(*runs[delay], strict=True)))
        each = ", ".join(f"{steps:.2f}" for steps, _ in sums)
        waited = f"{max(wait for _, wait in sums):.2f} s ({max(wait / steps for steps, wait in sums):.1%})"
        rows.append([name, f"{delay:g} s", f"{fastest[-1]:.2f}", each, waited, f"{fastest[-1] / fastest[0]:.3f}"])
    return rows


def table(rows: list[list[str]]) -> Table:
    notes = [
        f"steps 2 to {STEPS} of a run; {PROBLEMS} problems a step, {SAMPLES} samples of the policy and of a model; "
        "the runs took turns",
        "ratio: to the fastest steps with a server that answers at once",
    ]
    header = [
        "external.models.0",
        "a call takes",
        "steps, s: fastest",
        "each run",
        "waiting in a run, at most",
        "ratio",
    ]
    return Table("Steps with a slow external model", header, rows, notes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=2.0, help="seconds a call at the slow server")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--machine", default="not stated", help="what it ran on, as the table shall say")
    given = parser.parse_args(arguments)
    delays = (0.0, given.delay)
    rows: list[list[str]] = []
    for name, (calls, settings) in SETTINGS.items():
        runs: dict[float, list[Run]] = {delay: [] for delay in delays}
        for _ in range(given.repeats):
            for delay in delays:
                with tempfile.TemporaryDirectory() as folder:
                    runs[delay].append(run(delay, calls, settings, Path(folder)))
        rows += rows_of(name, delays, runs)
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    page = table(rows).markdown() + f"\n{date.today().isoformat()}, {given.machine}; {versions}.\n"
    print(page)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "external_prefetch.md").write_text(page)


if __name__ == "__main__":
    main()
