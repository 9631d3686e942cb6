"""Whole tensors of a model that ZeRO may shard, and the training state as files.

The state of a run is, for each trained parameter, its weight in float32 and AdamW's two moments; everything else
follows from the settings. DeepSpeed keeps the three in different places: stage 0 in the parameter and in AdamW's state;
stages 1 and 2 in flat float32 buffers, of which each rank holds a part; stage 3 the same, with the parameters sharded
too. Files hold them as whole tensors under the parameter's name, so a run can resume with another stage and world size.
Each rank writes its share of the tensors as safetensors, which hold no code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ekipl.engine.collectives import Processes
from ekipl.engine.lora import adapters_of, merged, plain_name
from ekipl.errors import UsageError
from ekipl.files import explain_full_disk, usual_modes

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's, by torch's names
WEIGHT = "weight"


def whole(*parameters: Tensor, change: bool = False) -> AbstractContextManager[Any]:
    """Inside, the parameters are whole on every rank. With ``change``, rank 0's values are kept afterwards."""
    import deepspeed

    sharded = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not sharded:
        return nullcontext()
    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(
        sharded, modifier_rank=0 if change else None
    )
    return gathered


def whole_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All weights by their names without adapters, the adapters added to them. Each is whole until the next."""
    layers = adapters_of(module)
    for name, parameter in module.named_parameters():
        plain, layer = plain_name(name, layers)
        if plain is None:
            continue
        if layer is None:
            with whole(parameter):
                yield plain, parameter.detach()
        else:
            with whole(*layer.parameters()):
                yield plain, merged(layer)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights of ``source`` to ``target``, one parameter at a time."""
    for ours, theirs in zip(source.parameters(), target.parameters(), strict=True):
        with whole(ours), whole(theirs, change=True), torch.no_grad():
            theirs.copy_(ours)


def set_weight(parameter: Tensor, value: Tensor) -> None:
    """Copy ``value`` to ``parameter``, sharded or not; all ranks must call this."""
    with whole(parameter, change=True), torch.no_grad():
        parameter.copy_(value)


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that are trained. The others never change."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def write(path: Path, name: str, tensors: Iterable[tuple[str, Tensor]], processes: Processes) -> None:
    """Write tensors to ``path/name-RANK.safetensors``, every n-th on each of n ranks; all must call this.

    Raises:
        UsageError: on all ranks, when the disk of one is full.
    """
    mine = dict(islice(tensors, processes.rank, None, processes.world_size))  # exhausts the collective iterator
    error = None
    try:
        with explain_full_disk(path.parent.parent):
            save_file(mine, file := path / f"{name}-{processes.rank}.safetensors")
            usual_modes(file)
    except UsageError as full:
        error = str(full)
    processes.agree(error)


class TensorReader:
    """Reads the tensors of ``write`` one by one."""

    def __init__(self, path: Path, name: str) -> None:
        """Open the files of all ranks."""
        self._files: list[Any] = [safe_open(file, "pt") for file in sorted(path.glob(f"{name}-*.safetensors"))]
        self._of = {key: file for file in self._files for key in file.keys()}  # noqa: SIM118 - not a mapping
        self._path = path

    def names(self, kind: str) -> list[str]:
        """Names of the parameters that have a tensor of this kind."""
        return [key.removesuffix(f"/{kind}") for key in self._of if key.endswith(f"/{kind}")]

    def read(self, key: str, shape: torch.Size) -> Tensor:
        """The tensor called ``key``.

        Raises:
            UsageError: there is none, or it has another shape: another model wrote the checkpoint.
        """
        found: Tensor | None = self._of[key].get_tensor(key) if key in self._of else None
        if found is None or found.shape != shape:
            stands = "no such tensor" if found is None else f"{tuple(found.shape)}"
            raise UsageError(
                f"hydra.run.dir: {self._path}: of another model or of other trained parts ({key}: {stands}, "
                f"wanted is {tuple(shape)}); go on with the model that wrote it, or give another directory"
            )
        return found


class OptimizerState:
    """Weights in float32 and AdamW's moments, under any ZeRO stage."""

    def __init__(self, engine: Any, adamw: torch.optim.AdamW, model: nn.Module) -> None:
        """``engine`` is DeepSpeed's around ``model``, ``adamw`` the optimizer inside it."""
        self.engine, self.adamw, self.model = engine, adamw, model

    def tensors(self, updates: int) -> Iterable[tuple[str, Tensor]]:
        """Copies on the CPU, one after another; all ranks must iterate together."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if updates == 0:
            self._make_moments(0)
        for name, parameter in trained(self.model):
            if self._sharded:
                found = {WEIGHT: safe_get_full_fp32_param(parameter)}
                found |= {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            else:
                found = {WEIGHT: parameter.detach(), **self.adamw.state[parameter]}
            for key in (WEIGHT, *MOMENTS):
                yield f"{name}/{key}", found[key].reshape(shape_of(parameter)).to("cpu", copy=True)

    def restore(self, stored: TensorReader, updates: int) -> None:
        """Set the state after ``updates`` updates from the tensors of ``tensors``."""
        self._make_moments(updates)
        for name, parameter in trained(self.model):
            for key in (WEIGHT, *MOMENTS):
                self._put(parameter, key, stored.read(f"{name}/{key}", shape_of(parameter)))

    @property
    def _sharded(self) -> bool:
        return hasattr(self.engine.optimizer, "optimizer")  # DeepSpeed's ZeRO optimizer, around AdamW

    def _make_moments(self, updates: int) -> None:
        """Zero moments after ``updates`` updates. AdamW itself makes them in its first step."""
        zero = self.engine.optimizer
        if not self._sharded:
            flat = [parameter for _, parameter in trained(self.model)]
        else:
            flat = getattr(zero, "fp32_partitioned_groups_flat", None) or zero.single_partition_of_fp32_groups
        for tensor in flat:
            moments = {key: torch.zeros_like(tensor, requires_grad=False) for key in MOMENTS}
            self.adamw.state[tensor] = {"step": torch.tensor(float(updates), device=tensor.device), **moments}
        if hasattr(zero, "_lazy_init_hp_params_optimizer_state"):  # stages 1 and 2 also map them to parameters
            zero._lazy_init_hp_params_optimizer_state()

    def _put(self, parameter: Any, key: str, value: Tensor) -> None:
        from deepspeed.utils import (
            safe_set_full_fp32_param,
            safe_set_full_optimizer_state,
            safe_set_local_fp32_param,
            safe_set_local_optimizer_state,
        )

        if key == WEIGHT:
            set_weight(parameter, value)
        if not self._sharded:
            if key != WEIGHT:
                self.adamw.state[parameter][key].copy_(value)
        elif hasattr(parameter, "ds_id"):
            part = _own_part(parameter, value)
            if key == WEIGHT:
                safe_set_local_fp32_param(parameter, part)
            else:
                safe_set_local_optimizer_state(parameter, part, key)
        elif key == WEIGHT:
            safe_set_full_fp32_param(parameter, value)
        else:
            safe_set_full_optimizer_state(parameter, value, key)


def shape_of(parameter: Any) -> torch.Size:
    """The shape of the whole parameter, sharded or not."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def _own_part(parameter: Any, value: Tensor) -> Tensor:
    """This rank's part of a tensor under ZeRO-3; the last part is padded with zeros."""
    size, rank = parameter.ds_tensor.numel(), torch.distributed.get_rank()
    part = torch.zeros(size)
    own = value.flatten()[rank * size : (rank + 1) * size]
    part[: own.numel()] = own
    return part
