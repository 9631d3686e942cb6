"""The shared prefix: vision tower and prompt run once per problem, for all its actions, in sampling and in training.

All actions of a problem begin with the same prompt and the same images. A causal language model computes the keys and
values of the prompt from the prompt alone, so they are the same for every action. They are computed once, with gradient
in training, and copied to each action; the gradients of the copies add up in the original. Nothing is approximated: the
log-probabilities and gradients are those of one forward pass per action, which tests/test_prefix.py checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from ekipl.policy.encoding import Prompts
from ekipl.policy.family import built_as

# Logits in one chunk. On a CPU, the largest block that the allocator reuses without new pages from the system (16 MiB
# in float32). On a GPU, enough to hide the time of reading the head's weights once for each chunk.
CHUNK_ELEMENTS_CPU, CHUNK_ELEMENTS_GPU = 2**22, 2**26
KEPT_CHUNKS = 4  # the first chunks keep their logits for the backward pass; it computes those of the others again


@dataclass(frozen=True)
class Prefix:
    """P encoded prompts.

    Attributes:
        cache: keys and values, batch dimension P.
        mask: (P, L), 1 on prompt tokens (padding on the left).
        next_position: (P,) rotary position of the first completion token.
        last_hidden: (P, H) hidden state of the last prompt token, which predicts the first completion token.
    """

    cache: DynamicCache
    mask: Tensor
    next_position: Tensor
    last_hidden: Tensor

    def repeat(self, rows: Tensor) -> Prefix:
        """One entry per action; ``rows`` (A,) is the index of each action's prompt."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(_layers(self.cache)):
            cache.update(keys.index_select(0, rows), values.index_select(0, rows), layer)
        return Prefix(cache, self.mask[rows], self.next_position[rows], self.last_hidden[rows])


def _layers(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


def encode_prefix(model: Any, prompts: Prompts) -> Prefix:
    """Run the vision tower and the prompt once, with gradient where gradients are enabled."""
    backbone = model.model
    positions = built_as(model).positions(
        backbone, prompts.input_ids, prompts.attention_mask, prompts.token_types, prompts.image_grid
    )  # (axes, P, L)
    inputs: dict[str, Any] = {"input_ids": prompts.input_ids, "mm_token_type_ids": prompts.token_types}
    if prompts.pixel_values is not None:
        inputs |= {"pixel_values": prompts.pixel_values, "image_grid_thw": prompts.image_grid}
    output = backbone(
        **inputs, attention_mask=prompts.attention_mask, position_ids=positions, use_cache=True,
        past_key_values=DynamicCache(),
    )  # fmt: skip
    next_position = positions.amax(dim=(0, 2)) + 1  # (P,)
    return Prefix(output.past_key_values, prompts.attention_mask, next_position, output.last_hidden_state[:, -1])


def continue_from(model: Any, prefix: Prefix, tokens: Tensor, mask: Tensor) -> Tensor:
    """Hidden states after ``tokens``, appended to the prefix (whose cache grows).

    Args:
        model: the language model with its head.
        prefix: one entry per action.
        tokens: (A, t) completion tokens.
        mask: (A, t), 1 on real tokens.

    Returns:
        (A, t, H).
    """
    hidden: Tensor = model.model(
        input_ids=tokens,
        attention_mask=torch.cat([prefix.mask, mask], dim=1),
        position_ids=built_as(model).completion_positions(prefix.next_position, tokens.shape[1]),  # (axes, A, t)
        past_key_values=prefix.cache,
        use_cache=True,
    ).last_hidden_state
    return hidden


class ActionLogProbs(nn.Module):
    """log pi(o | s) of each token of each action. It is one module because ZeRO-3 gathers weights per module call.

    Attributes:
        temperature: logits are divided by it, as in sampling.
        suppressed: token ids with probability 0, as in sampling.
    """

    model: Any

    def __init__(self, model: nn.Module, temperature: float, suppressed: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.suppressed = suppressed

    def chunks(self, tokens: int) -> int:
        """Number of chunks in which the logits of this many tokens are computed, to bound memory."""
        vocabulary: int = self.model.config.get_text_config().vocab_size
        size = CHUNK_ELEMENTS_CPU if self.model.device.type == "cpu" else CHUNK_ELEMENTS_GPU
        return -(-tokens * vocabulary // size)

    def forward(self, prompts: Prompts, rows: Tensor, tokens: Tensor, mask: Tensor, chunks: int) -> Tensor:
        """Log-probabilities (A, T), 0 on padding.

        Args:
            prompts: P prompts.
            rows: (A,) the index of each action's prompt.
            tokens: (A, T), padded on the right.
            mask: (A, T).
            chunks: number of chunks of the logits. Under ZeRO-3 it must be the same on every rank: each chunk gathers
                the head's weights.
        """
        prefix = encode_prefix(self.model, prompts).repeat(rows)
        hidden = prefix.last_hidden[:, None]  # (A, 1, H)
        if tokens.shape[1] > 1:
            later = continue_from(self.model, prefix, tokens[:, :-1], mask[:, :-1].long())  # (A, T-1, H)
            hidden = torch.cat([hidden, later], dim=1)  # (A, T, H)
        real = mask.bool()
        logp = self._chosen(hidden[real], tokens[real], chunks)  # (tokens,)
        return torch.zeros_like(mask, dtype=logp.dtype).masked_scatter(real, logp)

    def _chosen(self, hidden: Tensor, tokens: Tensor, chunks: int) -> Tensor:
        """Log-probability of each token. (n, H), (n,) -> (n,)."""
        pieces = list(zip(torch.tensor_split(hidden, chunks), torch.tensor_split(tokens, chunks), strict=True))
        kept = [self._chunk(*piece) for piece in pieces[:KEPT_CHUNKS]]
        again = [checkpoint(self._chunk, *piece, use_reentrant=False) for piece in pieces[KEPT_CHUNKS:]]
        return torch.cat(kept + again)

    def _chunk(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        logits = policy_logits(self.model.lm_head(hidden), self.temperature, self.suppressed)  # (n, V)
        return logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]


def policy_logits(logits: Tensor, temperature: float, suppressed: tuple[int, ...]) -> Tensor:
    """Logits of the policy's distribution: divided by the temperature, minus infinity on suppressed tokens.

    (n, V) in any dtype -> (n, V) in float32, or in float64 if they are. ``logits`` may be overwritten: a copy of the
    largest tensor of the forward pass would cost time and memory.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature not in (0.0, 1.0):
        logits = logits / temperature
    if suppressed:
        logits.index_fill_(-1, torch.tensor(suppressed, device=logits.device), float("-inf"))
    return logits
