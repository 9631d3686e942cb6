"""Groups -> tensors, in micro-batches that every process has equally many of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ekipl.actions import POLICY, Action, Group, Problem
from ekipl.grpo import Objective
from ekipl.models import VLM, Prompts, encode_prompts

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
    chunks: int = 1
    old: Tensor | None = None
    ref: Tensor | None = None


def micro_batches(
    vlm: VLM, objective: Objective, groups: Sequence[Group], actions: float, tokens: float, size: int, count: int
) -> list[MicroBatch]:
    """``count`` micro-batches of at most ``size`` problems; the last ones stand idle where the groups do not suffice.

    Args:
        vlm: encodes.
        objective: weighs the tokens.
        groups: of this process, each with kept actions.
        actions: in the whole batch, over all processes.
        tokens: of those actions.
        size: problems in a micro-batch.
        count: micro-batches of the process that has most.
    """
    cut = [list(groups[start : start + size]) for start in range(0, len(groups), size)]
    return [_tensors(vlm, objective, part, actions, tokens) for part in cut + [[]] * (count - len(cut))]


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
    )


def ids(action: Action) -> tuple[int, ...]:
    """The action's token ids. Raises ValueError when it has not been encoded."""
    if action.tokens is None:
        raise ValueError(f"action {action.index} of {action.source} for {action.problem_id} has not been encoded")
    return action.tokens
