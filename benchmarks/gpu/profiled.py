"""Where the time of sampling and of an update goes: reads and prints as ``benchmarks.speed.side`` does.

Wall-clock time is measured without the profiler, which slows the CPU down; the time that the GPU computes is the sum of
its kernels under the profiler. Where the second is much less than the first, the GPU waits for the CPU to launch them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.limits import wait
from benchmarks.speed.ours import Side, ready
from benchmarks.speed.setting import Setting, Where
from benchmarks.speed.side import leave
from ekipl.algorithm.seams import Decoding
from ekipl.policy.hf import HFSampler

TOP = 10
DECODED = 32  # tokens after the first
ROWS = (1, 8, 32, 64)  # samples a problem


def measure(folder: Path, setting: Setting, where: Where) -> Iterator[dict[str, Any]]:
    """Rows ``what``, ``wall`` and ``busy`` seconds, ``kernels`` and the ``top`` operations; then the rows by batch."""
    side = ready(folder, setting, 4, where)
    groups = side.sample(0)
    prepared = side.engine.prepare(groups)
    side.engine.update(prepared)  # all of this warms up
    few = min(DECODED, setting.tokens)
    short, long = "prompts and one token", f"prompts and {1 + few} tokens"
    works: dict[str, Callable[[], Any]] = {
        short: sampling(side, 1, setting.G),
        long: sampling(side, 1 + few, setting.G),
        "reference": lambda: side.engine.prepare(groups),
        "update": lambda: side.engine.update(prepared),
    }
    found = {name: profiled(where.device, work) for name, work in works.items()}
    for name, row in found.items():
        yield {"what": name, **row}
    each = {key: (found[long][key] - found[short][key]) / few for key in ("wall", "busy", "kernels")}
    yield {"what": "one more token", **each, "top": []}
    for n in ROWS:
        once, longer = (wall(where.device, sampling(side, tokens, n)) for tokens in (1, 1 + few))
        yield {"rows": n * setting.problems, "a_token": (longer - once) / few, "prompts": once}


def sampling(side: Side, tokens: int, n: int) -> Callable[[], Any]:
    """Draw n samples of each problem, of so many tokens."""
    sampler = HFSampler(replace(side.vlm), Decoding(max_tokens=tokens))
    return lambda: sampler.sample(side.problems, n, 0)


def wall(device: str, work: Callable[[], Any]) -> float:
    """The smaller of two times, in seconds."""
    seconds = []
    for _ in range(2):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def profiled(device: str, work: Callable[[], Any]) -> dict[str, Any]:
    """``wall``, ``busy``, ``kernels`` (number), ``top`` (operations) and ``top_kernels``."""
    seconds = wall(device, work)
    on_gpu = device != "cpu"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as recorded:
        work()
        wait(device)
    events = [event for event in recorded.key_averages() if not getattr(event, "is_user_annotation", False)]
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    operations = [event for event in events if event.device_type == DeviceType.CPU]
    spent = (lambda event: event.self_device_time_total) if on_gpu else (lambda event: event.self_cpu_time_total)
    counted = kernels if on_gpu else operations
    return {
        "wall": seconds,
        "busy": sum(spent(event) for event in counted) / 1e6,
        "kernels": sum(event.count for event in counted),
        "top": top(operations, spent),
        "top_kernels": top(kernels, spent),
    }


def top(events: list[Any], spent: Callable[[Any], float]) -> list[dict[str, Any]]:
    """The events that took longest."""
    longest = sorted(events, key=spent, reverse=True)[:TOP]
    return [{"name": event.key[:120], "calls": event.count, "seconds": spent(event) / 1e6} for event in longest]


def main() -> None:
    order = json.load(sys.stdin)
    for row in measure(Path(order["folder"]), Setting(**order["setting"]), Where(**order["where"])):
        print(json.dumps(row), flush=True)
    leave()


if __name__ == "__main__":
    main()
