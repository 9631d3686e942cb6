"""Sampling from the policy with transformers: each prompt and its images are encoded once for its n samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ekipl.algorithm.seams import Decoding, Engine
from ekipl.algorithm.types import Action, Problem
from ekipl.policy.decoder import Decoder, shared_attention
from ekipl.policy.encoding import encode_prompts
from ekipl.policy.model import VLM
from ekipl.policy.prefix import encode_prefix, policy_logits
from ekipl.policy.streaming import Text, Told
from ekipl.policy.tokens import policy_action, stream, text_of, with_tokens


class HFSampler:
    """Samples from a transformers model, on CPU or GPU.

    A sample depends on (seed, problem id, sample index) alone, not on the rest of its batch.
    """

    def __init__(self, vlm: VLM, decoding: Decoding, batch_size: int = 128, own_copy: bool = False) -> None:
        """Sample from ``vlm``, ``batch_size`` actions at once.

        ``own_copy`` says that ``vlm`` is a copy of the engine's model: ZeRO-3 shards the engine's weights, and sampling
        needs whole ones.
        """
        self.vlm = vlm
        self.decoding = decoding
        self.batch_size = batch_size
        self.own_copy = own_copy

    def sample(self, problems: Sequence[Problem], n: int, seed: int) -> list[list[Action]]:
        """n actions a problem, in the order of the problems."""
        actions: list[Action] = []
        for some, indices in _chunks(problems, n, self.batch_size):
            actions += self._decode(some, indices, seed)
        return [actions[place * n : (place + 1) * n] for place in range(len(problems))]

    def stream(self, problem: Problem, seed: int, told: Told) -> Action:
        """Sample 0 of the problem; ``told`` gets its text as its tokens are sampled."""
        text = Text(partial(text_of, self.vlm), self.vlm.eos, told)
        [action] = self._decode([problem], range(1), seed, lambda tokens: text.add(int(tokens[0])))
        text.finish(action.text)
        return action

    def encode(self, action: Action) -> Action | str:
        """The action with token ids of the policy, or the reason why the policy cannot learn from it."""
        return with_tokens(self.vlm, action, self.decoding.max_tokens)

    @torch.no_grad()
    def load_weights(self, engine: Engine) -> None:
        """Copy the engine's weights. Without a copy, sampler and engine share the tensors."""
        if self.own_copy:
            ours = dict(self.vlm.model.named_parameters())
            for name, tensor in engine.named_weights():
                ours[name].copy_(tensor)

    @torch.no_grad()
    def _decode(
        self,
        problems: Sequence[Problem],
        indices: range,
        seed: int,
        seen: Callable[[Tensor], None] | None = None,
    ) -> list[Action]:
        """The samples of these indices for each problem: A = problems x samples rows, problem by problem.

        ``seen`` gets the tokens (A,) of each step.
        """
        model, device = self.vlm.model, self.vlm.device
        model.eval()
        pairs = [(problem, index) for problem in problems for index in indices]
        prefix = encode_prefix(model, encode_prompts(self.vlm, problems))
        decoder = Decoder(model, prefix, len(indices), self.decoding.max_tokens)
        noise = _uniforms(pairs, seed, self.decoding.max_tokens).to(device)  # (A, T)
        eos = torch.tensor(sorted(self.vlm.eos), device=device)

        hidden = prefix.last_hidden.repeat_interleave(len(indices), dim=0)  # (A, H)
        alive = torch.ones(len(pairs), dtype=torch.bool, device=device)  # (A,)
        tokens, logps, masks = [], [], []
        with shared_attention(model):
            for step in range(self.decoding.max_tokens):
                logits = policy_logits(model.lm_head(hidden), self.decoding.temperature, self.vlm.suppressed)  # (A, V)
                p = logits.softmax(-1)  # (A, V)
                token = choose(p, self.decoding, noise[:, step])  # (A,)
                tokens.append(token)
                if seen is not None:
                    seen(token)
                logps.append(p.gather(-1, token[:, None])[:, 0].log())
                masks.append(alive)
                alive = alive & ~torch.isin(token, eos)
                if not alive.any() or step + 1 == self.decoding.max_tokens:
                    break
                hidden = decoder(token)  # (A, H); tokens after the end of a row are cut off below
        lengths = torch.stack(masks, dim=1).sum(-1).tolist()
        ids, logprobs = torch.stack(tokens, dim=1).tolist(), torch.stack(logps, dim=1).tolist()
        return [
            policy_action(self.vlm, problem.id, index, ids[row][:length], logprobs[row][:length])
            for row, ((problem, index), length) in enumerate(zip(pairs, lengths, strict=True))
        ]


