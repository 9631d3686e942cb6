"""The engine: GRPO updates with DeepSpeed, on CPU (gloo) or GPU (NCCL)."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor
from torch._C._distributed_c10d import HashStore

from ekipl.actions import POLICY, Action, Group
from ekipl.grpo import Objective, loss
from ekipl.models import VLM, Prompts, encode_prompts
from ekipl.prefix import ActionScorer

METRICS = ("loss", "policy", "kl", "clipped", "surprise", "external_probability")


@dataclass(frozen=True)
class Optimizer:
    """AdamW and its schedule.

    Attributes:
        total_updates: length of the ``linear`` decay to 0.
        warmup_updates: linear rise from 0 in front of either schedule.
        max_grad_norm: the global gradient norm is clipped to this; 0 is off.
    """

    learning_rate: float
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear"] = "constant"
    warmup_updates: int = 0
    total_updates: int = 1
    max_grad_norm: float = 1.0

    def factor(self, update: int) -> float:
        """Learning rate of an update (from 0), relative to ``learning_rate``."""
        if update < self.warmup_updates:
            return (update + 1) / self.warmup_updates
        if self.schedule == "constant":
            return 1.0
        return max(0.0, (self.total_updates - update) / max(1, self.total_updates - self.warmup_updates))


@dataclass(frozen=True)
class MicroBatch:
    """Some problems' kept actions as tensors: P prompts, A actions, T tokens."""

    prompts: Prompts
    rows: Tensor  # (A,) the prompt of each action
    tokens: Tensor  # (A, T)
    mask: Tensor  # (A, T) float
    advantages: Tensor  # (A,)
    external: Tensor  # (A,) bool
    weights: Tensor  # (A, T)
    old: Tensor | None = None  # (A, T) log pi_old; None: the first update is made at pi_old itself
    ref: Tensor | None = None  # (A, T) log pi_ref


@dataclass(frozen=True)
class Batch:
    """What ``update`` needs, ``mu`` times over; ``counts`` are tokens of the policy and of external models."""

    micro_batches: tuple[MicroBatch, ...]
    own_tokens: float
    external_tokens: float


