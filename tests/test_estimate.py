"""What ``--dry-run`` prints of memory and work, by hand."""

from __future__ import annotations

import copy

import pytest

from ekipl.config import Settings, check
from ekipl.engine.lora import add_adapters
from ekipl.policy.model import load_model
from ekipl.policy.settings import Lora
from ekipl.report.estimate import (
    PUBLISHED,
    Part,
    memory,
    micro_batch,
    passing,
    prompt_tokens,
    size_of,
    states,
    work,
)
from tests.test_config import _keys, composed

__all__ = ["_keys"]
SPATIAL_7B = ["task=spatial", "model=qwen2vl_7b", "B=4286"]


def settings(*overrides: str) -> Settings:
    return check(composed("train", *overrides), "train")


def named(parts: list[Part]) -> dict[str, float]:
    return {part.name: part.gpu for part in parts}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [  # as in the index of the published weight files, bytes / 2
        ("qwen2vl_2b", 2_208_985_600),
        ("qwen2vl_7b", 8_291_375_616),
        ("qwen25vl_3b", 3_754_622_976),
        ("qwen25vl_7b", 8_292_166_656),
    ],
)
def test_published_models_have_their_published_sizes(model: str, parameters: int) -> None:
    mine = settings(f"model={model}").model
    assert mine.path in PUBLISHED
    size = size_of(mine)
    assert size is not None
    assert (size.parameters, size.trained) == (parameters, parameters)
    assert size.keys == {"2b": 256, "3b": 256, "7b": 512}[model[-2:]]  # 2 or 4 key-value heads of 128


def test_only_what_learns_is_counted_as_trained() -> None:
    size = size_of(settings("model=qwen2vl_2b", "model.lora.rank=16").model)
    assert size is not None
    # a layer: q and o 1536 + 1536, k and v 1536 + 256, gate, up and down 1536 + 8960; 28 layers of rank 16
    assert size.trained == 28 * 16 * (2 * 3072 + 2 * 1792 + 3 * 10496) == 18_464_768
    frozen = size_of(settings("model=qwen2vl_2b", "model.freeze_vision=true", "model.freeze_projector=true").model)
    assert frozen is not None
    assert frozen.parameters - frozen.trained == 665_271_296  # tower and projector
    assert frozen.tower is None


def test_a_folder_is_measured_as_it_is_trained() -> None:
    policy = load_model("tiny", device="cpu").model
    adapted = copy.deepcopy(policy)
    targets = ("q_proj", "down_proj")
    add_adapters(adapted, Lora(4, 8.0, targets), seed=0)
    size = size_of(settings("model.lora.rank=4", f"model.lora.targets=[{','.join(targets)}]").model)
    assert size is not None
    assert size.parameters == sum(p.numel() for p in policy.parameters())
    assert size.trained == sum(p.numel() for name, p in adapted.named_parameters() if ".lora_" in name)
    assert size_of(settings("model=qwen2vl_7b", "model.path=nobody/nothing").model) is None


def test_weights_gradients_and_state_by_hand() -> None:
    mine = settings(*SPATIAL_7B)  # bfloat16, ZeRO-3, 7 GPUs
    size = size_of(mine.model)
    assert size is not None
    whole = 8_291_375_616
    assert named(states(mine, size)) == {
        "weights": whole * 2 / 7,
        "gradients": whole * 2 / 7,
        "AdamW, float32": whole * 12 / 7,  # weights and two moments
        "reference": whole * 2 / 7,
        "copy that samples": whole * 2,
        "gathered at once": 2e9,
        "bucket of gradients": 1e9,
    }
    replicated = settings("model=tiny", "engine.num_processes=2")  # float32, ZeRO-0
    tiny = size_of(replicated.model)
    assert tiny is not None
    assert named(states(replicated, tiny)) == {
        "weights": tiny.parameters * 4,
        "gradients": tiny.parameters * 4,
        "AdamW, float32": tiny.parameters * 8,  # two moments
        "reference": tiny.parameters * 4,
    }
    assert "reference" not in named(states(settings("beta=0"), tiny))
    vllm = named(states(settings("model=tiny", "rollout=vllm", "rollout.cache_gib=0.5"), tiny))
    assert vllm["copy that samples"] == tiny.parameters * 4
    assert vllm["keys and values of vLLM"] == 0.5 * 2**30


