"""Start the training processes on a config composed and checked once; ranks read the file, they never compose."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from ekipl.run.signals import as_parent

HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def launch(config: Path, processes: int, nodes: int = 1) -> int:
    """Run the worker on ``config`` in this many processes of this machine; returns the exit status, as shells do.

    Training runs outside the calling process, so the jobs of a sweep share nothing. A first signal is handed on, and
    training ends at its next good moment; a second one ends all at once.
    """
    worker = ["ekipl.run.worker"] if processes * nodes == 1 else ["ekipl.run.ranks", str(processes), str(nodes)]
    told: list[int] = []
    # in a session of its own, so that Ctrl-C comes to this process alone
    line = [sys.executable, "-m", *worker, str(config)]
    with subprocess.Popen(line, env=as_parent(), start_new_session=True) as process:

        def hand_on(number: int, frame: FrameType | None) -> None:
            told.append(number)
            if len(told) == 1:
                process.send_signal(number)
            else:
                process.kill()  # what it has started ends with it

        before = {number: signal.signal(number, hand_on) for number in HANDED_ON}
        try:
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if len(told) > 1:
        return 128 + told[0]
    return status if status >= 0 else 128 - status
