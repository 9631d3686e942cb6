"""ekipl's side: the step of Algorithm 1 with M = 0, by its own sampler and engine."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.setting import (
    BETA,
    EPS,
    LEARNING_RATE,
    MAX_GRAD_NORM,
    Measured,
    Meter,
    Setting,
    Where,
    never,
    problems,
)
from ekipl.algorithm.loop import Clock, Hyperparameters, choose
from ekipl.algorithm.objective import Objective
from ekipl.algorithm.seams import Decoding, Grader
from ekipl.algorithm.types import Group, Problem, Reward
from ekipl.engine.deepspeed import DeepSpeedEngine
from ekipl.engine.settings import EngineSettings
from ekipl.external.offline import NoPool
from ekipl.policy.hf import HFSampler
from ekipl.policy.model import VLM, embed_patches_by_product, load_model


def alternating() -> Grader:
    """Every other action is right, so every group has a gradient, however random the weights are."""
    accuracy = itertools.cycle((0.0, 1.0))
    return lambda problem, text: Reward(1.0, next(accuracy))


@dataclass(frozen=True)
class Side:
    """The parts of a step."""

    vlm: VLM
    engine: DeepSpeedEngine
    sampler: HFSampler
    h: Hyperparameters
    grade: Grader
    problems: list[Problem]

    def sample(self, number: int) -> tuple[Group, ...]:
        """The groups of a step: actions of the policy, graded."""
        return choose(self.problems, self.grade, self.sampler, NoPool(), self.engine, self.h, number, Clock())


def ready(folder: Path, setting: Setting, steps: int, where: Where) -> Side:
    """Everything that ``steps`` steps need."""
    vlm = load_model(str(folder), device=where.device, dtype=where.dtype)
    vlm = replace(vlm, suppressed=tuple(never(vlm)))
    embed_patches_by_product(vlm.model)  # as the commands do
    objective = Objective(eps=EPS, beta=BETA, max_tokens=setting.tokens)
    h = Hyperparameters(N=setting.G, G=setting.G, B=steps, problems_per_step=setting.problems, objective=objective)
    settings = EngineSettings(
        learning_rate=LEARNING_RATE,
        max_grad_norm=MAX_GRAD_NORM,
        micro_batch=setting.problems,
        gradient_checkpointing=where.checkpointing,
    )
    engine = DeepSpeedEngine(vlm, h, settings, temperature=1.0)
    engine.refresh_reference()
    sampler = HFSampler(vlm, Decoding(max_tokens=setting.tokens))
    return Side(vlm, engine, sampler, h, alternating(), problems(setting))


def measure(folder: Path, setting: Setting, steps: int, where: Where) -> Measured:
    """Medians of ``steps`` after one that warms up."""
    side = ready(folder, setting, steps, where)
    meter = Meter(where.device)
    for number in range(1 + steps):
        with meter.phase("sampling"):
            groups = side.sample(number)
        assert all(len(action.tokens or ()) == setting.tokens for g in groups for action in g.actions)
        with meter.phase("reference"):
            prepared = side.engine.prepare(groups)
        with meter.phase("update"):
            side.engine.update(prepared)
            side.sampler.load_weights(side.engine)
        meter.end_step()
    result = meter.result()
    return replace(result, flops=forward_flops(side.engine, groups)) if where.device != "cpu" else result


@torch.no_grad()
def forward_flops(engine: DeepSpeedEngine, groups: Any) -> float:
    """Of one forward pass over what the update computes: every prompt once, every completion token once."""
    prepared = engine.prepare(groups)
    with FlopCounterMode(display=False) as counter:
        for micro in prepared.micro_batches:
            engine.policy(micro.prompts, micro.rows, micro.tokens, micro.mask, micro.chunks)
    return float(counter.get_total_flops())
