"""Several training processes on this machine, by torch's launcher: ``python -m ekipl.ranks NUMBER RUN/config.yaml``.

``torch.distributed.run`` itself would show its own traceback for every refusal, and turn exit status 2 into 1.
"""

from __future__ import annotations

import logging
import sys

from ekipl.lifetime import end_with_parent


def main() -> int:
    """The exit status of the process that failed first, 0 where none did."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    end_with_parent()
    logging.disable(logging.CRITICAL)  # of the launcher alone: what failed has told why
    number, config = sys.argv[1:]
    here = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=int(number),
        run_id="ekipl",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(here, sys.executable)("-m", "ekipl.worker", config)
    except ChildFailedError as failed:
        status = failed.get_first_failure()[1].exitcode
        return status if status > 0 else 128 - status
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


if __name__ == "__main__":
    sys.exit(main())
