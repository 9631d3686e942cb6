"""One side in a process of its own, so that its CPU time and its peak memory are its own.

Reads a JSON object on standard input; the JSON objects that it prints, one a line, are its results.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.speed.setting import Measured, Setting, Where

DISTRIBUTED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}  # a side is a process by itself
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
CHECKOUT = Path(__file__).parents[2]


class SideFailed(RuntimeError):
    """A process ended with an error or ran out of time."""


def run(side: str, folder: Path, setting: Setting, steps: int, where: Where, seconds: float | None = None) -> Measured:
    """``ekipl`` or ``TRL``, with one thread. Raises ``SideFailed``, also after so many seconds."""
    order = {"side": side, "folder": str(folder), "setting": asdict(setting), "steps": steps, "where": asdict(where)}
    return Measured(**call("benchmarks.speed.side", order, seconds))


def call(module: str, order: dict[str, Any], seconds: float | None = None) -> Any:
    """The last object that the module's process prints. Raises ``SideFailed``, also after so many seconds."""
    found, error = results(module, order, seconds)
    if error or not found:
        raise SideFailed(error or "no result")
    return found[-1]


def results(module: str, order: dict[str, Any], seconds: float | None = None) -> tuple[list[Any], str | None]:
    """All objects that the module's process prints, and why it did not end well, or None."""
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(order).encode(),
            env={key: value for key, value in environment.items() if key not in DISTRIBUTED},
            capture_output=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as late:
        print(_text(late.stderr)[-2000:], file=sys.stderr)
        return _objects(_text(late.stdout)), f"stopped after {seconds:.0f} s"
    if done.returncode == 0:
        return _objects(_text(done.stdout)), None
    said = _text(done.stderr)
    print(f"{said[-4000:]}\n{module} ended with status {done.returncode} at {order}", file=sys.stderr)
    return _objects(_text(done.stdout)), f"{_reason(said)} (status {done.returncode})"


def _text(printed: bytes | None) -> str:
    return (printed or b"").decode(errors="replace")


def _objects(printed: str) -> list[Any]:
    found = []
    for line in printed.splitlines():
        if line.startswith("{"):
            with suppress(ValueError):  # a library's own output
                found.append(json.loads(line))
    return found


def _reason(said: str) -> str:
    """The line that names the exception, else the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt|Exit)\b", line)]
    return next(iter([*named[-1:], *lines[-1:]]), "no message")[:300]


def main() -> None:
    order = json.load(sys.stdin)
    if order["side"] == "ekipl":
        from benchmarks.speed.ours import measure
    else:
        from benchmarks.speed.theirs import measure
    setting, where = Setting(**order["setting"]), Where(**order["where"])
    print(json.dumps(asdict(measure(Path(order["folder"]), setting, order["steps"], where))), flush=True)
    leave()


def leave() -> None:
    """End the process group, whose threads could abort the process at its exit."""
    from ekipl.engine.collectives import leave

    leave()


if __name__ == "__main__":
    main()
