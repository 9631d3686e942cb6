"""Start the training processes on a config composed and checked once; ranks read the file, they never compose."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType


def launch(config: Path, processes: int) -> int:
    """Run ``ekipl.worker`` on ``config`` in this many processes of this machine; returns their exit status.

    Training runs outside the calling process, so the jobs of a sweep share nothing.
    """
    worker = ["-m", "ekipl.worker", str(config)]
    if processes > 1:
        worker = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *worker]
    with subprocess.Popen([sys.executable, *worker]) as process:

        def forward(number: int, frame: FrameType | None) -> None:
            process.send_signal(number)

        before = signal.signal(signal.SIGTERM, forward)
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal has interrupted the workers as well
            return process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
