"""The engine: GRPO updates with DeepSpeed, on CPU (gloo) or GPU (NCCL), ZeRO stage 0, 2 or 3, one process or many."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ekipl.algorithm.loss import Loss, loss
from ekipl.algorithm.objective import Objective
from ekipl.algorithm.types import POLICY, Group, Problem
from ekipl.engine.batch import Cut, MicroBatch, ids, micro_batches
from ekipl.engine.collectives import Processes, join
from ekipl.engine.lora import Lora, add_adapters, without_adapters
from ekipl.engine.recompute import recompute_layers
from ekipl.engine.state import (
    OptimizerState,
    TensorReader,
    copy_weights,
    set_weight,
    shape_of,
    whole_tensors,
    write,
)
from ekipl.policy.encoding import encode_prompt
from ekipl.policy.model import VLM
from ekipl.policy.prefix import ActionLogProbs

LEARNING, REFERENCE = "learning", "reference"  # files of a state
UPDATES = "updates.json"


@dataclass(frozen=True)
class Optimizer:
    """AdamW and its schedule.

    Attributes:
        total_updates: length of the ``linear`` or ``cosine`` decay to 0.
        warmup_updates: linear rise from 0 in front of any schedule.
        max_grad_norm: the global gradient norm is clipped to this; 0 is off.
    """

    learning_rate: float
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_updates: int = 0
    total_updates: int = 1
    max_grad_norm: float = 1.0

    def factor(self, update: int) -> float:
        """Learning rate of an update (from 0), relative to ``learning_rate``."""
        if update < self.warmup_updates:
            return (update + 1) / self.warmup_updates
        if self.schedule == "constant":
            return 1.0
        left = max(0.0, (self.total_updates - update) / max(1, self.total_updates - self.warmup_updates))
        return left if self.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))


@dataclass(frozen=True)
class Memory:
    """What trades time for memory; none of it changes what is computed.

    Attributes:
        zero_stage: 0 replicates; 2 shards optimizer and gradients over the processes; 3 the parameters as well.
        offload_optimizer: AdamW's state lives, and its step is made, on the CPU; from stage 2 on.
        offload_parameters: parameters wait on the CPU for their turn; stage 3.
        recompute: layers keep their inputs alone for the backward pass (gradient checkpointing).
    """

    zero_stage: int = 0
    offload_optimizer: bool = False
    offload_parameters: bool = False
    recompute: bool = False


@dataclass(frozen=True)
class Batch:
    """What ``update`` needs, ``mu`` times over; token counts are over all processes."""

    micro_batches: tuple[MicroBatch, ...]
    own_tokens: float
    external_tokens: float


class DeepSpeedEngine:
    """Algorithm 1's updates, with the parameters sharded over the processes by ZeRO."""

    def __init__(
        self,
        vlm: VLM,
        objective: Objective,
        optimizer: Optimizer,
        *,
        temperature: float,
        mu: int,
        cut: Cut | None = None,
        memory: Memory | None = None,
        lora: Lora | None = None,
        processes: Processes | None = None,
    ) -> None:
        """The policy is ``vlm``; with ``lora`` it gets adapters, in place."""
        os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
        import deepspeed

        # The shared-memory collectives would be compiled on first use: half a minute, and only where a compiler is.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.processes = processes or join()
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        self.vlm = vlm
        self.objective = objective
        self.optimizer = optimizer
        self.updates = 0
        self.mu = mu
        self.cut = cut or Cut()
        self.memory = memory = memory or Memory()
        self.lora = lora
        if lora is not None:
            add_adapters(vlm.model, lora)
        self.scorer = scorer = ActionLogProbs(vlm.model, temperature, vlm.suppressed)
        config = _config(memory, optimizer, vlm.model.dtype)
        self.reference: Any = None  # with adapters, the policy without them is the reference
        if objective.beta > 0 and lora is None:
            self.reference = copy.deepcopy(scorer).eval().requires_grad_(False)
            if memory.zero_stage == 3:  # sharded like the policy
                self.reference = deepspeed.initialize(model=self.reference, config=_without_optimizer(config))[0]
        if memory.recompute:
            recompute_layers(vlm.model)
        parameters = [p for p in vlm.model.parameters() if p.requires_grad]
        self.adamw = torch.optim.AdamW(
            parameters, lr=optimizer.learning_rate, weight_decay=optimizer.weight_decay, fused=True
        )
        self.engine: Any = deepspeed.initialize(model=scorer, optimizer=self.adamw, config=config)[0]
        if self.processes.size == 1 and self.engine.zero_optimization_stage() == 0:
            self.engine.enable_backward_allreduce = False  # it would copy every gradient twice
        self.engine.eval()

    def refresh_reference(self) -> None:
        """pi_ref <- pi_theta; with beta = 0 no reference exists, and with adapters it stays the model without them."""
        if self.reference is not None:
            copy_weights(self.engine.module, _module(self.reference))

    @torch.no_grad()
    def prepare(self, groups: Sequence[Group]) -> Batch:
        """Tensors of the kept actions, with log pi_old (when mu > 1) and log pi_ref (when beta > 0).

        Groups without gradient are left out where that changes nothing (beta = 0); the aggregation still counts them.
        """
        kept = [action for group in groups for action in group.actions]
        live = [g for g in groups if g.kept and (self.objective.beta > 0 or not g.no_gradient)]
        trained = [action for group in live for action in group.actions]
        own = [action for action in trained if action.source == POLICY]
        actions, kept_tokens, trained_tokens, own_tokens = self.processes.total(
            [len(kept), *(sum(len(ids(action)) for action in part) for part in (kept, trained, own))]
        )
        pieces = self.cut.pieces(live, self._prompt_length)
        count = self.processes.most(len(pieces))
        prepared = micro_batches(self.vlm, self.objective, pieces, actions, kept_tokens, count)
        wanted = self.processes.gather([self.scorer.chunks(int(micro.mask.sum())) for micro in prepared])
        for place, micro in enumerate(prepared):
            micro = replace(micro, chunks=max(chunks[place] for chunks in wanted))
            old = self._score(self.engine, micro) if self.mu > 1 else None
            prepared[place] = replace(micro, old=old, ref=self._score_by_reference(micro))
        return Batch(tuple(prepared), own_tokens, trained_tokens - own_tokens)

    def update(self, batch: Batch) -> dict[str, float]:
        """One optimiser step. Without any gradient in the batch nothing moves, and ``loss/skipped`` is 1."""
        rate = self.optimizer.learning_rate * self.optimizer.factor(self.updates)
        if not batch.micro_batches:
            return {"loss/skipped": 1.0, "loss/learning_rate": rate}
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.engine.train()
        sums = [0.0] * len(Loss._fields)
        for number, micro in enumerate(batch.micro_batches, start=1):
            logp = self._score(self.engine, micro)  # (A, T)
            old = logp.detach() if micro.old is None else micro.old
            counted = (micro.weights > 0).float()  # (A, T)
            result = loss(
                self.objective,
                logp,
                old,
                micro.ref,
                micro.advantages,
                micro.external,
                counted,
                micro.weights,
                micro.sampled,
            )
            self.engine.set_gradient_accumulation_boundary(number == len(batch.micro_batches))
            self.engine.backward(result.value * self.processes.size)  # DeepSpeed averages over the processes
            norm = self._gradient_norm()
            self.engine.step()
            sums = [total + float(value.detach()) for total, value in zip(sums, result, strict=True)]
        self.engine.eval()
        self.updates += 1
        totals = Loss(*self.processes.total(sums))  # type: ignore[arg-type]
        return self._metrics(totals, batch) | {
            "loss/grad_norm": float(self.engine.get_global_grad_norm() or norm),
            "loss/learning_rate": rate,
            "loss/skipped": 0.0,
        }

    def _metrics(self, totals: Any, batch: Batch) -> dict[str, float]:
        tokens = batch.own_tokens + batch.external_tokens
        metrics = {
            "loss/total": totals.value,
            "loss/policy": totals.policy,
            "loss/clip_fraction": totals.clipped / tokens,
            "loss/entropy": totals.surprise / max(batch.own_tokens, 1.0),
            "loss/sampler_gap": totals.gap / max(batch.own_tokens, 1.0),
        }
        if self.objective.beta > 0:
            metrics["loss/kl"] = totals.kl / tokens
        if batch.external_tokens:
            metrics["loss/external_probability"] = totals.external_probability / batch.external_tokens
        return metrics

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The policy's whole tensors, adapters added, one after another on every process; use each before the next."""
        return whole_tensors(self.vlm.model)

    def save(self, directory: str) -> None:
        """Write a folder that plain transformers (and ``vllm serve``) opens; it appears whole or not at all."""
        weights = {name: tensor.cpu().clone() for name, tensor in self.named_weights() if self.processes.first}
        if self.processes.first:
            target = Path(directory)
            partial = target.with_name(target.name + ".partial")
            self.vlm.model.save_pretrained(partial, state_dict=weights)
            self.vlm.tokenizer.save_pretrained(partial)
            self.vlm.image_processor.save_pretrained(partial)
            partial.rename(target)
        self.processes.wait()

    def save_state(self, directory: Path) -> None:
        """Everything an uninterrupted run would still have: what learns, the optimizer, its schedule, the reference."""
        state = OptimizerState(self.engine, self.adamw, self.vlm.model)
        write(directory, LEARNING, state.tensors(self.updates), self.processes)
        if self.reference is not None:
            module = _module(self.reference)
            write(directory, REFERENCE, ((n, t.to("cpu", copy=True)) for n, t in whole_tensors(module)), self.processes)
        if self.processes.first:
            (directory / UPDATES).write_text(json.dumps(self.updates))

    def load_state(self, directory: Path) -> None:
        """Go on from ``save_state``'s folder, whatever the ZeRO stage and number of processes that wrote it."""
        self.updates = json.loads((directory / UPDATES).read_text())
        state = OptimizerState(self.engine, self.adamw, self.vlm.model)
        state.restore(TensorReader(directory, LEARNING), self.updates)
        if self.reference is not None:
            stored = TensorReader(directory, REFERENCE)
            for name, parameter in _module(self.reference).named_parameters():
                set_weight(parameter, stored.read(name, shape_of(parameter)))

    def _prompt_length(self, problem: Problem) -> int:
        return len(encode_prompt(self.vlm, problem).ids)

    def _score_by_reference(self, micro: MicroBatch) -> Tensor | None:
        """(A, T) log pi_ref; None when beta is 0."""
        if self.objective.beta == 0:
            return None
        if self.reference is not None:
            return self._score(self.reference, micro)
        with without_adapters(self.vlm.model):
            return self._score(self.engine, micro)

    def _score(self, scorer: Any, micro: MicroBatch) -> Tensor:
        logp: Tensor = scorer(micro.prompts, micro.rows, micro.tokens, micro.mask, micro.chunks)  # (A, T)
        return logp

    def _gradient_norm(self) -> float:
        """Of the gradients accumulated so far; DeepSpeed itself only knows it from ZeRO stage 1 on."""
        if self.memory.zero_stage > 0:
            return 0.0
        gradients = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0


def _module(scorer: Any) -> nn.Module:
    """The scorer itself, where DeepSpeed has wrapped it (ZeRO-3) and where not."""
    module: nn.Module = getattr(scorer, "module", scorer)
    return module


def _config(memory: Memory, optimizer: Optimizer, dtype: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's settings. Batch sizes are nominal: the loss is already weighted over the whole batch."""
    half = dtype == torch.bfloat16
    zero: dict[str, Any] = {"stage": memory.zero_stage}
    if half and memory.zero_stage == 0:
        # stage 0 keeps no float32 copy of bfloat16 weights, and small updates would be rounded away; stage 1 does
        zero["stage"] = 1
    host = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if memory.offload_optimizer:
        zero["offload_optimizer"] = host
    if memory.offload_parameters:
        zero["offload_param"] = host
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": optimizer.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": half},
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }


def _without_optimizer(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "gradient_clipping"}
