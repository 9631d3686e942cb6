"""``make demo``: Vision-EKIPL end to end on a machine with no GPU, no hub and no API key.

Trains the tiny Qwen2-VL on visual counting, draws the figures, and compares base and trained policy on the ID and OOD
splits. Every step is an ordinary command, printed before it runs, so it can be run again by hand.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

PROBLEMS = 200  # of each split; the interval of an accuracy is about 7 points wide on either side

FILES = {
    "train/summary.md": "what the run did, on one page",
    "train/curve.png": "accuracy against training problems",
    "train/provenance.png": "who offered and who was kept, over training",
    "train/metrics.jsonl": "every metric of every step (docs/metrics.md)",
    "train/actions/": "every action: text, source, reward, whether it was kept",
    "train/model/": "the trained policy; plain transformers opens it",
    "passk/passk.png": "pass@k of base and trained policy",
    "eval/": "base against trained policy: table.md, scores.json, scores.jsonl",
}


def main() -> int:
    """Run the demo; returns the exit status of the first command that fails."""
    directory = Path("runs/demo") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    trained = f"models=[{directory / 'train' / 'model'}]"
    commands = [
        ("train", ["experiment=demo"]),
        ("passk", ["--k", "1,4,16", "limit=50", trained]),
        ("eval", ["decoding=sampling", f"limit={PROBLEMS}", trained]),  # last: its tables are what the demo shows
    ]
    seconds = {}
    for command, arguments in commands:
        line = [command, *arguments, f"hydra.run.dir={directory / command}"]
        print(f"\n$ ekipl {shlex.join(line)}", flush=True)
        start = time.perf_counter()
        status = subprocess.call([sys.executable, "-m", "ekipl", *line])
        if status:
            return status
        seconds[command] = time.perf_counter() - start
    print(f"\n{sum(seconds.values()):.0f} s in all, {seconds['train']:.0f} of them training; in {directory}:")
    for path, words in FILES.items():
        print(f"  {path:<24} {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
