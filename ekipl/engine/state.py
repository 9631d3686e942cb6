"""What an uninterrupted run would still have, by parameter: any ZeRO stage and number of processes can go on with it.

Each process writes its share of the whole tensors; no file holds code (safetensors, not pickle).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ekipl.engine.collectives import Processes
from ekipl.engine.sharded import set_weight
from ekipl.errors import UsageError
from ekipl.files import explain_full_disk

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's, by torch's names
WEIGHT = "weight"


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that learn. The others are as they were when the run began."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def write(path: Path, name: str, tensors: Iterable[tuple[str, Tensor]], processes: Processes) -> None:
    """Write whole tensors to ``path/name-RANK.safetensors``, every n-th on each process; all must call it.

    Raises:
        UsageError: on all processes, when the disk of one is full.
    """
    mine = {key: tensor for place, (key, tensor) in enumerate(tensors) if place % processes.size == processes.rank}
    fault = None
    try:
        with explain_full_disk(path.parent.parent):
            save_file(mine, path / f"{name}-{processes.rank}.safetensors")
    except UsageError as error:
        fault = str(error)
    processes.agree(fault)


class Stored:
    """The tensors that ``write`` wrote, read one by one."""

    def __init__(self, path: Path, name: str) -> None:
        """Open the files of all processes that wrote."""
        self._files: list[Any] = [safe_open(file, "pt") for file in sorted(path.glob(f"{name}-*.safetensors"))]
        self._of = {key: file for file in self._files for key in file.keys()}  # noqa: SIM118 - not a mapping
        self._path = path

    def of(self, key: str, shape: torch.Size) -> Tensor:
        """The tensor called ``key``.

        Raises:
            UsageError: there is none, or of another shape: another model wrote the checkpoint.
        """
        found: Tensor | None = self._of[key].get_tensor(key) if key in self._of else None
        if found is None or found.shape != shape:
            stands = "no such tensor" if found is None else f"{tuple(found.shape)}"
            raise UsageError(
                f"hydra.run.dir: {self._path}: of another model or of other trained parts ({key}: {stands}, "
                f"wanted is {tuple(shape)}); go on with the model that wrote it, or give another directory"
            )
        return found


class Learning:
    """Weights in float32 and AdamW's moments, of an engine of any ZeRO stage."""

    def __init__(self, engine: Any, adamw: torch.optim.AdamW, model: nn.Module) -> None:
        """``engine`` is DeepSpeed's around ``model``, ``adamw`` the optimizer that it was given."""
        self.engine, self.adamw, self.model = engine, adamw, model

    def tensors(self, updates: int) -> Iterable[tuple[str, Tensor]]:
        """Copies on the CPU, one after another; all processes must go through them together."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if updates == 0:
            self._begin(0)
        for name, parameter in trained(self.model):
            if self._sharded:
                found = {WEIGHT: safe_get_full_fp32_param(parameter)}
                found |= {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            else:
                found = {WEIGHT: parameter.detach(), **self.adamw.state[parameter]}
            for key in (WEIGHT, *MOMENTS):
                yield f"{name}/{key}", found[key].reshape(shape_of(parameter)).to("cpu", copy=True)

    def restore(self, stored: Stored, updates: int) -> None:
        """Go on after ``updates`` updates from what ``tensors`` gave."""
        self._begin(updates)
        for name, parameter in trained(self.model):
            for key in (WEIGHT, *MOMENTS):
                self._put(parameter, key, stored.of(f"{name}/{key}", shape_of(parameter)))

    @property
    def _sharded(self) -> bool:
        return hasattr(self.engine.optimizer, "optimizer")  # DeepSpeed's own optimizer around ours

    def _begin(self, updates: int) -> None:
        """Empty moments as after ``updates`` updates, which AdamW would make in its first one."""
        zero = self.engine.optimizer
        if not self._sharded:
            flat = [parameter for _, parameter in trained(self.model)]
        else:
            flat = getattr(zero, "fp32_partitioned_groups_flat", None) or zero.single_partition_of_fp32_groups
        for tensor in flat:
            moments = {key: torch.zeros_like(tensor, requires_grad=False) for key in MOMENTS}
            self.adamw.state[tensor] = {"step": torch.tensor(float(updates), device=tensor.device), **moments}
        if hasattr(zero, "_lazy_init_hp_params_optimizer_state"):  # stages 1 and 2: by parameter as well
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
    """Of the whole parameter, sharded or not."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def _own_part(parameter: Any, value: Tensor) -> Tensor:
    """What this process holds of a tensor under ZeRO-3: the last part is filled up with zeros."""
    size, rank = parameter.ds_tensor.numel(), torch.distributed.get_rank()
    part = torch.zeros(size)
    own = value.flatten()[rank * size : (rank + 1) * size]
    part[: own.numel()] = own
    return part
