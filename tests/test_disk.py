"""A full disk is a UsageError of one line; no other error is taken for one."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ekipl.errors import UsageError
from ekipl.files import explain_full_disk

FULL_DEVICE = Path("/dev/full")  # every write to it fails for want of space


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="Linux has it")
def test_a_full_disk_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"hydra.run.dir: {tmp_path}: no space left"), explain_full_disk(tmp_path):
        FULL_DEVICE.write_text("x" * 9)


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="Linux has it")
def test_torch_hides_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.zeros(10**6)
    with pytest.raises(RuntimeError), explain_full_disk(tmp_path):
        torch.save(weights, FULL_DEVICE)  # the disk of tmp_path is not full
    usage = SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UsageError, match="no space left"), explain_full_disk(tmp_path):
        torch.save(weights, FULL_DEVICE)


def test_other_failures_keep_their_trace(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explain_full_disk(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "no such file")
    with pytest.raises(RuntimeError, match="a bug"), explain_full_disk(tmp_path):
        raise RuntimeError("a bug")
