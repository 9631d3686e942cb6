"""What a training process runs: ``python -m ekipl.run.worker RUN/config.yaml``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from ekipl.errors import UsageError
from ekipl.files import explain_full_disk
from ekipl.run.signals import Stopped, end_with_parent

SIGNAL = 128  # what shells add to the number of the signal that ended a process
PATIENCE_S = 10.0  # in which the launcher ends what one process's failure has left of the others


def main() -> int:
    """Train as the config says. A usage error is one message and exit status 2."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is something to save, Ctrl-C ends it as SIGTERM does
    try:
        from omegaconf import OmegaConf

        from ekipl.engine.collectives import leave
        from ekipl.run.training import run_training

        path = Path(sys.argv[1])
        with explain_full_disk(path.parent):
            run_training(OmegaConf.load(path), path.parent)  # type: ignore[arg-type]
        leave()
    except UsageError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(PATIENCE_S)  # mostly all fail alike: the first says so, and the launcher ends the others
        print(error, file=sys.stderr, flush=True)
        if "RANK" in os.environ:
            os._exit(2)  # tidying up a large model may outlast the patience of the others
        return 2
    except Stopped as stopped:
        leave()
        return SIGNAL + stopped.number
    except RuntimeError:
        if "RANK" in os.environ:
            time.sleep(PATIENCE_S)  # mostly another process has gone, which told why: this one's trace would hide it
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
