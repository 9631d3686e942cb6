"""One token after another over shared prompts: all samples of a problem read its keys and values where they are.

``Prefix.repeat`` gives every action a copy of its prompt, which the kernels of learning want. Here each sample asks
with one token at a time, and copying would be most of the work and, for large models, most of the memory.
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
    """The language model, a token at a time, for n samples of each of P prompts: A = P n rows, prompt by prompt."""

    def __init__(self, model: Any, prefix: Prefix, n: int, length: int) -> None:
        """For at most ``length`` tokens after the prompts of ``prefix``."""
        family = built_as(model)
        self._text: Any = model.model.get_submodule(family.language_model)
        layers = tuple((layer.keys.flatten(0, 1), layer.values.flatten(0, 1)) for layer in prefix.cache.layers)
        self._prompts = _Prompts(n, layers, _hiding(prefix, model.dtype))
        self._said = _Said(length)
        positions = family.completion_positions(prefix.next_position.repeat_interleave(n), length)  # (axes, A, T)
        self._rotary = self._text.rotary_emb(prefix.last_hidden, positions)  # cosines, sines

    def __call__(self, tokens: Tensor) -> Tensor:
        """Hidden states (A, H) after one more token of each row, (A,). Only inside ``shared_attention``."""
        now = slice(self._said.tokens, self._said.tokens + 1)
        rotary = tuple(part[..., now, :] for part in self._rotary)
        hidden = self._text.embed_tokens(tokens[:, None])  # (A, 1, H)
        for layer in self._text.layers:
            hidden = layer(
                hidden, position_embeddings=rotary, past_key_values=self._said, use_cache=True, prompts=self._prompts
            )
        normed: Tensor = self._text.norm(hidden)
        return normed[:, 0]


@contextmanager
def shared_attention(model: Any) -> Iterator[None]:
    """Inside, the language model attends as a ``Decoder`` needs it."""
    config = model.model.get_submodule(built_as(model).language_model).config
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


@dataclass(frozen=True)
class _Prompts:
    """For n samples each: keys and values by layer, (P K, L, width), and what hides padding in scores, (P K, 1, L)."""

    n: int
    layers: tuple[tuple[Tensor, Tensor], ...]
    hiding: Tensor


class _Said:
    """Keys and values of what the samples have said, with room for ``length`` tokens: a cache to the layers."""

    def __init__(self, length: int) -> None:
        self.length, self.tokens = length, 0
        self.layers: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """One more token in, (A, K, 1, width); all of them out, (A, K, t, width)."""
        if layer == len(self.layers):
            room = (*keys.shape[:2], self.length, keys.shape[3])
            self.layers.append((keys.new_empty(room), values.new_empty(room)))
        self.tokens += layer == 0
        for kept, new in zip(self.layers[layer], (keys, values), strict=True):
            kept[:, :, self.tokens - 1] = new[:, :, 0]
        said_keys, said_values = self.layers[layer]
        return said_keys[:, :, : self.tokens], said_values[:, :, : self.tokens]


def _hiding(prefix: Prefix, dtype: torch.dtype) -> Tensor:
    """0 on a prompt's tokens, minus infinity on padding, for each of the K key heads: (P K, 1, L)."""
    hiding = torch.zeros(prefix.mask.shape, dtype=dtype, device=prefix.mask.device)  # (P, L)
    hiding.masked_fill_(prefix.mask == 0, float("-inf"))
    return hiding.repeat_interleave(prefix.cache.layers[0].keys.shape[1], dim=0)[:, None]


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: None, *, scaling: float, prompts: _Prompts, **_: Any
) -> tuple[Tensor, None]:
    """Attention of one token a row to its prompt and to what the row has said: one softmax over both.

    Args:
        module: the layer's attention.
        query: (A, K r, 1, width): r query heads for each of the K key heads.
        key: (A, K, t, width).
        value: (A, K, t, width).
        mask: None; what a row says after its end is cut off later.
        scaling: of the scores.
        prompts: whose L tokens come first.

    Returns:
        (A, 1, K r, width), and no weights.
    """
    keys, values = prompts.layers[module.layer_idx]
    A, heads, width, K, n = len(query), query.shape[1], query.shape[3], key.shape[1], prompts.n
    P, r = A // n, heads // K

    def by_prompt(rows: Tensor) -> Tensor:  # (A K, r, x) -> (P K, n r, x)
        return rows.reshape(P, n, K, r, -1).transpose(1, 2).reshape(P * K, n * r, -1)

    def by_row(together: Tensor) -> Tensor:  # and back
        return together.reshape(P, K, n, r, -1).transpose(1, 2).reshape(A * K, r, -1)

    asked, said, answers = query.reshape(A * K, r, width), key.flatten(0, 1), value.flatten(0, 1)
    shared = torch.baddbmm(prompts.hiding, by_prompt(asked), keys.mT, alpha=scaling)  # (P K, n r, L)
    own = torch.baddbmm(asked.new_zeros(1), asked, said.mT, beta=0, alpha=scaling)  # (A K, r, t)
    wide = torch.promote_types(query.dtype, torch.float32)
    weights = torch.cat([by_row(shared), own], dim=-1).softmax(-1, dtype=wide).to(query.dtype)
    of_prompt, of_said = weights[..., : keys.shape[1]], weights[..., keys.shape[1] :]
    seen = torch.baddbmm(by_row(by_prompt(of_prompt).bmm(values)), of_said, answers)  # (A K, r, width)
    return seen.reshape(A, 1, heads, width), None


AttentionInterface.register(ATTENTION, _attend)
