"""Training processes by torch's launcher: ``python -m ekipl.run.ranks NUMBER NODES RUN/config.yaml``, on each machine.

``torch.distributed.run`` itself would show its own traceback for every refusal, turn exit status 2 into 1, and kill
what has not ended half a minute after a signal.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from ekipl.errors import UsageError
from ekipl.run.signals import PARENT, end_with_parent

PORT = 29500


def main() -> int:
    """The exit status of the process that failed first, 0 where none did."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while torch is imported
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ[PARENT] = str(os.getpid())  # of the workers
    logging.disable(logging.CRITICAL)  # of the launcher alone: what failed has told why
    number, nodes, config = sys.argv[1:]
    here = LaunchConfig(
        min_nodes=int(nodes),
        max_nodes=int(nodes),
        nproc_per_node=int(number),
        run_id="ekipl",
        max_restarts=0,
        signals_to_handle="SIGQUIT",  # the others are handed on below
        **meeting_point(int(nodes), os.environ),
    )
    for wish in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(wish, _hand_on)
    try:
        elastic_launch(here, sys.executable)("-m", "ekipl.run.worker", config)
    except ChildFailedError as failed:
        status = failed.get_first_failure()[1].exitcode
        return status if status > 0 else 128 - status
    return 0


def meeting_point(nodes: int, environment: Mapping[str, str]) -> dict[str, Any]:
    """Where the processes of ``nodes`` machines meet, and which of them this is: as Slurm says, or NODE_RANK.

    Raises:
        UsageError: nothing says it.
    """
    if nodes == 1:
        return {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    rank = environment.get("NODE_RANK", environment.get("SLURM_NODEID"))
    first = environment.get("MASTER_ADDR")
    if first is None and "SLURM_JOB_NODELIST" in environment:
        names = ["scontrol", "show", "hostnames", environment["SLURM_JOB_NODELIST"]]
        first = subprocess.run(names, capture_output=True, text=True, check=True).stdout.split()[0]
    if rank is None or first is None:
        raise UsageError(
            f"engine.num_nodes: {nodes}: which machine is this? Start it under Slurm with one task a node "
            "(docs/distributed.md), or set NODE_RANK (from 0) and MASTER_ADDR (of the first) on each"
        )
    port = environment.get("MASTER_PORT", str(PORT))
    return {"rdzv_backend": "static", "rdzv_endpoint": f"{first}:{port}", "rdzv_configs": {"rank": int(rank)}}


def _hand_on(number: int, frame: FrameType | None) -> None:
    """Tell the workers; they end when they have saved, and this process with them, or at once where there are none."""
    import psutil

    workers = psutil.Process().children()
    for worker in workers:
        worker.send_signal(number)
    if not workers:
        os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
