"""The shared prefix against the plain computation in low precision: reads and prints as ``side`` does.

Rounding differs from one way of computing to another, so both are compared with the plain computation in float32: the
shared prefix must not be further from it than twice what the plain computation itself is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import profile

from benchmarks.speed.setting import Setting, Where, problems
from ekipl.policy.encoding import Prompts, encode_prompts
from ekipl.policy.model import load_model
from ekipl.policy.prefix import ActionLogProbs

FACTOR = 2.0
FAST = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]  # what else there is holds whole score matrices


def plain_inputs(prompts: Prompts, rows: Tensor, tokens: Tensor, mask: Tensor) -> dict[str, Any]:
    """Every action with its own copy of prompt and image. ``rows`` (A,), ``tokens`` and ``mask`` (A, T)."""
    assert prompts.pixel_values is not None
    assert prompts.image_grid is not None
    patches = prompts.pixel_values.split(prompts.image_grid.prod(-1).tolist())
    return {
        "input_ids": torch.cat([prompts.input_ids[rows], tokens], dim=1),
        "attention_mask": torch.cat([prompts.attention_mask[rows], mask.long()], dim=1),
        "mm_token_type_ids": torch.cat([prompts.token_types[rows], torch.zeros_like(tokens)], dim=1),
        "pixel_values": torch.cat([patches[row] for row in rows.tolist()]),
        "image_grid_thw": prompts.image_grid[rows],
    }


def plain(model: Any, prompts: Prompts, rows: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Log-probabilities (A, T) by ordinary forward passes of prompt and completion."""
    logits = model(**plain_inputs(prompts, rows, tokens, mask), logits_to_keep=tokens.shape[1] + 1).logits[:, :-1]
    return logits.float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0] * mask


def check(folder: Path, setting: Setting, where: Where) -> dict[str, Any]:
    """Errors of log-probabilities (root mean square) and of the gradient (relative) to float32, and the kernels."""
    device = torch.device(where.device)
    generator = torch.Generator().manual_seed(0)
    shape = setting.actions, setting.tokens
    rows = torch.arange(setting.actions).remainder(setting.problems).to(device)
    tokens = torch.randint(20, 200, shape, generator=generator).to(device)
    weights = torch.randn(shape, generator=generator).to(device)
    mask = torch.ones(shape, device=device)

    def computed(dtype: str, way: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        vlm = load_model(str(folder), device=where.device, dtype=dtype)
        logp = way(vlm.model, encode_prompts(vlm, problems(setting)), rows, tokens, mask)
        (logp * weights).sum().backward()
        return logp.detach(), torch.cat([p.grad.flatten() for p in vlm.model.parameters()]).float()

    def shared(model: Any, *batch: Any) -> Tensor:
        return ActionLogProbs(model, 1.0, ())(*batch, chunks=4)

    exact_logp, exact_gradient = computed("float32", plain)

    def errors(way: Callable[..., Tensor]) -> dict[str, float]:
        logp, gradient = computed(where.dtype, way)
        return {
            "log_probability": float((logp - exact_logp).square().mean().sqrt()),
            "gradient": float((gradient - exact_gradient).norm() / exact_gradient.norm()),
        }

    found = {"plain": errors(plain)}
    with sdpa_kernel(FAST), profile() as recorded:
        found["shared"] = errors(shared)
    kernels = sorted({event.key for event in recorded.key_averages() if "_scaled_dot_product_" in event.key})
    passed = all(found["shared"][what] <= FACTOR * error for what, error in found["plain"].items())
    return {**found, "kernels": kernels, "passed": passed}


def main() -> None:
    order = json.load(sys.stdin)
    print(json.dumps(check(Path(order["folder"]), Setting(**order["setting"]), Where(**order["where"]))))


if __name__ == "__main__":
    main()
