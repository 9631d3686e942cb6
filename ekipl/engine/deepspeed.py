"""The engine: policy updates with DeepSpeed, ZeRO stage 0, 2 or 3, on one rank or many, CPU (gloo) or GPU (NCCL)."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ekipl.algorithm.loop import Hyperparameters
from ekipl.algorithm.loss import Loss, loss
from ekipl.algorithm.types import POLICY, Group, Problem
from ekipl.engine.batch import MicroBatch, ids, micro_batches, split, with_likelihoods
from ekipl.engine.collectives import Processes, join
from ekipl.engine.lora import adapter_weights, add_adapters, save_adapter, without_adapters
from ekipl.engine.recompute import recompute_layers
from ekipl.engine.rules import zero_stage
from ekipl.engine.settings import EngineSettings
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
from ekipl.policy.model import VLM, save_model
from ekipl.policy.prefix import ActionLogProbs
from ekipl.policy.settings import Lora

POLICY_STATE, REFERENCE_STATE = "learning", "reference"  # file names; fixed by the format of checkpoints
UPDATES = "updates.json"


@dataclass(frozen=True)
class Batch:
    """The input of mu updates: this rank's micro-batches, and token counts of all ranks."""

    micro_batches: tuple[MicroBatch, ...]
    own_tokens: float
    external_tokens: float


