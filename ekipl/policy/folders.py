"""What a folder holds, by the names of its files: a model, a run, a checkpoint of a run, an adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

Content = Literal["model", "run", "checkpoint", "adapter", "nothing"]
MODEL = "model"  # the model in the folder of a run, and the one made of a checkpoint or an adapter
ADAPTERS = "adapter"  # the adapter alone in the folder of a run, in peft's format
ADAPTER = "adapter_config.json"


def content(folder: Path) -> Content:
    """What is in ``folder``, which may be missing."""
    if (folder / ADAPTER).is_file() and not any(folder.glob("model*.safetensors")):
        return "adapter"
    if (folder / "config.json").is_file():
        return "model"
    if (folder / "state.json").is_file() and any(folder.glob("learning-*.safetensors")):
        return "checkpoint"
    if (folder / MODEL / "config.json").is_file() or any(folder.glob("checkpoints/step-*/state.json")):
        return "run"
    return "nothing"


def weights_fault(folder: Path) -> str | None:
    """What is wrong with the weights of a model folder, by the headers of its files; None = nothing that they show."""
    index = folder / "model.safetensors.index.json"
    try:
        if index.is_file():
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        else:
            names = sorted(path.name for path in folder.glob("*.safetensors"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"{index.name} is not to be read"
    faults = (f"{name} {fault}" for name in names if (fault := _file_fault(folder / str(name))))
    return next(faults, None if names else "no safetensors files")


def _file_fault(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, 10**8)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return "is damaged"
    wanted, there = 8 + size + max(ends, default=0), path.stat().st_size
    return None if wanted == there else f"has {there} of {wanted} bytes"


def base_of(adapter: Path) -> str:
    """The model that an adapter was trained for, by its own word. Raises ValueError where it says nothing."""
    told = json.loads((adapter / ADAPTER).read_text(encoding="utf-8"))
    base = told.get("base_model_name_or_path") if isinstance(told, dict) else None
    if not isinstance(base, str) or not base:
        raise ValueError(f"{ADAPTER} names no base_model_name_or_path")
    return base


def not_merged(path: str) -> str:
    """The line about an adapter that is given as a model."""
    try:
        base = base_of(Path(path).expanduser())
    except (OSError, ValueError) as error:
        base = f"an unknown base ({error})"
    return (
        f"{path}: an adapter of {base}, and no model by itself; ekipl train export={path} merges the two into "
        f"{Path(path) / MODEL}"
    )
