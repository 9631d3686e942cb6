"""Checkpoints of a training run, ``step-N`` folders.

A checkpoint is written under another name and renamed when it is complete. ``state.json`` holds the size and CRC-32 of
every file; a checkpoint whose files differ is damaged, and a run resumes from the newest one that is intact.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekipl.errors import UsageError

if TYPE_CHECKING:
    from ekipl.engine.collectives import Processes

FORMAT = 1  # version of the folder's layout; a newer one is refused
STATE = "state.json"  # lists the other files
BLOCK = 2**24  # bytes per read


def checkpoints(directory: Path) -> list[Path]:
    """The complete checkpoints in ``directory``, newest first; their files are not checked."""
    found = [path for path in directory.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The number of steps done when the checkpoint was written."""
    return int(checkpoint.name.removeprefix("step-"))


def newest(directory: Path, processes: Processes) -> Path | None:
    """The newest intact checkpoint, or None where there is none. A collective: each rank checks a share of the files.

    Newer, damaged checkpoints are reported and renamed to ``step-N.damaged``; incomplete ones are removed.

    Raises:
        UsageError: the newest checkpoint was written by a newer version, or all are damaged.
    """
    found = checkpoints(directory)
    errors: list[str] = []
    for checkpoint in found:
        error = next((text for text in processes.gather(_damage(checkpoint, processes)) if text), None)
        if error is None:
            break
        errors.append(f"{checkpoint}: damaged: {error}")
    else:
        if found:
            raise UsageError("\n".join([*errors, f"{directory}: no sound checkpoint; remove it to begin anew"]))
    if processes.first:
        for error in errors:
            print(f"ekipl train: warning: {error}; going on from the one before", file=sys.stderr)
        for damaged in found[: len(errors)]:
            shutil.rmtree(aside := damaged.with_name(f"{damaged.name}.damaged"), ignore_errors=True)
            damaged.rename(aside)
        for partial in directory.glob("step-*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
    processes.wait()
    return found[len(errors)] if found else None


def save(
    directory: Path,
    step: int,
    write: Callable[[Path], None],
    keep: int,
    processes: Processes,
    best: int | None = None,
) -> None:
    """Write ``directory/step-N``, then remove all but the newest ``keep`` and that of the step ``best``. A collective.

    ``write(folder)`` runs on every rank. When it raises, the older checkpoints stay as they are.
    """
    target = directory / f"step-{step}"
    partial = directory / f"step-{step}.partial"
    if processes.first:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    processes.wait()
    try:
        write(partial)
        processes.wait()
        files = {name: entry for part in processes.gather(_entries(partial, processes)) for name, entry in part.items()}
        if processes.first:
            state = {"format": FORMAT, "step": step, "processes": processes.world_size, "files": files}
            (partial / STATE).write_text(json.dumps(state, indent=1) + "\n")
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            for old in [one for one in checkpoints(directory)[keep:] if step_of(one) != best]:
                # renamed first, so that a kill leaves an incomplete checkpoint and not a damaged one
                shutil.rmtree(old.rename(old.with_name(f"{old.name}.partial")))
    except BaseException:
        if processes.first:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    processes.wait()


def _entries(folder: Path, processes: Processes) -> dict[str, list[int]]:
    """Size in bytes and CRC-32 of this rank's share of the files, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != STATE)
    return {str(path.relative_to(folder)): [path.stat().st_size, _crc(path)] for path in processes.mine(files)}


def _crc(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return value


def damage(checkpoint: Path) -> str | None:
    """The first error in the files of a checkpoint, or None."""
    from ekipl.engine.collectives import Processes

    return _damage(checkpoint, Processes(0, 1))


def _damage(checkpoint: Path, processes: Processes) -> str | None:
    """The first error in this rank's share of the files, or None."""
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE).read_text())
        version = int(state["format"])
        files = sorted((str(name), int(size), int(crc)) for name, (size, crc) in state["files"].items())
    except FileNotFoundError:
        return f"{STATE} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{STATE} is not what was written"
    if version > FORMAT:
        raise UsageError(
            f"{checkpoint}: written by a newer ekipl (format {version}, this one reads {FORMAT}); "
            "update ekipl, or give another hydra.run.dir"
        )
    for name, size, crc in processes.mine(files):
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} of {size} bytes"
        if _crc(path) != crc:
            return f"{name} has other bytes than were written"
    return None
