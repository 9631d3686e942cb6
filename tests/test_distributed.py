"""The same answer however the parameters are sharded, and no process waits for ever."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ekipl.engine.collectives import join
from ekipl.errors import UsageError
from ekipl.run.launch import meeting_point
from tests.float64 import EXACT
from tests.sharded import SETTINGS, updates

ROOT = Path(__file__).parent.parent
PATIENCE_S = 480  # of which a quiet machine with two cores needs a twentieth
Results = dict[str, tuple[list[float], dict[str, Tensor]]]


@cache
def alone(stage: int) -> Results:
    """What one process makes of it."""
    with TemporaryDirectory() as folder:
        return {name: updates(join(), stage, Path(folder), **SETTINGS[name]) for name in SETTINGS}


def together(folder: Path, processes: int, stage: int) -> Results:
    """The same by several processes, which must come to an end."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "tests.sharded"]
    line = [sys.executable, *launcher, str(folder), str(stage)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        name: (json.loads((folder / f"{name}.json").read_text()), load_file(folder / f"{name}.safetensors"))
        for name in SETTINGS
    }


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "processes"), [(3, 1), (0, 2), (2, 2), (3, 2), (3, 3)])
def test_sharding_changes_nothing(stage: int, processes: int, tmp_path: Path) -> None:
    expected = alone(0)
    got = alone(stage) if processes == 1 else together(tmp_path, processes, stage)
    for setting in SETTINGS:
        (theirs, before), (ours, after) = expected[setting], got[setting]
        # DeepSpeed saves weights in float32, and takes the norm of offloaded gradients in float32: one rounding.
        bound = torch.finfo(torch.float32).eps if "offloaded" in setting or "stopped" in setting else EXACT
        assert ours == pytest.approx(theirs, rel=bound, abs=bound), setting
        assert after.keys() == before.keys()
        for name, tensor in before.items():
            assert (after[name] - tensor).norm() <= bound * (tensor.norm() + 1), (setting, name)


@pytest.mark.slow
def test_two_machines_train_as_one(tmp_path: Path) -> None:
    """Both are this one; each starts its half, and the first writes. One has nothing to evaluate."""
    settings = ["experiment=smoke", "B=1", "evaluation.limit=1", "M=0", "engine=zero3", "engine.num_nodes=2"]
    line = [sys.executable, "-m", "ekipl", "train", *settings, f"hydra.run.dir={tmp_path}"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again in a moment
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    machines = [
        subprocess.Popen(line, env={**os.environ, **place, "NODE_RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    for machine in machines:
        _, told = machine.communicate(timeout=PATIENCE_S)
        assert machine.returncode == 0, told
    assert (tmp_path / "model" / "model.safetensors").is_file()
    state = json.loads((tmp_path / "checkpoints" / "step-1" / "state.json").read_text())
    assert state["processes"] == 2


def test_which_machine_this_is() -> None:
    assert meeting_point(1, {}) == {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    under_slurm = {"SLURM_NODEID": "1", "MASTER_ADDR": "gpu07", "MASTER_PORT": "1234"}
    assert meeting_point(2, under_slurm) == {
        "rdzv_backend": "static",
        "rdzv_endpoint": "gpu07:1234",
        "rdzv_configs": {"rank": 1},
    }
    with pytest.raises(UsageError, match="engine.num_nodes: 2: which machine is this"):
        meeting_point(2, {"MASTER_ADDR": "gpu07"})
