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

from ekipl.prefix import Prefix

ATTENTION = "ekipl_shared_prompt"


class Decoder:
    """The language model, a token at a time, for n samples of each of P prompts: A = P n rows, prompt by prompt."""

    def __init__(self, model: Any, prefix: Prefix, n: int, length: int) -> None:
        """For at most ``length`` tokens after the prompts of ``prefix``."""
        self._text: Any = model.model.language_model
        layers = tuple((layer.keys, layer.values) for layer in prefix.cache.layers)
        self._prompts = _Prompts(layers, _hiding(prefix.mask, model.dtype))
        self._said = _Said(length)
        first = prefix.next_position.repeat_interleave(n)  # (A,)
        positions = first[:, None] + torch.arange(length, device=first.device)  # (A, T)
        self._rotary = self._text.rotary_emb(prefix.last_hidden, positions.expand(3, -1, -1))  # cosines, sines

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
    config = model.model.language_model.config
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


@dataclass(frozen=True)
class _Prompts:
    """Keys and values by layer, each (P, K, L, width), and what hides padding, (P, 1, 1, L) to be added to scores."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    hiding: Tensor | None


class _Said:
    """Keys and values of what the samples have said, with room for ``length`` tokens: a cache to the layers."""

    def __init__(self, length: int) -> None:
        self.length, self.tokens = length, 0
        self.layers: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """One more token in, (A, K, 1, width); all of them out, (A, K, t, width)."""
        if layer == len(self.layers):
            rows, heads, _, width = keys.shape  # type: ignore[assignment]
            self.layers.append((keys.new_empty(2, rows, heads, self.length, width)).unbind())  # type: ignore[arg-type]
        self.tokens += layer == 0
        for kept, new in zip(self.layers[layer], (keys, values), strict=True):
            kept[:, :, self.tokens - 1] = new[:, :, 0]
        said_keys, said_values = self.layers[layer]
        return said_keys[:, :, : self.tokens], said_values[:, :, : self.tokens]


def _hiding(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Minus infinity on padding, from a mask (P, L); None without any."""
    if bool(mask.all()):
        return None
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask == 0, float("-inf"))[:, None, None]


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
    P, K, L, width = keys.shape
    A, heads = query.shape[:2]
    n, r = A // P, heads // K

    def by_prompt(rows: Tensor) -> Tensor:  # (A, K, r, x) -> (P, K, n r, x)
        return rows.reshape(P, n, K, r, -1).transpose(1, 2).reshape(P, K, n * r, -1)

    def by_row(together: Tensor) -> Tensor:  # and back
        return together.reshape(P, K, n, r, -1).transpose(1, 2).reshape(A, K, r, -1)

    asked = (query * scaling).reshape(A, K, r, width)
    shared = by_prompt(asked) @ keys.transpose(-1, -2)  # (P, K, n r, L)
    if prompts.hiding is not None:
        shared = shared + prompts.hiding
    scores = torch.cat([by_row(shared), asked @ key.transpose(-1, -2)], dim=-1)  # (A, K, r, L + t)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    seen = by_row(by_prompt(weights[..., :L]) @ values) + weights[..., L:] @ value  # (A, K, r, width)
    return seen.reshape(A, 1, heads, width), None


AttentionInterface.register(ATTENTION, _attend)
