"""Model folders of what a run leaves behind: a run and its checkpoints are models, an adapter becomes one.

A checkpoint holds the trained weights alone. Its model is made once, of these and of the initial policy that the run's
``config.yaml`` names, and lies in the checkpoint's folder, so that both go together.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.errors import UsageError
from ekipl.policy.folders import MODEL, base_of, content, not_merged
from ekipl.policy.settings import ModelSettings
from ekipl.run import checkpoint
from ekipl.run.saved import load_saved

if TYPE_CHECKING:
    from ekipl.policy.model import VLM


def as_model(path: str) -> str:
    """The model folder that ``path`` means; a checkpoint without one gets it now. Hub names come back as they are.

    Raises:
        UsageError: a checkpoint that cannot be made a model, or an adapter that was not merged.
    """
    folder = Path(path).expanduser()
    kind = content(folder)
    if kind == "run":
        if (folder / MODEL).is_dir():
            return str(folder / MODEL)
        folder, kind = checkpoint.checkpoints(folder / "checkpoints")[0], "checkpoint"
    if kind in ("checkpoint", "adapter") and (folder / MODEL / "config.json").is_file():
        return str(folder / MODEL)
    if kind == "adapter":
        raise UsageError(not_merged(path))
    return str(export(str(folder))) if kind == "checkpoint" else path


def so_far(run: Path) -> str:
    """How the model of the steps done is had, for the message of a run that was stopped; empty before a checkpoint."""
    return f"; its model so far: ekipl eval model.path={run}" if content(run) == "run" else ""


def export(path: str) -> Path:
    """Write the model of a run's newest checkpoint, of a checkpoint or of an adapter; returns its folder.

    Raises:
        UsageError: ``path`` is none of them, or what it is made of is missing or damaged.
    """
    folder = Path(path).expanduser()
    kind = content(folder)
    if kind == "run":
        if not (found := checkpoint.checkpoints(folder / "checkpoints")):
            return folder / MODEL
        folder = found[0]
    elif kind not in ("checkpoint", "adapter"):
        raise UsageError(f"export: {path}: neither a run, nor a checkpoint (RUN/checkpoints/step-N), nor an adapter")
    target = folder / MODEL
    if (target / "config.json").is_file():
        return target
    from ekipl.policy.model import save_model

    try:
        vlm = _merged(folder) if kind == "adapter" else _of_checkpoint(folder)
        save_model(vlm, dict(_weights(vlm)), target)
    except PermissionError as error:
        raise UsageError(f"export: {target}: {error.strerror}; copy {folder} to where you may write") from error
    print(f"ekipl: {folder}: its model is written to {target}", file=sys.stderr)
    return target


def _of_checkpoint(folder: Path) -> VLM:
    """The initial policy of the run with the weights of its checkpoint."""
    from omegaconf import OmegaConf
    from pydantic import TypeAdapter, ValidationError

    from ekipl.engine.lora import add_adapters
    from ekipl.engine.state import WEIGHT, TensorReader, set_weight
    from ekipl.policy.model import load_model

    if fault := checkpoint.damage(folder):
        raise UsageError(f"{folder}: damaged: {fault}; take another checkpoint")
    run = folder.parent.parent
    cfg = load_saved(run / "config.yaml")
    try:
        settings = TypeAdapter(ModelSettings).validate_python(OmegaConf.to_container(cfg.model, resolve=True))
    except ValidationError as error:
        raise UsageError(f"{run / 'config.yaml'}: model: not the settings of a run; give another run") from error
    first = run / "first_stage" / MODEL
    base = str(first) if cfg.get("first_stage") is not None else as_model(settings.path)
    vlm = load_model(base, dtype=settings.dtype, trust_remote_code=settings.trust_remote_code, device="cpu")
    if settings.lora.rank:
        add_adapters(vlm.model, settings.lora, 0)
    stored, parameters = TensorReader(folder, "learning"), dict(vlm.model.named_parameters())
    for name in stored.names(WEIGHT):
        if name not in parameters:
            raise UsageError(f"{folder}: {name}: no weight of {base}, with which its run began; give that model")
        set_weight(parameters[name], stored.read(f"{name}/{WEIGHT}", parameters[name].shape))
    return vlm


def _merged(folder: Path) -> VLM:
    """The base of an adapter with the adapter added."""
    from dataclasses import replace

    from peft import PeftModel
    from transformers import AutoConfig

    from ekipl.policy.model import load_model, resolve_path

    try:
        base = as_model(base_of(folder))
    except (OSError, ValueError) as error:
        raise UsageError(f"export: {folder}: {error}; give an adapter folder that PEFT wrote") from error
    dtype = str(getattr(AutoConfig.from_pretrained(resolve_path(base)), "dtype", None) or "float32")
    vlm = load_model(base, dtype=dtype.removeprefix("torch."), device="cpu")
    try:
        merged = PeftModel.from_pretrained(vlm.model, str(folder)).merge_and_unload()
    except Exception as error:  # peft raises many classes for adapters that do not fit
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"export: {folder}: does not fit its base {base}: {reason}") from error
    return replace(vlm, model=merged)


def _weights(vlm: VLM) -> list[tuple[str, object]]:
    from ekipl.engine.state import whole_tensors

    return [(name, tensor.cpu().clone()) for name, tensor in whole_tensors(vlm.model)]
