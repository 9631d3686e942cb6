"""Groups -> tensors, in micro-batches that every process has equally many of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from ekipl.algorithm.loss import Objective
from ekipl.algorithm.types import POLICY, Action, Group, Problem
from ekipl.policy.encoding import Prompts, encode_prompts
from ekipl.policy.model import VLM

# Stands in where a process has nothing to do while others have: with an image, so that the vision tower, whose shards
# the others wait for, runs as well. Its weight in the loss is 0.
IDLE = Group(
    Problem("idle", "idle", "idle", (Image.new("RGB", (64, 64)),), "idle", "idle", "", "number"),
    (Action("idle", POLICY, 0, "", "stop", tokens=(0,)),),
    (0,),
    (0.0,),
)


@dataclass(frozen=True)
class MicroBatch:
    """Some problems' kept actions as tensors: P prompts, A actions, T tokens.

    Attributes:
        prompts: P prompts.
        rows: (A,) the prompt of each action.
        tokens: (A, T), padded on the right.
        mask: (A, T) float, 1 on tokens.
        advantages: (A,).
        external: (A,) bool.
        weights: (A, T) weight of each token in the batch's loss, over all processes; 0 on what only stands in.
        sampled: (A, T) log-probability that the sampler reported; NaN on external tokens and padding.
        chunks: of the logits, the same on every process.
        old: (A, T) log pi_old; None: the first update is made at pi_old itself.
        ref: (A, T) log pi_ref; None without KL.
    """

    prompts: Prompts
    rows: Tensor
    tokens: Tensor
    mask: Tensor
    advantages: Tensor
    external: Tensor
    weights: Tensor
    sampled: Tensor
    chunks: int = 1
    old: Tensor | None = None
    ref: Tensor | None = None


@dataclass(frozen=True)
class Cut:
    """How a process's share of a batch is cut into micro-batches, whose gradients are summed up to one update.

    Attributes:
        problems: in a micro-batch, at most.
        tokens: in a micro-batch, at most, padding included; the actions of one problem may be spread over several. A
            prompt with one action is never cut. None: no limit.
        accumulation: a micro-batch holds at most this part of the problems, rounded up (7 in 4 parts: 2, 2, 2, 1).
    """

    problems: int = 4
    tokens: int | None = None
    accumulation: int = 1

    def pieces(self, groups: Sequence[Group], prompt_length: Callable[[Problem], int]) -> list[list[Group]]:
        """The groups in their order, in micro-batches; the actions of a group may be parted."""
        problems = len({id(group.problem) for group in groups})  # a small data set may give one of them twice
        most = min(self.problems, -(-problems // self.accumulation))
        pieces: list[list[Group]] = []
        for group in groups:
            for part in self._parts(group, prompt_length):
                joined = [*pieces[-1], part] if pieces else [part]
                distinct = len({id(g.problem) for g in joined})
                if pieces and distinct <= most and self._fits(joined, prompt_length):
                    pieces[-1] = joined
                else:
                    pieces.append([part])
        return pieces

    def _parts(self, group: Group, prompt_length: Callable[[Problem], int]) -> Iterator[Group]:
        """The group, its actions parted where together they exceed the limit."""
        size = len(group.kept)
        if self.tokens is not None:
            longest = max(2, *(len(ids(action)) for action in group.actions))
            size = min(size, max(1, (self.tokens - prompt_length(group.problem)) // longest))
        for start in range(0, len(group.kept), size):
            part = slice(start, start + size)
            yield replace(group, kept=group.kept[part], advantages=group.advantages[part])

    def _fits(self, groups: Sequence[Group], prompt_length: Callable[[Problem], int]) -> bool:
        if self.tokens is None:
            return True
        actions = [action for group in groups for action in group.actions]
        prompts = len(groups) * max(prompt_length(group.problem) for group in groups)
        return prompts + len(actions) * max(2, *(len(ids(action)) for action in actions)) <= self.tokens


def micro_batches(
    vlm: VLM, objective: Objective, pieces: Sequence[Sequence[Group]], actions: float, tokens: float, count: int
) -> list[MicroBatch]:
    """``count`` micro-batches; the last ones stand idle where there are fewer pieces.

    Args:
        vlm: encodes.
        objective: weighs the tokens.
        pieces: of this process's groups, each with kept actions.
        actions: in the whole batch, over all processes.
        tokens: of those actions.
        count: micro-batches of the process that has most.
    """
    idle: list[list[Group]] = [[]] * (count - len(pieces))
    return [_tensors(vlm, objective, part, actions, tokens) for part in [*pieces, *idle]]


def _tensors(vlm: VLM, objective: Objective, groups: Sequence[Group], actions: float, tokens: float) -> MicroBatch:
    with_images = any(group.problem.images for group in groups)
    present = [*groups] if with_images else [*groups, IDLE]
    kept = [(row, action) for row, group in enumerate(present) for action in group.actions]
    lengths = [len(ids(action)) for _, action in kept]
    longest, device = max(2, *lengths), vlm.device  # every process makes the forward pass over a second token
    padded = [[*ids(action), *[0] * (longest - length)] for (_, action), length in zip(kept, lengths, strict=True)]
    real = [action.problem_id != IDLE.problem.id for _, action in kept]
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).float()  # (A, T)
    counted = mask * torch.tensor(real)[:, None]  # (A, T)
    return MicroBatch(
        prompts=encode_prompts(vlm, [group.problem for group in present]),
        rows=torch.tensor([row for row, _ in kept], device=device),
        tokens=torch.tensor(padded, device=device),
        mask=mask.to(device),
        advantages=torch.tensor([a for group in present for a in group.advantages], device=device),
        external=torch.tensor([action.source != POLICY for _, action in kept], device=device),
        weights=objective.token_weights(counted, actions, tokens).to(device),
        sampled=torch.tensor([_sampled(action, longest) for _, action in kept], device=device),
    )


def _sampled(action: Action, length: int) -> list[float]:
    """The action's log-probabilities as its source reported them, NaN to fill ``length``."""
    known = action.logprobs or ()
    return [*known, *[math.nan] * (length - len(known))]


def ids(action: Action) -> tuple[int, ...]:
    """The action's token ids. Raises ValueError when it has not been encoded."""
    if action.tokens is None:
        raise ValueError(f"action {action.index} of {action.source} for {action.problem_id} has not been encoded")
    return action.tokens
