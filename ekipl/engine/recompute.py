"""Gradient checkpointing with the shared prefix: layers are computed again in the backward pass.

The gradient checkpointing of transformers switches the cache off, but the shared prefix is that cache. Here each layer
takes the keys and values before it as tensors and returns those after it, so the second computation starts from the
same cache as the first, and gradients flow through keys and values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from ekipl.policy.family import built_as


def recompute_layers(model: Any) -> None:
    """Make the layers of the language model and the vision tower keep only their inputs for the backward pass."""
    family = built_as(model)
    for layer in model.model.get_submodule(family.language_model).layers:
        layer.forward = _with_cache(layer.forward, layer.self_attn.layer_idx)
    for block in model.model.get_submodule(family.vision_layers):
        block.forward = _plain(block.forward)


def _plain(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def recomputed(*args: Any, **kwargs: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        output: Tensor = checkpoint(forward, *args, use_reentrant=False, **kwargs)
        return output

    return recomputed


class _Layer:
    """The cache of one layer for one pass."""

    def __init__(self, keys: Tensor | None, values: Tensor | None) -> None:
        self.keys, self.values = keys, values

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.keys = keys if self.keys is None else torch.cat([self.keys, keys], dim=-2)
        self.values = values if self.values is None else torch.cat([self.values, values], dim=-2)
        return self.keys, self.values

    def tensors(self) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values


def _with_cache(forward: Callable[..., Tensor], number: int) -> Callable[..., Tensor]:
    def recomputed(hidden: Tensor, *args: Any, past_key_values: DynamicCache | None = None, **kwargs: Any) -> Tensor:
        if past_key_values is None or not torch.is_grad_enabled():
            return forward(hidden, *args, past_key_values=past_key_values, **kwargs)
        seen = past_key_values.layers[number] if number < len(past_key_values.layers) else None

        def inside(hidden: Tensor, keys: Tensor | None, values: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
            layer = _Layer(keys, values)
            output = forward(hidden, *args, past_key_values=layer, **kwargs)
            return output, *layer.tensors()

        before = (None, None) if seen is None else (seen.keys, seen.values)
        after: tuple[Tensor, Tensor, Tensor] = checkpoint(inside, hidden, *before, use_reentrant=False)
        output, keys, values = after
        if seen is None:
            past_key_values.update(keys, values, number)
        else:
            seen.keys, seen.values = keys, values
        return output

    return recomputed
