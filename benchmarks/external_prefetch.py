"""What waiting for external models costs a step: ``python -m benchmarks.external_prefetch``.

Trains ``model=tiny`` for real on answers of a real HTTP server that takes 2 s a call, and on those of one that takes
none, in turn and several times over. Writes the ratio of the steps after the first to
``docs/results/external_prefetch.md``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median

from ekipl.records import read_jsonl
from ekipl.tables import Table
from tests.openai_server import OpenAIServer, digits

RESULTS = Path(__file__).parent.parent / "docs" / "results"
STEPS, PROBLEMS, SAMPLES, AHEAD = 11, 4, 4, 3


def run(delay_s: float, folder: Path) -> tuple[float, float]:
    """Seconds of the steps after the first, and those of them that were spent waiting for external models."""
    with OpenAIServer(lambda request: replace(digits(request), delay_s=delay_s)) as server:
        overrides = [
            "external=openai_server",
            f"external.models.0.api_base={server.url}",
            "external.models.0.choices=1",
            f"external.cache={folder / 'cache.sqlite'}",
            f"external.prefetch={AHEAD}",
            f"B={STEPS}",
            f"N={SAMPLES}",
            f"problems_per_step={PROBLEMS}",
            f"data.train_size={STEPS * PROBLEMS}",
            "evaluation.every=0",
            "checkpoint.every=0",
            f"hydra.run.dir={folder / 'run'}",
        ]
        command = [sys.executable, "-m", "ekipl", "train", *overrides]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert len(server.requests) == STEPS * PROBLEMS * SAMPLES
    rows = read_jsonl(folder / "run" / "metrics.jsonl")[1:]
    return sum(row["time/step"] for row in rows), sum(row["time/external"] for row in rows)


def table(delays: Sequence[float], seconds: dict[float, list[tuple[float, float]]]) -> Table:
    quick, slow = delays
    rows = []
    for delay in delays:
        steps, waits = zip(*seconds[delay], strict=True)
        each = ", ".join(f"{step:.2f}" for step in steps)
        waited = f"{max(waits):.2f} s ({max(wait / step for step, wait in seconds[delay]):.1%})"
        rows.append([f"{delay:g} s a call", each, f"{median(steps):.2f}", waited])
    ratio = median(step for step, _ in seconds[slow]) / median(step for step, _ in seconds[quick])
    notes = [
        f"ratio of the medians: {ratio:.3f}",
        f"steps 2 to {STEPS} of a run; {PROBLEMS} problems a step, {SAMPLES} samples of the policy and of a model, "
        f"external.prefetch={AHEAD}; the runs took turns",
    ]
    header = ["server", "steps after the first, s, each run", "median, s", "of these waiting, at most"]
    return Table("Steps with a slow external model", header, rows, notes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=2.0, help="seconds a call at the slow server")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--machine", default="not stated", help="what it ran on, as the table shall say")
    given = parser.parse_args(arguments)
    delays = (0.0, given.delay)
    seconds: dict[float, list[tuple[float, float]]] = {delay: [] for delay in delays}
    for _ in range(given.repeats):
        for delay in delays:
            with tempfile.TemporaryDirectory() as folder:
                seconds[delay].append(run(delay, Path(folder)))
    page = table(delays, seconds).markdown() + f"\n{date.today().isoformat()}, {given.machine}.\n"
    print(page)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "external_prefetch.md").write_text(page)


if __name__ == "__main__":
    main()
