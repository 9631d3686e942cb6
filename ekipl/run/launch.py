"""Start the training ranks on a config that is composed and checked once; the ranks read the file.

One rank is a child process of the command. Several are started by torch's launcher, which runs in a child process of
its own: ``python -m ekipl.run.launch RANKS NODES RUN/config.yaml``, on each machine. The command line of torch's
launcher is not used: it shows its own traceback for every UsageError, turns exit status 2 into 1, and kills ranks that
have not ended half a minute after a signal.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from ekipl.errors import UsageError
from ekipl.run.signals import PARENT, as_parent, end_with_parent

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PORT = 29500


def launch(config: Path, processes: int, nodes: int = 1) -> int:
    """Train as ``config`` says on ``processes`` ranks of this machine; returns the exit status, as shells do.

    Training runs outside the calling process, so the jobs of a sweep share nothing. The first signal is forwarded:
    training stops after its current step. The second signal kills the training processes.
    """
    module = ["ekipl.run.worker"] if processes * nodes == 1 else ["ekipl.run.launch", str(processes), str(nodes)]
    received: list[int] = []
    line = [sys.executable, "-m", *module, str(config)]
    # a session of its own: Ctrl-C reaches this process only, which forwards it
    with subprocess.Popen(line, env=as_parent(), start_new_session=True) as process:

        def forward(number: int, frame: FrameType | None) -> None:
            received.append(number)
            if len(received) == 1:
                process.send_signal(number)
            else:
                process.kill()  # its own children end with it

        before = {number: signal.signal(number, forward) for number in FORWARDED}
        try:
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if len(received) > 1:
        return 128 + received[0]
    return status if status >= 0 else 128 - status


def meeting_point(nodes: int, environment: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of ``LaunchConfig`` by which ``nodes`` machines find each other, from Slurm or from NODE_RANK.

    Raises:
        UsageError: the environment does not say which machine this is, or which is the first.
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


def main() -> int:
    """Run torch's launcher; print the UsageError of the rank that failed first and return its exit status, else 0."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while torch is imported
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ[PARENT] = str(os.getpid())  # the ranks end with this process
    logging.disable(logging.CRITICAL)  # the launcher's log repeats the error of the rank
    number, nodes, config = sys.argv[1:]
    here = LaunchConfig(
        min_nodes=int(nodes),
        max_nodes=int(nodes),
        nproc_per_node=int(number),
        run_id="ekipl",
        max_restarts=0,
        signals_to_handle="SIGQUIT",  # the signals in FORWARDED are handled below
        **meeting_point(int(nodes), os.environ),
    )
    for name in FORWARDED:
        signal.signal(name, _forward_to_ranks)
    try:
        elastic_launch(here, sys.executable)("-m", "ekipl.run.worker", config)
    except ChildFailedError as failed:
        failure = failed.get_first_failure()[1]
        if failure.error_file_data.get("usage_error"):
            print(failure.message, file=sys.stderr, flush=True)
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    return 0


def _forward_to_ranks(number: int, frame: FrameType | None) -> None:
    """Forward the signal and go on waiting for the ranks, which save and exit; exit at once if none has started."""
    import psutil

    ranks = psutil.Process().children()
    for rank in ranks:
        rank.send_signal(number)
    if not ranks:
        os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