def test_what_is_offloaded_is_on_the_cpu() -> None:
    offload = ["engine.offload_optimizer=true", "engine.offload_parameters=true", "model.lora.rank=16"]
    mine = settings(*SPATIAL_7B, *offload)
    size = size_of(mine.model)
    assert size is not None
    # a layer: q and o 3584 + 3584, k and v 3584 + 512, gate, up and down 3584 + 18944; 28 layers of rank 16
    adapters = 28 * 16 * (2 * 7168 + 2 * 4096 + 3 * 22528)
    parts = {part.name: part for part in states(mine, size)}
    assert "reference" not in parts  # the model without its adapters is one
    assert {name: part.cpu for name, part in parts.items() if part.cpu} == {
        "weights": 8_291_375_616 * 2 / 7,
        "gradients": adapters * 2 / 7,
        "AdamW, float32": adapters * 12 / 7,
    }
    assert sum(part.gpu for part in parts.values()) == 8_291_375_616 * 2 + 2e9 + 1e9


def test_activations_by_hand() -> None:
    mine = settings(*SPATIAL_7B, "engine.gradient_checkpointing=false")
    size = size_of(mine.model)
    assert size is not None
    # 480,000 pixels are 612 tokens of 28 x 28 and 2,448 patches; two images, 700 tokens of text
    assert prompt_tokens(mine, "spatial") == 2 * 612 + 700 == 1924
    assert micro_batch(mine, "spatial") == (1, 16)  # one problem, G = 16 of 8 x 3 candidates
    assert named(passing(mine, size, "spatial")) == {
        "activations": (1924 + 16 * 512) * 3584 * 28 * 34,
        "activations, tower": 2 * 2448 * 1280 * 32 * 34,
        "keys and values": 16 * (1924 + 512) * 2 * 512 * 28 * 2,
        "logits, float32": (4 + 2) * 2**26 * 4,  # 16 x 512 x 152,064 of them in all
    }
    again = named(passing(settings(*SPATIAL_7B), size, "spatial"))
    assert again["activations"] == (1924 + 16 * 512) * 3584 * (28 * 2 + 34)  # all inputs, one layer's inside
    assert again["activations, tower"] == 2 * 2448 * 1280 * (32 * 2 + 34)


@pytest.mark.parametrize(
    ("overrides", "problems", "actions"),
    [
        ("", 4, 64),  # of 12 problems, 16 actions each
        ("M=0", 4, 32),  # only 8 candidates
        ("engine.num_processes=6", 2, 32),  # 2 problems a process
        ("engine.accumulation=6", 2, 32),  # 12 in 6 passes
        ("method=ans_sft", 4, 4),  # a demonstration each
        # 96 x 96 pixels: 11 tokens, with the text 131; answers of 96
        ("engine.micro_batch_tokens=1000", 1, 9),  # 131 + 9 x 96 = 995
        ("engine.micro_batch_tokens=600", 2, 3),  # 2 x 131 + 3 x 96 = 550
        ("engine.micro_batch_tokens=10", 1, 1),  # a prompt with one action is never cut
    ],
)
def test_a_micro_batch_is_bounded_by_problems_and_tokens(overrides: str, problems: int, actions: int) -> None:
    assert micro_batch(settings(*overrides.split()), "counting") == (problems, actions)


def test_work_by_hand() -> None:
    table = work(settings(*SPATIAL_7B), "spatial")
    number = {row[0]: row[1] for row in table.rows}
    # 4,286 steps of 14 problems; 8 samples each of the policy and of two others; the 16 best are trained on
    assert number["problems"] == f"{4286 * 14:,}" == "60,004"
    assert number["policy samples"] == f"{60_004 * 8:,}"
    assert number["external samples"] == f"{60_004 * 16:,}"
    assert number["actions trained on"] == f"{60_004 * 16:,}"
    assert number["prompt tokens"] == f"{60_004 * 1924:,}"
    assert number["tokens sampled"] == f"{60_004 * 8 * 512:,}"
    assert settings("method=cot_sft").candidates == (0, 1)


def test_a_model_of_unknown_size_is_said_to_be() -> None:
    table = memory(settings("model=qwen2vl_7b", "model.path=nobody/nothing"), "counting")
    assert (list(table.rows), list(table.notes)) == ([], ["nobody/nothing: its size is not known without a download"])
    known = memory(settings(*SPATIAL_7B), "spatial")
    assert known.rows[-1][0] == "sum"
    assert float(known.rows[-1][1]) == pytest.approx(sum(float(row[1]) for row in known.rows[:-1]), abs=0.06)
