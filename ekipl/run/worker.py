"""One rank of a training run: ``python -m ekipl.run.worker RUN/config.yaml``, started by ``launch`` or by torchrun.

Several ranks often raise the same error, and the exit of one rank makes the collectives of the others fail. One report
is wanted. A UsageError therefore goes into the error file that torch's launcher gives each rank; the launcher reports
the first one. A RuntimeError may be a failed collective, so a rank waits before it raises one: where another rank has
failed, the launcher kills this one in the meantime.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from ekipl.engine.rank import launched_rank
from ekipl.errors import UsageError
from ekipl.files import explain_full_disk, write_text
from ekipl.masking import masked
from ekipl.run.signals import Stopped, end_with_parent

KILL_S = 10.0  # seconds within which the launcher kills the other ranks after one has failed


def main() -> int:
    """Train as the config says. A UsageError is one message and exit status 2; a signal is status 128 + its number."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is something to save, Ctrl-C kills the rank
    try:
        from ekipl.engine.collectives import leave
        from ekipl.run.saved import load_saved
        from ekipl.run.training import run_training

        path = Path(sys.argv[1])
        with explain_full_disk(path.parent):
            run_training(load_saved(path), path.parent)
        leave()
    except UsageError as error:
        _report(masked(str(error)))
        if launched_rank() is not None:
            os._exit(2)  # freeing a large model may take longer than the other ranks wait
        return 2
    except Stopped as stopped:
        leave()
        return 128 + stopped.number
    except RuntimeError:
        if launched_rank() is not None:
            time.sleep(KILL_S)
        raise
    return 0


def _report(text: str) -> None:
    """Leave the message to torch's launcher where there is one, else print it."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if launched_rank() is None or file is None:
        print(text, file=sys.stderr, flush=True)
    else:
        write_text(Path(file), json.dumps({"message": text, "timestamp": int(time.time()), "usage_error": True}))


if __name__ == "__main__":
    sys.exit(main())
