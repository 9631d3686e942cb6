"""What the device itself reaches: matrix products in bfloat16, and copies within its memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

LARGE = (8192, 8192, 8192)  # rows, inner, columns
MLP = (4608, 1536, 8960)  # tokens of an update at Qwen2-VL-2B's width, to the width of its MLP
COPIED = 2**30  # bytes, many times the largest cache
REPEATS = 50


def measure(device: str, scale: int = 1) -> Iterator[dict[str, Any]]:
    """Rows with ``tflops`` or ``gb_s``; ``scale`` divides the sizes, to try the code on a CPU."""
    for what, shape in (("product of 8192 x 8192 matrices", LARGE), ("product of an MLP's shape", MLP)):
        rows, inner, columns = (max(1, size // scale) for size in shape)
        left = torch.randn(rows, inner, device=device, dtype=torch.bfloat16)
        right = torch.randn(inner, columns, device=device, dtype=torch.bfloat16)
        seconds = timed(device, lambda left=left, right=right: left @ right)
        yield {"what": what, "shape": [rows, inner, columns], "tflops": 2 * rows * inner * columns / seconds / 1e12}
        del left, right
    size = max(1, COPIED // scale)
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    seconds = timed(device, lambda: target.copy_(source))
    yield {"what": "copy, read and written", "bytes": 2 * size, "gb_s": 2 * size / seconds / 1e9}


def timed(device: str, work: Callable[[], Any]) -> float:
    """Seconds of one of ``REPEATS`` in a row, after three that warm up."""
    for _ in range(3):
        work()
    wait(device)
    started = time.perf_counter()
    for _ in range(REPEATS):
        work()
    wait(device)
    return (time.perf_counter() - started) / REPEATS


def wait(device: str) -> None:
    """Until the device has done everything."""
    if device != "cpu":
        torch.cuda.synchronize()
