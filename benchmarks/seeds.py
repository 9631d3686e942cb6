"""The demo's training under several methods and seeds: ``python -m benchmarks.seeds``.

Writes ``docs/results/seeds.json`` (every number) and ``docs/results/seeds.md`` (the table the documentation shows).
Runs that are finished in ``--runs`` are not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

from ekipl.report.scores import versions

METHODS = {
    "Vision-EKIPL (top-G)": ["method=ekipl"],
    "GRPO (M = 0)": ["method=reason_rft_zero"],
    "Vision-EKIPL, contrast": ["method=contrast"],
    "Vision-EKIPL, pool baseline": ["method=pool_baseline"],
    "GRPO, compute-matched (24 samples)": ["method=compute_matched"],
}
SPLITS = ("id", "ood")
RESULTS = Path(__file__).parent.parent / "docs" / "results"


def main() -> None:
    """Train what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    names = [overrides[0].removeprefix("method=") for overrides in METHODS.values()]
    parser.add_argument("--methods", nargs="+", default=names, choices=names)
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--machine", default="not stated", help="what it ran on, as the table shall say")
    arguments = parser.parse_args()
    results = []
    for name, overrides in METHODS.items():
        if overrides[0].removeprefix("method=") not in arguments.methods:
            continue
        for seed in arguments.seeds:
            directory = arguments.runs / f"{overrides[0].removeprefix('method=')}-{seed}"
            results.append({"method": name, "seed": seed, **run(directory, [*overrides, f"seed={seed}"])})
            print(results[-1], flush=True)
    meta = {"machine": arguments.machine, "date": date.today().isoformat(), "versions": versions()}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "seeds.json").write_text(json.dumps({"meta": meta, "runs": results}, indent=1) + "\n")
    (RESULTS / "seeds.md").write_text(table(results, meta))


def run(directory: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """First and last accuracy on each split, dead groups, external share and seconds of a run."""
    if not (directory / "summary.md").exists():
        line = ["train", "experiment=demo", *overrides, f"hydra.run.dir={directory}"]
        subprocess.run([sys.executable, "-m", "ekipl", *line], check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["step"] > 0]
    return {
        **{f"{split}/base": rows[0][f"eval/{split}/accuracy"] for split in SPLITS},
        **{f"{split}/trained": rows[-1][f"eval/{split}/accuracy"] for split in SPLITS},
        "problems": rows[-1]["progress/problems"],
        "dead": fmean(row["group/frac_zero_variance"] for row in steps),
        "external_kept": fmean(1 - row["share/kept/policy"] for row in steps),
        "seconds_a_step": fmean(row["time/step"] for row in steps),
    }


def table(results: Sequence[dict[str, Any]], meta: dict[str, Any]) -> str:
    """Means over the seeds, with the lowest and highest seed in brackets."""
    seeds = sorted({row["seed"] for row in results})
    lines = [
        "| method | ID base | ID trained | OOD base | OOD trained | dead groups | external share kept | s a step |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for method in dict.fromkeys(row["method"] for row in results):
        own = [row for row in results if row["method"] == method]
        accuracies = [
            _cell([row[f"{split}/{when}"] for row in own]) for split in SPLITS for when in ("base", "trained")
        ]
        dead, share = (f"{100 * fmean(row[key] for row in own):.0f} %" for key in ("dead", "external_kept"))
        seconds = f"{fmean(row['seconds_a_step'] for row in own):.1f}"
        lines.append(f"| {method} | {' | '.join(accuracies)} | {dead} | {share} | {seconds} |")
    said = ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"Accuracy in percent, mean of seeds {', '.join(map(str, seeds))} (lowest to highest). "
            f"{int(results[0]['problems'])} training problems. Machine: {meta['machine']}. {meta['date']}. {said}.",
            "",
        ]
    )


def _cell(values: Sequence[float]) -> str:
    low, mean, high = (100 * x for x in (min(values), fmean(values), max(values)))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
