"""A damaged model folder is rejected in one line; missing weights are not replaced by random numbers."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ekipl.errors import UsageError
from ekipl.policy.encoding import encode_prompts
from ekipl.policy.model import TINY, embed_patches_by_product, load_model
from tests.float64 import EXACT, in_float64
from tests.test_prefix import PROBLEMS


def rewrite(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def without_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[min(name for name in weights if "visual" in name)]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def of_another_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = min(name for name in weights if "visual" in name)
    weights[name] = weights[name][:-1].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut_off(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def pickled_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_a_tensor, "1 of its weights are missing or of another shape, "),
        (of_another_shape, "1 of its weights are missing or of another shape, "),
        (cut_off, "cannot be loaded: "),
        (pickled_only, "cannot be loaded: "),
        (without_template, "its tokenizer has no chat template"),
        (rewrite("config.json", "[]"), "cannot be loaded: "),
        (rewrite("config.json", '{"a":'), "cannot be loaded: "),
        (rewrite("config.json", '{"model_type": "qwen2"}'), "cannot be loaded: "),
        (rewrite("preprocessor_config.json", "{"), "cannot be loaded: "),
        (rewrite("tokenizer.json", "{"), "cannot be loaded: "),
        (
            lambda folder: (folder / "tokenizer_config.json").unlink(),
            "not a model folder: tokenizer_config.json missing",
        ),
    ],
)
def test_a_damaged_model_is_rejected_in_one_line(damage: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    damage(folder)
    with pytest.raises(UsageError) as refused:
        load_model(str(folder), device="cpu")
    line = str(refused.value)
    assert line.startswith(f"model.path: {folder}: {reason}")
    assert line.endswith("; give a folder written by save_pretrained (ekipl train writes one at RUN/model)")
    assert line.isprintable()


@in_float64()
def test_patches_embedded_by_a_product_are_those_of_the_convolution() -> None:
    vlm = load_model("tiny", device="cpu", dtype="float64")
    model, prompts = vlm.model, encode_prompts(vlm, PROBLEMS)
    layer = model.model.visual.patch_embed

    def embedded_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        seen = layer(prompts.pixel_values)
        seen.square().sum().backward()
        return seen.detach(), layer.proj.weight.grad.clone()

    before = embedded_and_gradient()
    embed_patches_by_product(model)
    after = embedded_and_gradient()
    for ours, theirs in zip(after, before, strict=True):
        assert (ours - theirs).norm() < EXACT * theirs.norm()
    other = copy.deepcopy(model)
    torch.nn.init.zeros_(other.model.visual.patch_embed.proj.weight)
    assert (layer(prompts.pixel_values) - before[0]).norm() < EXACT * before[0].norm()  # a copy has weights of its own
    assert other.model.visual.patch_embed(prompts.pixel_values).abs().max() == 0
