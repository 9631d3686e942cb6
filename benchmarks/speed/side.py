"""One side in a process of its own, so that its CPU time and its peak memory are its own.

Reads a JSON object on standard input; the last line that it prints is the result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.speed.setting import Measured, Setting, Where

DISTRIBUTED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}  # a side is a process by itself
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def run(side: str, folder: Path, setting: Setting, steps: int, where: Where) -> Measured:
    """``ekipl`` or ``TRL``, with one thread."""
    order = {"side": side, "folder": str(folder), "setting": asdict(setting), "steps": steps, "where": asdict(where)}
    return Measured(**call("benchmarks.speed.side", order))


def call(module: str, order: dict[str, Any]) -> Any:
    """What the module's process prints last."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(order),
        env={key: value for key, value in {**os.environ, **ONE_THREAD}.items() if key not in DISTRIBUTED},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stderr[-4000:]}\n{module} ended with status {done.returncode} at {order}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    order = json.load(sys.stdin)
    if order["side"] == "ekipl":
        from benchmarks.speed.ours import measure
    else:
        from benchmarks.speed.theirs import measure
    setting, where = Setting(**order["setting"]), Where(**order["where"])
    print(json.dumps(asdict(measure(Path(order["folder"]), setting, order["steps"], where))))


if __name__ == "__main__":
    main()