class DeepSpeedEngine:
    """Algorithm 1's updates. One process and ZeRO-0 on CPU is the smallest instance of the same code."""

    def __init__(
        self,
        vlm: VLM,
        objective: Objective,
        optimizer: Optimizer,
        *,
        temperature: float,
        mu: int,
        zero_stage: int = 0,
        micro_batch: int = 4,
    ) -> None:
        """``micro_batch`` is the number of problems in one forward and backward pass."""
        os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
        import deepspeed

        self.vlm = vlm
        self.objective = objective
        self.mu = mu
        self.micro_batch = micro_batch
        scorer = ActionScorer(vlm.model, temperature, vlm.suppressed)
        parameters = [p for p in vlm.model.parameters() if p.requires_grad]
        adamw = torch.optim.AdamW(parameters, lr=optimizer.learning_rate, weight_decay=optimizer.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(adamw, optimizer.factor)
        _join_processes(deepspeed)
        self.engine: Any = deepspeed.initialize(
            model=scorer,
            optimizer=adamw,
            lr_scheduler=schedule,
            config=_config(zero_stage, optimizer, vlm.model.dtype),
            dist_init_required=False,
        )[0]
        self.reference: ActionScorer | None = None

    def refresh_reference(self) -> None:
        """pi_ref <- pi_theta; with beta = 0 no reference exists."""
        if self.objective.beta == 0:
            return
        if self.reference is None:
            self.reference = copy.deepcopy(self.engine.module).eval().requires_grad_(False)
        else:
            self.reference.load_state_dict(self.engine.module.state_dict())

    @torch.no_grad()
    def prepare(self, groups: Sequence[Group]) -> Batch:
        """Tensors of the kept actions, with log pi_old (when mu > 1) and log pi_ref (when beta > 0).

        Groups without gradient are left out where that changes nothing (beta = 0); the aggregation still counts them.
        """
        actions = [action for group in groups for action in group.actions]
        total_tokens = sum(len(_tokens(action)) for action in actions)
        live = [g for g in groups if g.kept and (self.objective.beta > 0 or not g.dead)]
        micro_batches = []
        for start in range(0, len(live), self.micro_batch):
            micro = self._tensors(live[start : start + self.micro_batch], len(actions), total_tokens)
            old = self._log_probabilities(self.engine.module, micro) if self.mu > 1 else None
            ref = self._log_probabilities(self.reference, micro) if self.reference is not None else None
            micro_batches.append(MicroBatch(**{**vars(micro), "old": old, "ref": ref}))
        external = sum(float(m.mask[m.external].sum()) for m in micro_batches)
        own = sum(float(m.mask.sum()) for m in micro_batches) - external
        return Batch(tuple(micro_batches), own, external)

    def update(self, batch: Batch) -> dict[str, float]:
        """One optimiser step. Without any gradient in the batch nothing moves, and ``loss/skipped`` is 1."""
        if not batch.micro_batches:
            return {"loss/skipped": 1.0, "loss/learning_rate": self._learning_rate()}
        self.engine.train()
        sums = dict.fromkeys(METRICS, 0.0)
        rate = self._learning_rate()
        for number, micro in enumerate(batch.micro_batches, start=1):
            logp = self.engine(micro.prompts, micro.rows, micro.tokens, micro.mask)  # (A, T)
            old = logp.detach() if micro.old is None else micro.old
            result = loss(
                self.objective, logp, old, micro.ref, micro.advantages, micro.external, micro.mask, micro.weights
            )
            self.engine.set_gradient_accumulation_boundary(number == len(batch.micro_batches))
            self.engine.backward(result.value)
            norm = self._gradient_norm()
            self.engine.step()
            for name, value in zip(METRICS, result, strict=True):
                sums[name] += float(value.detach())
        self.engine.eval()
        tokens = batch.own_tokens + batch.external_tokens
        metrics = {
            "loss/total": sums["loss"],
            "loss/policy": sums["policy"],
            "loss/clip_fraction": sums["clipped"] / tokens,
            "loss/entropy": sums["surprise"] / max(batch.own_tokens, 1.0),
            "loss/grad_norm": self.engine.get_global_grad_norm() or norm,
            "loss/learning_rate": rate,
            "loss/skipped": 0.0,
        }
        if self.reference is not None:
            metrics["loss/kl"] = sums["kl"] / tokens
        if batch.external_tokens:
            metrics["loss/external_probability"] = sums["external_probability"] / batch.external_tokens
        return metrics

    def save(self, directory: str) -> None:
        """Write a folder that plain transformers (and ``vllm serve``) opens; it appears whole or not at all."""
        target = Path(directory)
        partial = target.with_name(target.name + ".partial")
        self.vlm.model.save_pretrained(partial)
        self.vlm.tokenizer.save_pretrained(partial)
        self.vlm.image_processor.save_pretrained(partial)
        partial.rename(target)

    def save_state(self, directory: Path) -> None:
        """Everything an uninterrupted run would still have: weights, optimizer, schedule, reference."""
        self.engine.save_checkpoint(str(directory), tag="engine", save_latest=False)
        if self.reference is not None:
            save_model(self.reference, str(directory / "reference.safetensors"))

    def load_state(self, directory: Path) -> None:
        """Go on from ``save_state``'s folder."""
        self.engine.load_checkpoint(str(directory), tag="engine")
        if self.objective.beta > 0:
            self.refresh_reference()
            assert self.reference is not None
            load_model(self.reference, str(directory / "reference.safetensors"))

    def _learning_rate(self) -> float:
        return float(self.engine.get_lr()[0])

    def _gradient_norm(self) -> float:
        """Of the gradients accumulated so far; DeepSpeed itself only knows it from ZeRO stage 1 on."""
        gradients = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0

    def _log_probabilities(self, scorer: Callable[..., Tensor], micro: MicroBatch) -> Tensor:
        return scorer(micro.prompts, micro.rows, micro.tokens, micro.mask)

    def _tensors(self, groups: Sequence[Group], actions: int, tokens: int) -> MicroBatch:
        """Padded tensors of the groups' kept actions."""
        prompts = encode_prompts(self.vlm, [group.problem for group in groups])
        device = self.vlm.device
        kept = [(row, action) for row, group in enumerate(groups) for action in group.actions]
        length = max(len(_tokens(action)) for _, action in kept)
        ids = [list(_tokens(action)) + [0] * (length - len(_tokens(action))) for _, action in kept]
        ones = [[1.0] * len(_tokens(action)) + [0.0] * (length - len(_tokens(action))) for _, action in kept]
        mask = torch.tensor(ones, device=device)  # (A, T)
        return MicroBatch(
            prompts=prompts,
            rows=torch.tensor([row for row, _ in kept], device=device),
            tokens=torch.tensor(ids, device=device),
            mask=mask,
            advantages=torch.tensor([a for group in groups for a in group.advantages], device=device),
            external=torch.tensor([action.source != POLICY for _, action in kept], device=device),
            weights=self.objective.token_weights(mask, actions, tokens),
        )


def _tokens(action: Action) -> tuple[int, ...]:
    if action.tokens is None:
        raise ValueError(f"action {action.index} of {action.source} for {action.problem_id} has not been encoded")
    return action.tokens


def _join_processes(deepspeed: Any) -> None:
    """Form the process group: the launcher's (RANK is set), or this process alone, which needs no port."""
    # The shared-memory collectives would be compiled on first use: half a minute, and only where a compiler is.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if "RANK" not in os.environ and not torch.distributed.is_initialized():
        store = HashStore()
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        os.environ.setdefault("LOCAL_RANK", "0")
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)


def _config(zero_stage: int, optimizer: Optimizer, dtype: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's settings. Batch sizes are nominal: the loss is already weighted over the whole batch."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": optimizer.max_grad_norm,
        "zero_optimization": {"stage": zero_stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }
