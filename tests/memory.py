"""The memory of a training run on a CPU: ``python -m tests.memory CONFIG WARM_UP``, each a run's ``config.yaml``.

Prints the peak above the memory of a process that has imported everything and trained the tiny model, in bytes.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ekipl.run.training import run_training


def memory(key: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (the peak), in bytes."""
    found = re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def train(config: str) -> None:
    cfg = OmegaConf.load(config)
    assert isinstance(cfg, DictConfig)
    run_training(cfg, Path(config).parent)


def main() -> None:
    config, warm_up = sys.argv[1:]
    train(warm_up)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    base = memory("VmRSS")
    train(config)
    print("peak", memory("VmHWM") - base)


if __name__ == "__main__":
    main()
