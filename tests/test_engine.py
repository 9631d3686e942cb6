"""DeepSpeed on CPU: updates equal those of plain torch; the reference; model folders; resuming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from ekipl.algorithm.loop import Hyperparameters
from ekipl.algorithm.loss import loss, token_weights
from ekipl.algorithm.objective import Objective
from ekipl.algorithm.types import POLICY, Action, Group, Reward
from ekipl.engine.deepspeed import DeepSpeedEngine
from ekipl.engine.settings import EngineSettings
from ekipl.engine.state import TensorReader
from ekipl.errors import UsageError
from ekipl.policy.encoding import encode_prompts
from ekipl.policy.model import VLM, load_model
from ekipl.policy.prefix import ActionLogProbs
from ekipl.policy.settings import Lora
from tests.float64 import EXACT, in_float64
from tests.test_prefix import PROBLEMS

RATE = 1e-4


def group(number: int, lengths: Sequence[int], advantages: Sequence[float]) -> Group:
    generator = torch.Generator().manual_seed(number)
    actions = tuple(
        Action(
            PROBLEMS[number].id,
            "gpt" if index % 2 else POLICY,
            index,
            "x",
            "stop",
            tokens=tuple(torch.randint(20, 200, (length,), generator=generator).tolist()),
            reward=Reward(1.0, float(a > 0)),
        )
        for index, (length, a) in enumerate(zip(lengths, advantages, strict=True))
    )
    return Group(PROBLEMS[number], actions, tuple(range(len(actions))), tuple(advantages))


GROUPS = [group(0, (4, 2, 5), (1.0, -0.5, -0.5)), group(1, (3, 3), (0.7, -0.7)), group(2, (1, 6), (0.0, 0.0))]


def tiny() -> VLM:
    """The lower layers of the tiny model, in the default dtype: an engine treats two layers as it treats all."""
    vlm = load_model("tiny", device="cpu", dtype=str(torch.get_default_dtype()).removeprefix("torch."))
    language, vision = vlm.model.model.language_model, vlm.model.model.visual
    language.layers, vision.blocks = language.layers[:2], vision.blocks[:2]
    text = vlm.model.config.text_config
    text.num_hidden_layers, text.layer_types, vlm.model.config.vision_config.depth = 2, text.layer_types[:2], 2
    return vlm


def hyperparameters(beta: float, mu: int = 1) -> Hyperparameters:
    return Hyperparameters(N=3, G=3, B=4, mu=mu, problems_per_step=3, objective=Objective(beta=beta, max_tokens=8))


def make(beta: float = 0.1, mu: int = 1, lora: Lora | None = None, **engine: Any) -> DeepSpeedEngine:
    settings = EngineSettings(**{"learning_rate": RATE, "micro_batch": 8, **engine})
    return DeepSpeedEngine(tiny(), hyperparameters(beta, mu), settings, temperature=1.0, lora=lora)


def weights(vlm: VLM) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in vlm.model.parameters()])


def run(engine: DeepSpeedEngine, steps: int, mu: int = 1) -> list[dict[str, float]]:
    metrics = []
    for _ in range(steps):
        batch = engine.prepare(GROUPS)
        metrics += [engine.update(batch) for _ in range(mu)]
    return metrics


@cache
@in_float64()
def in_plain_torch(steps: int) -> tuple[list[float], torch.Tensor]:
    """The same updates without DeepSpeed: losses and final weights."""
    vlm, reference = tiny(), tiny()
    adamw = torch.optim.AdamW(vlm.model.parameters(), lr=RATE, weight_decay=0.0)
    actions = [(row, a, adv) for row, g in enumerate(GROUPS) for a, adv in zip(g.actions, g.advantages, strict=True)]
    longest = max(len(a.tokens or ()) for _, a, _ in actions)
    tokens = torch.tensor([[*(a.tokens or ()), *[0] * (longest - len(a.tokens or ()))] for _, a, _ in actions])
    mask = torch.tensor([[1.0] * len(a.tokens or ()) + [0.0] * (longest - len(a.tokens or ())) for _, a, _ in actions])
    advantages = torch.tensor([adv for _, _, adv in actions])
    external = torch.tensor([a.source != POLICY for _, a, _ in actions])
    arguments = encode_prompts(vlm, PROBLEMS), torch.tensor([row for row, _, _ in actions]), tokens, mask, 1
    objective, losses = Objective(beta=0.1, max_tokens=8), []
    with torch.no_grad():
        ref = ActionLogProbs(reference.model, 1.0, vlm.suppressed)(*arguments)
    for _ in range(steps):
        logp = ActionLogProbs(vlm.model, 1.0, vlm.suppressed)(*arguments)
        per_token = token_weights(objective, mask, len(actions), float(mask.sum()))
        value = loss(objective, logp, logp.detach(), ref, advantages, external, mask, per_token).value
        adamw.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(vlm.model.parameters(), 1.0)
        adamw.step()
        losses.append(value.item())
    return losses, weights(vlm)


@pytest.mark.parametrize(
    "settings",
    [
        {"micro_batch": 1},
        {"micro_batch": 2, "gradient_checkpointing": True},
        {"zero_stage": 3, "gradient_checkpointing": True},
        {"micro_batch_tokens": 100, "zero_stage": 2, "offload_optimizer": True},
        {"micro_batch_tokens": 1},
        {"accumulation": 3, "zero_stage": 3, "offload_optimizer": True, "offload_parameters": True},
    ],
)
@in_float64()
def test_updates_equal_plain_torch_with_all_settings(settings: dict[str, Any]) -> None:
    engine = make(**settings)
    engine.refresh_reference()
    metrics = run(engine, 4)
    losses, final = in_plain_torch(4)
    # To clip gradients that it offloads, DeepSpeed computes their norm in float32: the update is off by eps.
    bound = torch.finfo(torch.float32).eps if "offload_optimizer" in settings else EXACT
    assert [m["loss/total"] for m in metrics] == pytest.approx(losses, rel=bound, abs=bound)
    ours = torch.cat([tensor.flatten() for _, tensor in engine.named_weights()])
    assert (ours - final).norm() < bound * final.norm()


@pytest.mark.parametrize("settings", [{"micro_batch": 2}, {"micro_batch_tokens": 1}, {"zero_stage": 3}])
@in_float64()
def test_likelihoods_are_those_of_a_plain_pass_and_leave_training_as_it_is(settings: dict[str, Any]) -> None:
    engine = make(**settings)
    scored = engine.likelihoods(GROUPS)
    vlm = tiny()
    for row, found in enumerate(scored):
        assert replace(found, offered=GROUPS[row].offered) == GROUPS[row]
        for before, after in zip(GROUPS[row].offered, found.offered, strict=True):
            if before.source == POLICY:
                assert after == before
                continue
            tokens = torch.tensor([before.tokens])
            arguments = encode_prompts(vlm, PROBLEMS), torch.tensor([row]), tokens, torch.ones_like(tokens).double(), 1
            with torch.no_grad():
                plain = ActionLogProbs(vlm.model, 1.0, vlm.suppressed)(*arguments)[0].tolist()
            assert after.logprobs == pytest.approx(plain)
    metrics = [engine.update(engine.prepare(groups))["loss/sampler_gap"] for groups in (GROUPS, scored)]
    assert metrics == [0, 0]  # they are no sampler's
    assert engine.likelihoods([]) == []


@in_float64()
def test_reference_follows_the_policy_when_refreshed() -> None:
    engine = make()
    engine.refresh_reference()
    first, second = run(engine, 2)
    assert first["loss/kl"] == pytest.approx(0, abs=EXACT)
    assert second["loss/kl"] > 1e-5
    engine.refresh_reference()
    assert run(engine, 1)[0]["loss/kl"] == pytest.approx(0, abs=EXACT)


def test_without_kl_there_is_no_reference_and_groups_without_gradient_are_left_out() -> None:
    engine = make(beta=0.0)
    engine.refresh_reference()
    assert engine.reference is None
    batch = engine.prepare(GROUPS)
    assert sum(m.tokens.shape[0] for m in batch.micro_batches) == 5  # the last group has no gradient
    dead = [replace(g, advantages=(0.0,) * len(g.actions)) for g in GROUPS]
    before = weights(engine.vlm)
    assert engine.update(engine.prepare(dead))["loss/skipped"] == 1
    assert torch.equal(before, weights(engine.vlm))


@in_float64()
def test_old_log_probabilities_stay_those_of_the_first_update() -> None:
    first, _, third = run(make(beta=0.0, mu=3), 1, mu=3)
    # ratio 1 at first: the loss is minus the mean advantage, 0 by construction, and no clip is active; then they move
    assert first["loss/total"] == pytest.approx(0, abs=EXACT)
    assert first["loss/clip_fraction"] == 0
    assert abs(third["loss/total"]) > 1e-4
    assert third["loss/clip_fraction"] > 0


def test_saved_model_opens_in_plain_transformers(tmp_path: Path) -> None:
    engine = make()
    engine.refresh_reference()
    run(engine, 1)
    engine.save(str(tmp_path / "model"))
    opened = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    ours = {n: p for n, p in engine.vlm.model.named_parameters()}
    for name, parameter in opened.named_parameters():
        assert torch.equal(parameter, ours[name])
    again = load_model(str(tmp_path / "model"))
    assert again.tokenizer.chat_template == engine.vlm.tokenizer.chat_template
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(("beta", "stage"), [(0.0, 0), (0.1, 0), (0.1, 2), (0.1, 3)])
def test_resuming_from_a_saved_state_is_exact(tmp_path: Path, beta: float, stage: int) -> None:
    whole = make(beta=beta, zero_stage=stage)
    whole.refresh_reference()
    expected = run(whole, 4)
    first = make(beta=beta, zero_stage=stage)
    first.refresh_reference()
    run(first, 2)
    first.save_state(tmp_path)
    second = make(beta=beta, zero_stage=stage)
    second.load_state(tmp_path)
    assert run(second, 2) == expected[2:]
    for (name, ours), (_, theirs) in zip(second.named_weights(), whole.named_weights(), strict=True):
        assert torch.equal(ours, theirs), name


@in_float64()
def test_a_state_before_any_update_is_that_of_the_beginning(tmp_path: Path) -> None:
    first, second = make(beta=0.0), make(beta=0.0, zero_stage=2)
    first.save_state(tmp_path)
    second.load_state(tmp_path)
    expected = [row["loss/total"] for row in run(make(beta=0.0), 2)]
    assert [row["loss/total"] for row in run(second, 2)] == pytest.approx(expected, abs=EXACT)


def test_a_state_of_other_trained_parts_is_rejected(tmp_path: Path) -> None:
    make(beta=0.0, lora=Lora(4, 8, ("q_proj",))).save_state(tmp_path)
    with pytest.raises(UsageError, match=r"of another model or of other trained parts \(.*weight: no such tensor"):
        make(beta=0.0).load_state(tmp_path)
    with pytest.raises(UsageError, match=r"lora_A.default.weight/weight: \(4, \d+\), wanted is \(2, "):
        make(beta=0.0, lora=Lora(2, 8, ("q_proj",))).load_state(tmp_path)


@pytest.mark.parametrize("stage", [0, 3])
def test_bfloat16_learns_in_float32(tmp_path: Path, stage: int) -> None:
    vlm = load_model("tiny", device="cpu", dtype="bfloat16")
    settings = EngineSettings(learning_rate=1e-6, zero_stage=stage)  # smaller steps than bfloat16 can represent
    engine = DeepSpeedEngine(vlm, hyperparameters(beta=0.0), settings, temperature=1.0)
    before = {name: tensor.clone() for name, tensor in engine.named_weights()}
    run(engine, 2)
    engine.save_state(tmp_path)
    stored = TensorReader(tmp_path, "learning")
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    learned = stored.read(f"{name}/weight", before[name].shape)
    assert learned.dtype == torch.float32
    assert 0 < (learned - before[name].float()).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("settings", "mu", "expected"),
    [
        ({"warmup_steps": 2}, 1, [0.5, 1, 1, 1]),
        ({"schedule": "linear"}, 1, [1, 0.75, 0.5, 0.25]),
        # rises over 2 updates, then falls to 0 over the remaining 2: (4 - 2) / 2, (4 - 3) / 2
        ({"schedule": "linear", "warmup_steps": 1}, 2, [0.5, 1, 1, 0.5]),
        # (1 + cos(pi n / 4)) / 2
        ({"schedule": "cosine"}, 1, [1, (2 + sqrt(2)) / 4, 0.5, (2 - sqrt(2)) / 4]),
    ],
)
def test_schedule_by_hand(settings: dict[str, Any], mu: int, expected: list[float]) -> None:
    engine = EngineSettings(learning_rate=1.0, **settings)
    assert [engine.rate(update, 4, mu) for update in range(4)] == pytest.approx(expected)
