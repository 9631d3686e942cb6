"""The same answer however the parameters are sharded, and no process waits for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

ROOT = Path(__file__).parent.parent


def run(directory: Path, processes: int, stage: int, beta: float, mu: int, micro_batch: int) -> Path:
    out = directory / f"zero{stage}x{processes}-{beta}-{mu}-{micro_batch}"
    out.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "tests.sharded"]
    arguments = [str(out), str(stage), str(beta), str(mu), str(micro_batch)]
    done = subprocess.run(
        [sys.executable, *launcher, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """ZeRO-0 in one process, by its settings."""
    directory = tmp_path_factory.mktemp("one")
    return cache(lambda beta, mu: run(directory, 1, 0, beta, mu, 8))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "stage", "beta", "mu", "micro_batch"),
    [(2, 0, 0.1, 1, 1), (2, 2, 0.1, 1, 1), (1, 3, 0.1, 1, 1), (2, 3, 0.1, 2, 1), (3, 3, 0.0, 1, 8)],
)
def test_sharding_changes_nothing(  # type: ignore[no-untyped-def]
    one, processes: int, stage: int, beta: float, mu: int, micro_batch: int, tmp_path: Path
) -> None:
    expected, got = one(beta, mu), run(tmp_path, processes, stage, beta, mu, micro_batch)
    losses = [json.loads((d / "losses.json").read_text()) for d in (expected, got)]
    # Adam divides small gradients by their own size, so rounding shows in the loss before it shows in the weights
    assert losses[1] == pytest.approx(losses[0], rel=1e-3, abs=1e-5)
    theirs, ours = (load_file(d / "weights.safetensors") for d in (expected, got))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert (ours[name] - tensor).norm() <= 1e-4 * tensor.norm() + 1e-6, name
    saved = dict(AutoModelForImageTextToText.from_pretrained(got / "model").named_parameters())
    assert all((saved[name] - tensor).norm() == 0 for name, tensor in ours.items())
