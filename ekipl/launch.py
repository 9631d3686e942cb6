"""Start the training processes on a config composed and checked once; ranks read the file, they never compose."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType


def launch(config: Path, processes: int) -> int:
    """Run ``ekipl.worker`` on ``config`` in this many processes of this machine; returns the exit status, as shells do.

    Training runs outside the calling process, so the jobs of a sweep share nothing.
    """
    worker = ["ekipl.worker"] if processes == 1 else ["ekipl.ranks", str(processes)]
    with subprocess.Popen([sys.executable, "-m", *worker, str(config)]) as process:

        def forward(number: int, frame: FrameType | None) -> None:
            process.send_signal(number)

        before = signal.signal(signal.SIGTERM, forward)
        try:
            status = process.wait()
        except KeyboardInterrupt:  # the terminal has interrupted the workers as well
            status = process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    return status if status >= 0 else 128 - status
