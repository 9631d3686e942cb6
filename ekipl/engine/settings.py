"""The settings of the engine (``engine=``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ekipl.algorithm.ranges import Count, NotNegative, Positive, Whole


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How the policy learns: AdamW, its schedule, and how memory is traded for time, which changes no result.

    Attributes:
        zero_stage: DeepSpeed ZeRO: 0 replicates everything; 2 shards optimizer state and gradients over the ranks; 3
            shards the parameters as well.
        num_nodes: machines (docs/distributed.md).
        num_processes: ranks on each machine, one for each GPU; on a CPU they communicate over gloo.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        schedule: ``constant``, or ``linear`` or ``cosine`` decay to 0 over all updates.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        max_grad_norm: the global gradient norm is clipped to this.
        micro_batch: problems in one forward and backward pass of a rank, at most.
        micro_batch_tokens: tokens in a pass, padding included, at most; the actions of one problem may be spread over
            several passes, a prompt with one action is never cut; null: no limit.
        accumulation: passes that an update is spread over: each takes at most this part of the rank's problems,
            rounded up (7 problems in 4 passes: 2, 2, 2, 1).
        gradient_checkpointing: whether layers keep only their inputs and compute the rest again in the backward pass.
        offload_optimizer: whether AdamW's state and step are on the CPU; from ZeRO-2 on.
        offload_parameters: whether parameters wait on the CPU for their turn; ZeRO-3.
    """

    zero_stage: Literal[0, 2, 3] = 0
    num_nodes: Count = 1
    num_processes: Count = 1
    learning_rate: NotNegative
    weight_decay: NotNegative = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: Whole = 0
    max_grad_norm: Positive = 1.0
    micro_batch: Count = 4
    micro_batch_tokens: Count | None = None
    accumulation: Count = 1
    gradient_checkpointing: bool = False
    offload_optimizer: bool = False
    offload_parameters: bool = False

    @property
    def world_size(self) -> int:
        """Ranks on all machines."""
        return self.num_nodes * self.num_processes

    def rate(self, update: int, total: int, mu: int = 1) -> float:
        """Learning rate of an update.

        Args:
            update: from 0.
            total: updates of the whole run, the length of the decay.
            mu: updates a step.
        """
        warmup = self.warmup_steps * mu
        if update < warmup:
            return self.learning_rate * ((update + 1) / warmup)
        if self.schedule == "constant":
            return self.learning_rate
        left = max(0.0, (total - update) / max(1, total - warmup))
        return self.learning_rate * (left if self.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))
