"""Checkpoints appear whole or not at all; damage is named, and no failure costs an older one."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file

from ekipl.engine.collectives import Processes
from ekipl.errors import UsageError
from ekipl.files import explain_full_disk
from ekipl.run import checkpoint

ALONE = Processes(0, 1)


def written(directory: Path, step: int, keep: int = 3) -> Path:
    def write(folder: Path) -> None:
        save_file({"w": torch.full((4,), float(step))}, folder / "w.safetensors")
        (folder / "updates.json").write_text(str(step))

    checkpoint.save(directory, step, write, keep, ALONE)
    return directory / f"step-{step}"


def test_the_newest_ones_stay(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        written(tmp_path, step, keep=2)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-11", "step-10"]
    assert checkpoint.newest(tmp_path, ALONE) == tmp_path / "step-11"
    assert checkpoint.newest(tmp_path / "none", ALONE) is None


def flipped(folder: Path) -> None:
    content = bytearray((folder / "w.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "w.safetensors").write_bytes(content)


def cut_off(folder: Path) -> None:
    content = (folder / "w.safetensors").read_bytes()
    (folder / "w.safetensors").write_bytes(content[:-3])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flipped, "w.safetensors has other bytes than were written"),
        (cut_off, "w.safetensors has 77 of 80 bytes"),
        (lambda folder: (folder / "updates.json").unlink(), "updates.json is missing"),
        (lambda folder: (folder / "state.json").unlink(), "state.json is missing"),
        (lambda folder: (folder / "state.json").write_text("{"), "state.json is not what was written"),
        (lambda folder: (folder / "state.json").write_text("[]"), "state.json is not what was written"),
    ],
)
def test_a_damaged_one_is_named_and_the_one_before_it_used(damage, said, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    before, last = written(tmp_path, 1), written(tmp_path, 2)
    damage(last)
    assert checkpoint.newest(tmp_path, ALONE) == before
    assert f"{last}: damaged: {said}; going on from the one before" in capsys.readouterr().err
    assert (tmp_path / "step-2.damaged").is_dir()  # and neither counts among those that stay, nor is in the way
    written(tmp_path, 2, keep=2)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-2", "step-1"]
    damage(before)
    damage(last)
    with pytest.raises(UsageError, match="no sound checkpoint; remove it to begin anew"):
        checkpoint.newest(tmp_path, ALONE)


@given(st.sampled_from(["w.safetensors", "updates.json", "state.json"]), st.data())
def test_no_damage_goes_unseen(name: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        before, last = written(Path(folder), 1), written(Path(folder), 2)
        file = last / name
        content = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content = content[:place]
        else:
            content[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
        file.write_bytes(content)
        try:
            found = checkpoint.newest(Path(folder), ALONE)
        except UsageError as error:
            assert "newer" in str(error)  # noqa: PT017 - the one digit that makes it so
        else:
            # what names the files may have lost what it says of itself: its blanks, the step
            assert found == before or (found == last and name == "state.json")


def test_one_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    state = written(tmp_path, 1) / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"format": 7}))
    with pytest.raises(UsageError, match=r"step-1: written by a newer ekipl \(format 7, this one reads 1\); update"):
        checkpoint.newest(tmp_path, ALONE)


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "no space left on device"),
        # safetensors' own words; never let it write to /dev/full: it renames over the device
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_costs_no_older_checkpoint(failure: Exception, tmp_path: Path) -> None:
    older = written(tmp_path, 1)

    def write(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise failure

    with pytest.raises(UsageError, match="no space left on its disk"), explain_full_disk(tmp_path):
        checkpoint.save(tmp_path, 2, write, 1, ALONE)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]  # nothing half-written stays either
    assert checkpoint.newest(tmp_path, ALONE) == older


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "step-3.partial").mkdir()
    assert checkpoint.newest(tmp_path, ALONE) is None
    assert not (tmp_path / "step-3.partial").exists()
