"""LoRA: only adapters are trained, the reference is the model without them, and a plain model is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from ekipl.engine.lora import target_layers
from ekipl.errors import UsageError
from ekipl.policy.encoding import encode_prompts
from ekipl.policy.folders import base_of
from ekipl.policy.model import TINY, freeze, outline
from ekipl.policy.prefix import ActionLogProbs
from ekipl.policy.settings import Lora
from tests.float64 import EXACT, in_float64
from tests.test_engine import PROBLEMS, make, run, tiny

LORA = Lora(rank=4, alpha=8, targets=("q_proj", "down_proj"))


@pytest.mark.parametrize("settings", [{}, {"zero_stage": 3, "gradient_checkpointing": True}])
@in_float64()
def test_the_saved_model_is_the_trained_one(settings: dict[str, Any], tmp_path: Path) -> None:
    engine = make(lora=LORA, **settings)
    engine.refresh_reference()
    assert engine.reference is None
    metrics = run(engine, 3)
    assert metrics[0]["loss/kl"] == pytest.approx(0, abs=EXACT)  # adapters begin at 0
    assert metrics[2]["loss/kl"] > 1e-6
    engine.save(str(tmp_path / "model"))

    before = dict(tiny().model.named_parameters())
    opened = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    changed = {n.split(".")[-2] for n, p in opened.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"q_proj", "down_proj"}
    arguments = (
        encode_prompts(engine.vlm, PROBLEMS), torch.tensor([0, 1, 2]), torch.tensor([[30, 31, 32]] * 3),
        torch.ones(3, 3), 1,
    )  # fmt: skip
    with torch.no_grad():
        ours = engine.engine(*arguments)
        theirs = ActionLogProbs(opened.eval(), 1.0, engine.vlm.suppressed)(*arguments)
    assert (ours - theirs).abs().max() < EXACT


@in_float64()
def test_adapters_are_the_same_in_every_run_and_zero_stage() -> None:
    losses = [
        [row["loss/total"] for row in run(make(lora=LORA, **settings), 3)]
        for settings in ({}, {}, {"zero_stage": 2}, {"zero_stage": 3}, {"gradient_checkpointing": True})
    ]
    assert losses[0] == losses[1]
    for other in losses[2:]:
        assert other == pytest.approx(losses[0], rel=EXACT, abs=EXACT)


@in_float64()
def test_resuming_with_adapters_is_exact(tmp_path: Path) -> None:
    expected = run(make(lora=LORA), 4)
    first = make(lora=LORA)
    run(first, 2)
    first.save_state(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1_000_000  # the frozen weights are not in it
    second = make(lora=LORA, zero_stage=3)  # with another ZeRO stage
    second.load_state(tmp_path)
    for got, wanted in zip(run(second, 2), expected[2:], strict=True):
        assert got["loss/total"] == pytest.approx(wanted["loss/total"], rel=EXACT, abs=EXACT)
    third = make(lora=LORA)
    third.load_state(tmp_path)
    assert run(third, 2) == expected[2:]


@pytest.mark.parametrize("stage", [0, 3])
@in_float64()
def test_the_adapter_alone_is_pefts_and_adds_up_to_the_saved_model(stage: int, tmp_path: Path) -> None:
    engine = make(lora=LORA, zero_stage=stage)
    run(engine, 2)
    engine.save(str(tmp_path / "model"))
    engine.save_adapter(str(tmp_path / "adapter"))
    assert {path.name for path in (tmp_path / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert base_of(tmp_path / "adapter") == str(TINY)

    base = tiny().model
    opened = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    layers = [name for name, _ in opened.named_parameters() if ".lora_B." in name]
    assert layers
    assert all(opened.get_parameter(name).abs().max() > 0 for name in layers)  # they were trained, and found
    added, saved = opened.merge_and_unload(), AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    for name, weight in saved.named_parameters():
        assert (weight - added.get_parameter(name)).abs().max() < EXACT, name


def test_without_adapters_there_is_no_adapter_folder(tmp_path: Path) -> None:
    make().save_adapter(str(tmp_path / "adapter"))
    assert not (tmp_path / "adapter").exists()


def test_unknown_targets_are_rejected_before_weights_load() -> None:
    empty = outline("tiny")
    assert all(parameter.is_meta for parameter in empty.parameters())
    with pytest.raises(UsageError, match=r"model.lora.targets: q_prj, lm_head: no linear layer .* q_proj"):
        target_layers(empty, ("q_prj", "q_proj", "lm_head"))
    assert all("visual" not in name for name in target_layers(empty, ("q_proj",)))
    assert any("visual" in name for name in target_layers(empty, ("fc1",)))
    freeze(empty, vision=True, projector=False)
    with pytest.raises(UsageError, match="fc1: no linear layer to be trained"):
        target_layers(empty, ("fc1",))
