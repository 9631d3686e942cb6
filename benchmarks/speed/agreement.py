"""Loss and gradient of both sides on the same actions, with the same formula: reads and prints as ``side`` does."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.exactness import plain_inputs
from benchmarks.speed.setting import BETA, EPS, Meter, Setting, Where, problems
from benchmarks.speed.theirs import make_trainer
from ekipl.algorithm.loss import loss, token_weights
from ekipl.algorithm.objective import Objective
from ekipl.policy.encoding import Prompts, encode_prompts
from ekipl.policy.model import load_model
from ekipl.policy.prefix import ActionLogProbs

AGGREGATION = {"grpo": "action_mean", "bnpo": "token_mean", "dr_grpo": "constant"}  # TRL's name: ekipl's


@dataclass(frozen=True)
class Difference:
    """Largest of the log-probabilities (absolute), of the loss and of the gradient (relative to TRL's)."""

    log_probability: float
    loss: float
    gradient: float


@dataclass(frozen=True)
class Actions:
    """A actions of any length up to T, with log pi_old such that the clip is active on some tokens."""

    rows: Tensor  # (A,)
    tokens: Tensor  # (A, T)
    mask: Tensor  # (A, T)
    advantages: Tensor  # (A,)
    noise: Tensor  # (A, T) log pi_old - log pi_theta


def draw(setting: Setting) -> Actions:
    """In no order of the problems."""
    generator = torch.Generator().manual_seed(0)
    count, longest = setting.actions, setting.tokens
    lengths = torch.randint(1, longest + 1, (count,), generator=generator)
    lengths[0] = longest
    return Actions(
        rows=torch.arange(count).remainder(setting.problems),
        tokens=torch.randint(20, 200, (count, longest), generator=generator),
        mask=(torch.arange(longest) < lengths[:, None]).float(),
        advantages=torch.randn(count, generator=generator),
        noise=0.3 * torch.randn(count, longest, generator=generator),
    )


def compare(folder: Path, setting: Setting, loss_type: str) -> Difference:
    """The policy is a little away from the reference (the folder's weights) on both sides."""
    actions = draw(setting)
    vlm, reference = (load_model(str(folder), device="cpu") for _ in range(2))
    prompts = encode_prompts(vlm, problems(setting))
    with tempfile.TemporaryDirectory() as output:
        trainer = make_trainer(folder, setting, 1, output, Where(), loss_type=loss_type)
        trainer.meter = Meter("cpu")
    for model in (vlm.model, trainer.model):
        move(model)
    logp, value = ours(vlm.model, reference.model, prompts, actions, AGGREGATION[loss_type], setting.tokens)
    logp_trl, value_trl = theirs(trainer, prompts, actions)
    ours_flat, trl_flat = gradient(vlm.model), gradient(trainer.model)
    return Difference(
        log_probability=float(((logp - logp_trl) * actions.mask).abs().max()),
        loss=abs(value - value_trl) / abs(value_trl),
        gradient=float((ours_flat - trl_flat).norm() / trl_flat.norm()),
    )


@torch.no_grad()
def move(model: Any) -> None:
    """The same noise for the same model."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter += 0.02 * parameter.std() * torch.randn(parameter.shape, generator=generator)


def gradient(model: Any) -> Tensor:
    return torch.cat([parameter.grad.flatten() for _, parameter in sorted(model.named_parameters())])


def ours(
    model: Any, reference: Any, prompts: Prompts, actions: Actions, aggregation: Any, tokens: int
) -> tuple[Tensor, float]:
    """Log-probabilities (A, T) and loss; the gradient is left in the model."""
    objective = Objective(eps=EPS, beta=BETA, aggregation=aggregation, max_tokens=tokens)
    batch = prompts, actions.rows, actions.tokens, actions.mask, 3
    with torch.no_grad():
        ref = ActionLogProbs(reference, 1.0, ())(*batch)
    logp = ActionLogProbs(model, 1.0, ())(*batch)
    external = torch.zeros(len(actions.rows), dtype=torch.bool)
    weights = token_weights(objective, actions.mask, len(actions.rows), float(actions.mask.sum()))
    old = logp.detach() + actions.noise
    result = loss(objective, logp, old, ref, actions.advantages, external, actions.mask, weights)
    result.value.backward()
    return logp.detach(), result.value.item()


def theirs(trainer: Any, prompts: Prompts, actions: Actions) -> tuple[Tensor, float]:
    """The same by TRL: every row with its own copy of prompt and image."""
    rows, mask = actions.rows, actions.mask.long()
    plain = plain_inputs(prompts, rows, actions.tokens, mask)
    ids, attention = plain.pop("input_ids"), plain.pop("attention_mask")
    images = {**plain, "num_images": [1] * len(rows)}

    def score(model: Any) -> Tensor:
        with torch.no_grad():
            logp, *_ = trainer._get_per_token_logps_and_entropies(model, ids, attention, mask.shape[1], **images)
        return logp  # (A, T)

    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    logp = score(trainer.model)
    inputs = {
        "prompt_ids": prompts.input_ids[rows],
        "prompt_mask": prompts.attention_mask[rows],
        "completion_ids": actions.tokens,
        "completion_mask": mask,
        "advantages": actions.advantages,
        "num_items_in_batch": mask.sum(),
        "old_per_token_logps": logp + actions.noise,
        "ref_per_token_logps": score(trainer.ref_model),
        **images,
    }
    value = trainer._compute_loss(trainer.model, inputs)
    value.backward()
    return logp, value.item()


def main() -> None:
    order = json.load(sys.stdin)
    folder, setting = Path(order["folder"]), Setting(**order["setting"])
    print(json.dumps({name: asdict(compare(folder, setting, name)) for name in AGGREGATION}))


if __name__ == "__main__":
    main()
