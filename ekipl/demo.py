"""``make demo``: Vision-EKIPL end to end on a machine with no GPU, no hub and no API key.

Trains the tiny Qwen2-VL on visual counting, evaluates base and trained policy on the ID and OOD splits, draws the
figures. Every step is an ordinary command, printed before it runs, so it can be run again by hand.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from datetime import datetime
from math import nan
from pathlib import Path
from typing import Any

from ekipl.stats import Estimate
from ekipl.tables import Table, percent_interval

PROBLEMS = 200  # of each split; the interval of an accuracy is about 7 points wide on either side


def main() -> int:
    """Run the demo; returns the exit status of the first command that fails."""
    directory = Path("runs/demo") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    trained = directory / "train" / "model"
    start = time.perf_counter()
    commands = [
        ("train", "train", ["experiment=demo"]),
        ("base", "eval", ["decoding=sampling", f"limit={PROBLEMS}"]),
        ("trained", "eval", ["decoding=sampling", f"limit={PROBLEMS}", f"model.path={trained}"]),
        ("passk", "passk", ["--k", "1,4,16", "limit=50", f"models=[{trained}]"]),
    ]
    seconds = {}
    for name, command, arguments in commands:
        line = [command, *arguments, f"hydra.run.dir={directory / name}"]
        print(f"\n$ ekipl {shlex.join(line)}", flush=True)
        began = time.perf_counter()
        status = subprocess.call([sys.executable, "-m", "ekipl", *line])
        if status:
            return status
        seconds[name] = time.perf_counter() - began
    print()
    table(directory, seconds["train"]).show()
    print(f"{time.perf_counter() - start:.0f} s in all; everything lies in {directory}:")
    for path, words in FILES.items():
        print(f"  {path:<28} {words}")
    return 0


FILES = {
    "train/summary.md": "what the run did, on one page",
    "train/curve.png": "accuracy against training problems",
    "train/provenance.png": "who offered and who was kept, over training",
    "train/metrics.jsonl": "every metric of every step (docs/metrics.md)",
    "train/actions/": "every action: text, source, reward, whether it was kept",
    "train/model/": "the trained policy; plain transformers opens it",
    "base/, trained/": "evaluations: table.md, scores.json, scores.jsonl",
    "passk/passk.png": "pass@k of base and trained policy",
}


def table(directory: Path, train_seconds: float) -> Table:
    """Base against trained policy, split by split."""
    base, trained = (_splits(directory / name) for name in ("base", "trained"))
    rows = [
        [split, _cell(base[split]), _cell(trained[split]), f"{100 * (_mean(trained[split]) - _mean(base[split])):+.1f}"]
        for split in base
    ]
    return Table(
        "Visual counting: accuracy in percent (95 % interval)",
        ["split", "base", "trained with Vision-EKIPL", "difference"],
        rows,
        [f"{PROBLEMS} problems a split, one completion each at temperature 1; training took {train_seconds:.0f} s"],
    )


def _splits(directory: Path) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((directory / "scores.json").read_text())
    return {split["split"]: split for split in scores["splits"]}


def _mean(split: dict[str, Any]) -> float:
    return float(split["accuracy"]["mean"])


def _cell(split: dict[str, Any]) -> str:
    value = {key: nan if number is None else number for key, number in split["accuracy"].items()}
    return percent_interval(Estimate(value["mean"], value["low"], value["high"]))


if __name__ == "__main__":
    sys.exit(main())