def choose(p: Tensor, decoding: Decoding, noise: Tensor) -> Tensor:
    """One token a row by inverse transform of the (top-k, top-p restricted) distribution.

    Args:
        p: (A, V) probabilities at the sampling temperature.
        decoding: temperature 0 takes the most probable token.
        noise: (A,) uniform in [0, 1).

    Returns:
        (A,) token ids.
    """
    if decoding.temperature == 0:
        return p.argmax(-1)
    if decoding.top_p >= 1 and decoding.top_k <= 0:
        return _invert(p, noise)
    k = decoding.top_k if decoding.top_k > 0 else p.shape[-1]
    best, order = p.topk(min(k, p.shape[-1]), dim=-1)  # (A, k), descending
    best = best / best.sum(-1, keepdim=True)
    before = best.cumsum(-1) - best  # mass of the more probable tokens
    best = torch.where(before < decoding.top_p, best, torch.zeros_like(best))  # keeps the first token always
    return order.gather(-1, _invert(best, noise)[:, None])[:, 0]


BLOCK = 256


def _invert(p: Tensor, noise: Tensor) -> Tensor:
    """First index whose cumulative mass exceeds noise x total; never one of zero mass. (A, V), (A,) -> (A,).

    It finds the block first, then the index in it: a cumulative sum over the whole vocabulary is slower than a softmax.
    """
    short = -p.shape[-1] % BLOCK
    blocks = (functional.pad(p, (0, short)) if short else p).reshape(len(p), -1, BLOCK)  # (A, blocks, BLOCK)
    ends = blocks.sum(-1).cumsum(-1)  # (A, blocks)
    block, rest = _first_beyond(ends, noise[:, None] * ends[:, -1:])  # (A, 1) both
    inside = blocks.gather(1, block[..., None].expand(-1, -1, BLOCK))[:, 0].cumsum(-1)  # (A, BLOCK)
    place, _ = _first_beyond(inside, rest)
    return (block * BLOCK + place)[:, 0]


def _first_beyond(cumulative: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """First index where ``cumulative`` exceeds the threshold, and the threshold minus the sum before that index.

    (A, k), (A, 1) -> (A, 1), (A, 1).
    """
    total = cumulative[:, -1:]
    below = total.nextafter(torch.zeros_like(total))  # no index exceeds a threshold that rounding made the total
    threshold = torch.minimum(threshold, below)
    index = torch.searchsorted(cumulative, threshold, right=True)
    before = functional.pad(cumulative, (1, 0)).gather(-1, index)
    return index, threshold - before


def _uniforms(pairs: Sequence[tuple[Problem, int]], seed: int, length: int) -> Tensor:
    """Uniform numbers of each action's own stream: (A, length), float32 in [0, 1)."""
    rows = []
    for problem, index in pairs:
        generator = np.random.Generator(np.random.Philox(key=stream(seed, problem, index)))
        rows.append(generator.random(length, np.float32))
    return torch.from_numpy(np.stack(rows))


def _chunks(problems: Sequence[Problem], n: int, size: int) -> Iterator[tuple[Sequence[Problem], range]]:
    """Problems with the indices of samples to draw: at most ``size`` samples, split within a problem if n > size."""
    together = max(1, size // n)
    for start in range(0, len(problems), together):
        for first in range(0, n, size):
            yield problems[start : start + together], range(first, min(n, first + size))
