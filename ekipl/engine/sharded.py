"""Whole tensors of a model whose parameters ZeRO-3 shards; where they are not sharded, simply the tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ekipl.engine.lora import adapters_of, merged, plain_name


def whole(*parameters: Tensor, change: bool = False) -> AbstractContextManager[Any]:
    """Inside, the parameters are whole on every process; what is changed is taken from process 0."""
    import deepspeed

    sharded = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not sharded:
        return nullcontext()
    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(
        sharded, modifier_rank=0 if change else None
    )
    return gathered


def whole_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by the name that it has without adapters, these added to it; each is whole until the next."""
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
    """Weights of ``source`` into ``target``, a parameter at a time."""
    for ours, theirs in zip(source.parameters(), target.parameters(), strict=True):
        with whole(ours), whole(theirs, change=True), torch.no_grad():
            theirs.copy_(ours)


def set_weight(parameter: Tensor, value: Tensor) -> None:
    """``value`` into ``parameter``, sharded or not; all processes must call it."""
    with whole(parameter, change=True), torch.no_grad():
        parameter.copy_(value)
