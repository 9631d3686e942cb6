"""Decoding over shared prompts: all samples of a problem attend to one copy of its keys and values.

In training, ``Prefix.repeat`` copies the prompt's keys and values to each action, because the attention kernels want
one sequence per row. In decoding, each sample has one query at a time, and those copies would be most of the work and,
for large models, most of the memory. So the queries of a problem's n samples are stacked: one matrix product gives
their scores against the shared prompt, another their scores against the tokens that each has generated itself. One
softmax over both parts makes the result exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from ekipl.policy.family import built_as
from ekipl.policy.prefix import Prefix

ATTENTION = "ekipl_shared_prompt"


class Decoder:
    """One step of the language model for n samples of each of P prompts: A = P n rows, prompt by prompt."""

    def __init__(self, model: Any, prefix: Prefix, n: int, length: int) -> None:
        """Decode at most ``length`` tokens after the prompts of ``prefix``."""
        family = built_as(model)
        self._text: Any = model.model.get_submodule(family.language_model)
        layers = tuple((layer.keys.flatten(0, 1), layer.values.flatten(0, 1)) for layer in prefix.cache.layers)
        self._prompts = _Prompts(n, layers, _padding_mask(prefix, model.dtype))
        self._generated = _Generated(length)
        positions = family.completion_positions(prefix.next_position.repeat_interleave(n), length)  # (axes, A, T)
        self._rotary = self._text.rotary_emb(prefix.last_hidden, positions)  # cosines, sines

    def __call__(self, tokens: Tensor) -> Tensor:
        """Hidden states (A, H) after one more token of each row, (A,). Only inside ``shared_attention``."""
        now = slice(self._generated.tokens, self._generated.tokens + 1)
        rotary = tuple(part[..., now, :] for part in self._rotary)
        hidden = self._text.embed_tokens(tokens[:, None])  # (A, 1, H)
        for layer in self._text.layers:
            hidden = layer(
                hidden,
                position_embeddings=rotary,
                past_key_values=self._generated,
                use_cache=True,
                prompts=self._prompts,
            )
        normed: Tensor = self._text.norm(hidden)
        return normed[:, 0]


@contextmanager
def shared_attention(model: Any) -> Iterator[None]:
    """Inside, the language model uses the attention of ``Decoder``."""
    config = model.model.get_submodule(built_as(model).language_model).config
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


@dataclass(frozen=True)
class _Prompts:
    """Prompts with n samples each: keys and values by layer, (P K, L, width), and the mask of padding, (P K, 1, L)."""

    n: int
    layers: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor


class _Generated:
    """Keys and values of the generated tokens, at most ``length``. The layers use it as their cache."""

    def __init__(self, length: int) -> None:
        self.length, self.tokens = length, 0
        self.layers: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append one token, (A, K, 1, width); returns all of them, (A, K, t, width)."""
        if layer == len(self.layers):
            shape = (*keys.shape[:2], self.length, keys.shape[3])
            self.layers.append((keys.new_empty(shape), values.new_empty(shape)))
        self.tokens += layer == 0
        for kept, new in zip(self.layers[layer], (keys, values), strict=True):
            kept[:, :, self.tokens - 1] = new[:, :, 0]
        all_keys, all_values = self.layers[layer]
        return all_keys[:, :, : self.tokens], all_values[:, :, : self.tokens]


def _padding_mask(prefix: Prefix, dtype: torch.dtype) -> Tensor:
    """0 on a prompt's tokens, minus infinity on padding, for each of the K key heads: (P K, 1, L)."""
    mask = torch.zeros(prefix.mask.shape, dtype=dtype, device=prefix.mask.device)  # (P, L)
    mask.masked_fill_(prefix.mask == 0, float("-inf"))
    return mask.repeat_interleave(prefix.cache.layers[0].keys.shape[1], dim=0)[:, None]


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: None, *, scaling: float, prompts: _Prompts, **_: Any
) -> tuple[Tensor, None]:
    """Attention of one query a row to its prompt and to the tokens that the row has generated.

    Args:
        module: the layer's attention.
        query: (A, K r, 1, width): r query heads for each of the K key heads.
        key: (A, K, t, width).
        value: (A, K, t, width).
        mask: None: all rows are equally long, and tokens after a row's end are cut off later.
        scaling: factor of the scores.
        prompts: the shared part, L tokens.

    Returns:
        (A, 1, K r, width), and None for the attention weights.
    """
    keys, values = prompts.layers[module.layer_idx]
    A, heads, width, K, n = len(query), query.shape[1], query.shape[3], key.shape[1], prompts.n
    P, r = A // n, heads // K

    def by_prompt(rows: Tensor) -> Tensor:  # (A K, r, x) -> (P K, n r, x)
        return rows.reshape(P, n, K, r, -1).transpose(1, 2).reshape(P * K, n * r, -1)

    def by_row(together: Tensor) -> Tensor:  # and back
        return together.reshape(P, K, n, r, -1).transpose(1, 2).reshape(A * K, r, -1)

    queries, own_keys, own_values = query.reshape(A * K, r, width), key.flatten(0, 1), value.flatten(0, 1)
    shared = torch.baddbmm(prompts.mask, by_prompt(queries), keys.mT, alpha=scaling)  # (P K, n r, L)
    own = torch.baddbmm(queries.new_zeros(1), queries, own_keys.mT, beta=0, alpha=scaling)  # (A K, r, t)
    wide = torch.promote_types(query.dtype, torch.float32)
    weights = torch.cat([by_row(shared), own], dim=-1).softmax(-1, dtype=wide).to(query.dtype)
    shared_weights, own_weights = weights[..., : keys.shape[1]], weights[..., keys.shape[1] :]
    output = torch.baddbmm(by_row(by_prompt(shared_weights).bmm(values)), own_weights, own_values)  # (A K, r, width)
    return output.reshape(A, 1, heads, width), None


AttentionInterface.register(ATTENTION, _attend)