class DeepSpeedEngine:
    """The updates of Algorithm 1 with DeepSpeed; see ``algorithm.seams.Engine``."""

    def __init__(
        self,
        vlm: VLM,
        h: Hyperparameters,
        settings: EngineSettings,
        *,
        temperature: float,
        lora: Lora | None = None,
        processes: Processes | None = None,
    ) -> None:
        """Train a model in place, or with ``lora`` adapters that are inserted into it.

        ``temperature`` is that of sampling. ``processes`` are the ranks; None joins the launcher's.
        """
        os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
        import deepspeed

        # Shared-memory collectives are compiled on first use, which takes half a minute and needs a compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.processes = processes or join()
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        self.vlm, self.h, self.settings = vlm, h, settings
        self.updates = 0
        self.lora = lora
        if lora is not None:
            add_adapters(vlm.model, lora, h.seed)
        self.policy = policy = ActionLogProbs(vlm.model, temperature, vlm.suppressed)
        config = _config(settings, vlm.model.dtype)
        self.reference: Any = None  # with adapters, the reference is the policy without them
        if h.objective.beta > 0 and lora is None:
            self.reference = copy.deepcopy(policy).eval().requires_grad_(False)
            if settings.zero_stage == 3:  # sharded like the policy
                self.reference = deepspeed.initialize(model=self.reference, config=_without_optimizer(config))[0]
        if settings.gradient_checkpointing:
            recompute_layers(vlm.model)
        parameters = [p for p in vlm.model.parameters() if p.requires_grad]
        self.adamw = torch.optim.AdamW(
            parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.engine: Any = deepspeed.initialize(model=policy, optimizer=self.adamw, config=config)[0]
        if self.processes.world_size == 1 and self.engine.zero_optimization_stage() == 0:
            self.engine.enable_backward_allreduce = False  # with one rank it only copies every gradient twice
        self.engine.eval()

    def refresh_reference(self) -> None:
        """pi_ref <- pi_theta. No effect with beta = 0 (no reference) or adapters (the model without them)."""
        if self.reference is not None:
            copy_weights(self.engine.module, _module(self.reference))

    @torch.no_grad()
    def likelihoods(self, groups: Sequence[Group]) -> list[Group]:
        """This rank's groups, their external candidates with log pi_theta of each token as ``logprobs``."""
        places = [tuple(i for i, a in enumerate(group.offered) if a.source != POLICY) for group in groups]
        pairs = [pair for pair in zip(groups, places, strict=True) if pair[1]]
        asked = [replace(group, kept=kept, advantages=(0.0,) * len(kept)) for group, kept in pairs]
        found = []
        for micro in self._micro_batches(asked, 1.0, 1.0):  # all of them: the ranks run the same number of passes
            logp = self._logprobs(self.engine, micro)  # (A, T)
            rows = zip(logp, micro.weights > 0, strict=True)  # no weight: padding, or a rank without a problem
            found += [tuple(row[real].tolist()) for row, real in rows if real.any()]
        return with_likelihoods(groups, iter(found))

    @torch.no_grad()
    def prepare(self, groups: Sequence[Group]) -> Batch:
        """This rank's kept actions as tensors, with log pi_old (when mu > 1) and log pi_ref (when beta > 0).

        With beta = 0, groups without gradient are left out. The weights of the other tokens still count their actions.
        """
        kept = [action for group in groups for action in group.actions]
        live = [g for g in groups if g.kept and (self.h.objective.beta > 0 or not g.no_gradient)]
        trained = [action for group in live for action in group.actions]
        own = [action for action in trained if action.source == POLICY]
        actions, kept_tokens, trained_tokens, own_tokens = self.processes.total(
            [len(kept), *(sum(len(ids(action)) for action in part) for part in (kept, trained, own))]
        )
        prepared = [
            replace(
                micro,
                old=self._logprobs(self.engine, micro) if self.h.mu > 1 else None,
                ref=self._reference_logprobs(micro),
            )
            for micro in self._micro_batches(live, actions, kept_tokens)
        ]
        return Batch(tuple(prepared), own_tokens, trained_tokens - own_tokens)

    def _micro_batches(self, groups: Sequence[Group], actions: float, tokens: float) -> list[MicroBatch]:
        """This rank's kept actions, in as many micro-batches and chunks of logits as the other ranks have."""
        pieces = split(self.settings, groups, self._prompt_length)
        count = self.processes.most(len(pieces))
        micros = micro_batches(self.vlm, self.h.objective, pieces, actions, tokens, count)
        wanted = self.processes.gather([self.policy.chunks(int(micro.mask.sum())) for micro in micros])
        return [replace(m, chunks=max(chunks[place] for chunks in wanted)) for place, m in enumerate(micros)]

    def update(self, batch: Batch) -> dict[str, float]:
        """One optimizer step; without any micro-batch nothing changes, and ``loss/skipped`` is 1."""
        rate = self.settings.rate(self.updates, self.h.steps * self.h.mu, self.h.mu)
        if not batch.micro_batches:
            return {"loss/skipped": 1.0, "loss/learning_rate": rate}
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.engine.train()
        sums = [0.0] * len(Loss._fields)
        for number, micro in enumerate(batch.micro_batches, start=1):
            logp = self._logprobs(self.engine, micro)  # (A, T)
            old = logp.detach() if micro.old is None else micro.old
            counted = (micro.weights > 0).float()  # (A, T)
            result = loss(
                self.h.objective,
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
            self.engine.backward(result.value * self.processes.world_size)  # DeepSpeed averages over ranks
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
            "loss/entropy": totals.neg_logp / max(batch.own_tokens, 1.0),
            "loss/sampler_gap": totals.sampler_mismatch / max(batch.own_tokens, 1.0),
        }
        if self.h.objective.beta > 0:
            over = batch.own_tokens if self.h.objective.kl_on == "own" else tokens
            metrics["loss/kl"] = totals.kl / max(over, 1.0)
        if batch.external_tokens:
            metrics["loss/external_probability"] = totals.external_probability / batch.external_tokens
            metrics["loss/external_weight"] = totals.external_weight / batch.external_tokens
        return metrics

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The policy's weights with adapters added, on every rank; each is valid until the next."""
        return whole_tensors(self.vlm.model)

    def save(self, directory: str) -> None:
        """Write a model folder for transformers and ``vllm serve``; it appears complete or not at all."""
        weights = {name: tensor.cpu().clone() for name, tensor in self.named_weights() if self.processes.first}
        if self.processes.first:
            save_model(self.vlm, weights, Path(directory))
        self.processes.wait()

    def save_adapter(self, directory: str) -> None:
        """Write the adapters in peft's own format; without adapters nothing."""
        weights = dict(adapter_weights(self.vlm.model))
        if self.lora is not None and self.processes.first:
            save_adapter(self.lora, self.vlm.path, weights, Path(directory))
        self.processes.wait()

    def save_state(self, directory: Path) -> None:
        """Write trained weights, AdamW's moments, the number of updates and the reference."""
        state = OptimizerState(self.engine, self.adamw, self.vlm.model)
        write(directory, POLICY_STATE, state.tensors(self.updates), self.processes)
        if self.reference is not None:
            module = _module(self.reference)
            write(
                directory,
                REFERENCE_STATE,
                ((n, t.to("cpu", copy=True)) for n, t in whole_tensors(module)),
                self.processes,
            )
        if self.processes.first:
            (directory / UPDATES).write_text(json.dumps(self.updates))

    def load_state(self, directory: Path) -> None:
        """Resume from the folder of ``save_state``, written with any ZeRO stage and world size."""
        self.updates = json.loads((directory / UPDATES).read_text())
        state = OptimizerState(self.engine, self.adamw, self.vlm.model)
        state.restore(TensorReader(directory, POLICY_STATE), self.updates)
        if self.reference is not None:
            stored = TensorReader(directory, REFERENCE_STATE)
            for name, parameter in _module(self.reference).named_parameters():
                set_weight(parameter, stored.read(name, shape_of(parameter)))

    def _prompt_length(self, problem: Problem) -> int:
        return len(encode_prompt(self.vlm, problem).ids)

    def _reference_logprobs(self, micro: MicroBatch) -> Tensor | None:
        """(A, T) log pi_ref; None when beta is 0."""
        if self.h.objective.beta == 0:
            return None
        if self.reference is not None:
            return self._logprobs(self.reference, micro)
        with without_adapters(self.vlm.model):
            return self._logprobs(self.engine, micro)

    def _logprobs(self, model: Any, micro: MicroBatch) -> Tensor:
        logp: Tensor = model(micro.prompts, micro.rows, micro.tokens, micro.mask, micro.chunks)  # (A, T)
        return logp

    def _gradient_norm(self) -> float:
        """The norm of the accumulated gradients; DeepSpeed returns it only from ZeRO stage 1 on."""
        if self.settings.zero_stage > 0:
            return 0.0
        gradients = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0


def _module(model: Any) -> nn.Module:
    """The model, without DeepSpeed's wrapper if it has one (ZeRO-3)."""
    module: nn.Module = getattr(model, "module", model)
    return module


def _config(settings: EngineSettings, dtype: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's config. Its batch sizes have no effect: the loss is already weighted over the whole batch."""
    half = dtype == torch.bfloat16
    zero: dict[str, Any] = {"stage": zero_stage(settings.zero_stage, half)}
    host = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if settings.offload_optimizer:
        zero["offload_optimizer"] = host
    if settings.offload_parameters:
        zero["offload_param"] = host
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": half},
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }


def _without_optimizer(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "gradient_clipping"}
