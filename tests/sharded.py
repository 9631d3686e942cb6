"""Updates on recorded groups under many settings; test_distributed.py compares ZeRO stages and world sizes.

``python -m tests.sharded FOLDER``, in each process: process 0 writes losses and final weights of ``CASES``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from deepspeed.accelerator import get_accelerator
from safetensors.torch import save_file
from torch import Tensor

from ekipl.algorithm.types import Group
from ekipl.engine.collectives import Processes, join, leave
from ekipl.engine.deepspeed import DeepSpeedEngine
from ekipl.engine.settings import EngineSettings
from ekipl.policy.model import freeze
from ekipl.policy.settings import Lora
from tests.float64 import in_float64
from tests.test_engine import group, hyperparameters, tiny

ONE_IMAGE = group(0, (4, 2, 5), (1.0, -0.5, 0.5))  # advantages do not sum to 0, so the loss is not 0
TWO_IMAGES = group(1, (3, 3), (0.7, -0.2))
NO_IMAGE = group(2, (1, 6, 2, 2), (0.3, 0.9, -0.4, 0.0))
NO_GRADIENT = replace(group(1, (2, 7), (0.0, 0.0)))
# Batches that two or three ranks share: prompts without, with one and with two images, groups of unequal size, a group
# without gradient on one rank, and ranks without any problem.
BATCHES: list[list[Group]] = [
    [ONE_IMAGE, NO_IMAGE, TWO_IMAGES, ONE_IMAGE],
    [ONE_IMAGE, TWO_IMAGES],
    [NO_IMAGE, ONE_IMAGE, NO_GRADIENT],
    [NO_IMAGE],
    [ONE_IMAGE, NO_GRADIENT, TWO_IMAGES, NO_GRADIENT],
]
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"beta": 0.1, "mu": 1},
    "mu 2, micro-batch 1": {"beta": 0.1, "mu": 2, "micro_batch": 1},
    "no KL, accumulation 4": {"beta": 0.0, "mu": 1, "accumulation": 4},
    "few tokens, recomputed, offloaded": {
        "beta": 0.1,
        "mu": 1,
        "micro_batch_tokens": 110,
        "gradient_checkpointing": True,
        "offload": True,
    },
    "adapters": {"beta": 0.1, "mu": 1, "lora": Lora(4, 8, ("q_proj", "down_proj", "qkv"))},
    "resumed, frozen tower": {"beta": 0.1, "mu": 1, "frozen": True, "stop": True},
}
# The settings by number of processes and ZeRO stage. Two processes try all with stage 3, and with stages 0 and 2 those
# that DeepSpeed treats in another way there. Three are for the shares of a batch: some are empty.
CASES: dict[int, dict[int, tuple[str, ...]]] = {
    1: {3: ("default", "few tokens, recomputed, offloaded", "resumed, frozen tower")},
    2: {
        0: ("mu 2, micro-batch 1", "no KL, accumulation 4", "adapters", "resumed, frozen tower"),
        2: ("no KL, accumulation 4", "few tokens, recomputed, offloaded", "adapters", "resumed, frozen tower"),
        3: tuple(SETTINGS),
    },
    3: {3: ("mu 2, micro-batch 1",)},
}


def made(
    processes: Processes,
    stage: int,
    beta: float,
    mu: int,
    lora: Lora | None = None,
    offload: bool = False,
    frozen: bool = False,
    **settings: Any,
) -> DeepSpeedEngine:
    vlm = tiny()
    freeze(vlm.model, vision=frozen, projector=False)
    offloaded = {"offload_optimizer": offload and stage > 0, "offload_parameters": offload and stage == 3}
    engine = EngineSettings(**{"learning_rate": 3e-5, "micro_batch": 8, "zero_stage": stage, **offloaded, **settings})
    return DeepSpeedEngine(vlm, hyperparameters(beta, mu), engine, temperature=1.0, lora=lora, processes=processes)


@in_float64()
def updates(
    processes: Processes, stage: int, folder: Path, stop: bool = False, **settings: Any
) -> tuple[list[float], dict[str, Tensor]]:
    """Likelihoods and losses of at least five updates, and the weights after them; all processes share ``folder``."""
    engine = made(processes, stage, **settings)
    engine.refresh_reference()
    losses = []
    for step, groups in enumerate(BATCHES):
        mine = engine.likelihoods(processes.mine(groups))
        likelihood = sum(sum(a.logprobs or ()) for g in mine for a in g.offered)
        losses += processes.total([likelihood])
        batch = engine.prepare(mine)
        losses += [engine.update(batch)["loss/total"] for _ in range(settings["mu"])]
        if step == 2:
            engine.refresh_reference()
        if step == 3 and stop:
            engine.save_state(folder)
            processes.wait()
            engine = made(processes, stage, **settings)
            engine.load_state(folder)
    return losses, {name: tensor.clone() for name, tensor in engine.named_weights()}


def main() -> None:
    folder, processes = Path(sys.argv[1]), join()
    # DeepSpeed sums gradients of the dtypes that its list for this device names; float64 is missing there.
    with patch.object(get_accelerator(), "supported_dtypes", return_value=[torch.float64]):
        for stage, names in CASES[processes.world_size].items():
            for name in names:
                losses, weights = updates(processes, stage, folder, **SETTINGS[name])
                if processes.first:
                    save_file(weights, folder / f"{stage} {name}.safetensors")
                    (folder / f"{stage} {name}.json").write_text(json.dumps(losses))
    leave()


if __name__ == "__main__":
    main()
