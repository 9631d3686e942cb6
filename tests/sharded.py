"""Run by test_distributed.py in each process: updates on recorded groups; process 0 writes losses and final weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import save_file

from ekipl.engine.deepspeed import DeepSpeedEngine, Optimizer
from ekipl.grpo import Objective
from ekipl.models import load_model
from ekipl.processes import join
from tests.test_engine import GROUPS


def main() -> None:
    out, stage, beta, mu, micro_batch = sys.argv[1:6]
    processes = join()
    vlm = load_model("tiny", device="cpu")
    engine = DeepSpeedEngine(
        vlm,
        Objective(beta=float(beta), max_tokens=8),
        Optimizer(1e-4),
        temperature=1.0,
        mu=int(mu),
        zero_stage=int(stage),
        micro_batch=int(micro_batch),
        processes=processes,
    )
    engine.refresh_reference()
    losses = []
    for step in range(5):
        # three groups: with two or more processes one has more to do, and process 1 has a text without an image
        mine = list(processes.mine(GROUPS)) if step != 3 else GROUPS[processes.rank : 1]  # step 3: one process works
        batch = engine.prepare(mine)
        losses += [engine.update(batch)["loss/total"] for _ in range(int(mu))]
        if step == 2:
            engine.refresh_reference()
    weights = {name: tensor.clone() for name, tensor in engine.named_weights()}
    engine.save(f"{out}/model")
    if processes.first:
        save_file(weights, f"{out}/weights.safetensors")
        Path(out, "losses.json").write_text(json.dumps(losses))


main()
