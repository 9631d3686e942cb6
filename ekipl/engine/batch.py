"""Groups as tensors, in the same number of micro-batches on every rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from ekipl.algorithm.loss import token_weights
from ekipl.algorithm.objective import Objective
from ekipl.algorithm.types import POLICY, Action, Group, Problem
from ekipl.engine.settings import EngineSettings
from ekipl.policy.encoding import Prompts, encode_prompts
from ekipl.policy.model import VLM

# Dummy group with loss weight 0. Under ZeRO-3 every rank must run the same forward passes, so a rank with fewer micro-
# batches runs this one. It has an image because the vision tower is sharded too.
IDLE = Group(
    Problem("idle", "idle", "idle", (Image.new("RGB", (64, 64)),), "idle", "idle", "", "number"),
    (Action("idle", POLICY, 0, "", "stop", tokens=(0,)),),
    (0,),
    (0.0,),
)


@dataclass(frozen=True)
class MicroBatch:
    """The kept actions of some problems as tensors: P prompts, A actions, T tokens.

    Attributes:
        prompts: P prompts.
        rows: (A,) the index of each action's prompt.
        tokens: (A, T), padded on the right.
        mask: (A, T) float, 1 on tokens.
        advantages: (A,).
        external: (A,) bool.
        weights: (A, T) weight of each token in the loss of the batch of all ranks; 0 on padding and on ``IDLE``.
        sampled: (A, T) log-probability that the sampler reported; NaN on external tokens and padding.
        chunks: number of chunks of the logits, the same on every rank.
        old: (A, T) log pi_old; None when mu is 1, because the only update is made at pi_old itself.
        ref: (A, T) log pi_ref; None when beta is 0.
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


def split(
    settings: EngineSettings, groups: Sequence[Group], prompt_length: Callable[[Problem], int]
) -> list[list[Group]]:
    """A rank's groups in micro-batches, whose gradients add up to one update; the actions of a group may be split.

    Args:
        settings: its limits ``micro_batch``, ``micro_batch_tokens`` and ``accumulation``.
        groups: each with kept actions; their order stays.
        prompt_length: tokens of a problem's prompt.
    """
    problems = len({id(group.problem) for group in groups})  # a small data set may repeat a problem in a batch
    most = min(settings.micro_batch, -(-problems // settings.accumulation))
    limit = settings.micro_batch_tokens
    pieces: list[list[Group]] = []
    for group in groups:
        for part in _parts(limit, group, prompt_length):
            joined = [*pieces[-1], part] if pieces else [part]
            distinct = len({id(g.problem) for g in joined})
            if pieces and distinct <= most and _fits(limit, joined, prompt_length):
                pieces[-1] = joined
            else:
                pieces.append([part])
    return pieces


def _parts(limit: int | None, group: Group, prompt_length: Callable[[Problem], int]) -> Iterator[Group]:
    """The group, its actions split if together they exceed the limit of tokens."""
    size = len(group.kept)
    if limit is not None:
        longest = max(2, *(len(ids(action)) for action in group.actions))
        size = min(size, max(1, (limit - prompt_length(group.problem)) // longest))
    for start in range(0, len(group.kept), size):
        part = slice(start, start + size)
        yield replace(group, kept=group.kept[part], advantages=group.advantages[part])


def _fits(limit: int | None, groups: Sequence[Group], prompt_length: Callable[[Problem], int]) -> bool:
    """Whether prompts and actions, padded to the longest of each, are within the limit of tokens."""
    if limit is None:
        return True
    actions = [action for group in groups for action in group.actions]
    prompts = len(groups) * max(prompt_length(group.problem) for group in groups)
    return prompts + len(actions) * max(2, *(len(ids(action)) for action in actions)) <= limit


def micro_batches(
    vlm: VLM, objective: Objective, pieces: Sequence[Sequence[Group]], actions: float, tokens: float, count: int
) -> list[MicroBatch]:
    """``count`` micro-batches of this rank's pieces, the last ones ``IDLE`` if there are fewer pieces.

    ``actions`` and ``tokens`` are those of the kept actions on all ranks; no rank has more pieces than ``count``.
    """
    idle: list[list[Group]] = [[]] * (count - len(pieces))
    return [_tensors(vlm, objective, part, actions, tokens) for part in [*pieces, *idle]]


def _tensors(vlm: VLM, objective: Objective, groups: Sequence[Group], actions: float, tokens: float) -> MicroBatch:
    with_images = any(group.problem.images for group in groups)
    present = [*groups] if with_images else [*groups, IDLE]
    kept = [(row, action) for row, group in enumerate(present) for action in group.actions]
    lengths = [len(ids(action)) for _, action in kept]
    longest, device = max(2, *lengths), vlm.device  # at least 2, so that every rank runs the pass over later tokens
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
        weights=token_weights(objective, counted, actions, tokens).to(device),
        sampled=torch.tensor([_sampled(action, longest) for _, action in kept], device=device),
    )


def _sampled(action: Action, length: int) -> list[float]:
    """The log-probabilities that the action's sampler reported, padded with NaN to ``length``."""
    known = (action.logprobs if action.source == POLICY else None) or ()
    return [*known, *[math.nan] * (length - len(known))]


def with_likelihoods(groups: Sequence[Group], logprobs: Iterator[tuple[float, ...]]) -> list[Group]:
    """The groups, their external candidates with the next of ``logprobs`` each."""

    def of(action: Action) -> Action:
        return action if action.source == POLICY else replace(action, logprobs=next(logprobs))

    return [replace(group, offered=tuple(of(action) for action in group.offered)) for group in groups]


def ids(action: Action) -> tuple[int, ...]:
    """The action's token ids. Raises ValueError when it has not been encoded."""
    if action.tokens is None:
        raise ValueError(f"action {action.index} of {action.source} for {action.problem_id} has not been encoded")
    return action.tokens
