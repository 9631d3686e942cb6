"""LoRA (arXiv 2106.09685) with peft: low-rank adapters are trained, the weights frozen; saving adds them up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ekipl.errors import UsageError
from ekipl.files import usual_modes
from ekipl.policy.settings import Lora

ADAPTER = "default"  # peft's name of the first adapter
PREFIX = "base_model.model."  # of the names of weights in peft's files


def target_layers(model: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Full names of the linear layers that ``targets`` name, without those of frozen parts and the output head.

    Raises:
        UsageError: a target names no layer.
    """
    layers = {
        name: name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head" and module.weight.requires_grad
    }
    known = sorted(set(layers.values()))
    if unknown := [target for target in targets if target not in known]:
        raise UsageError(
            f"model.lora.targets: {', '.join(unknown)}: no linear layer to be trained has this name; "
            f"those of this model are {', '.join(known) or 'all frozen'}"
        )
    return [name for name, last in layers.items() if last in targets]


def add_adapters(model: nn.Module, lora: Lora, seed: int) -> None:
    """Freeze the model and insert adapters, in place; layers of frozen parts get none. ``seed`` is that of A.

    Raises:
        UsageError: a target names no layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = target_layers(model, lora.targets)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(
            LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=names), model, ADAPTER
        )
    model.eval()


def save_adapter(lora: Lora, base: str, weights: Mapping[str, Tensor], target: Path) -> None:
    """Write an adapter folder as peft does; it appears complete or not at all.

    Args:
        lora: its settings.
        base: the model without it, as ``adapter_config.json`` names it.
        weights: of ``adapter_weights``.
        target: the folder, which is replaced.
    """
    from peft import LoraConfig

    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir(parents=True)
    save_file({f"{PREFIX}{name}": tensor for name, tensor in weights.items()}, partial / "adapter_model.safetensors")
    LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=sorted({name.rpartition(".lora_")[0] for name in weights}),
        base_model_name_or_path=base,
        inference_mode=True,
    ).save_pretrained(str(partial))
    usual_modes(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def adapter_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Copies of the adapters' weights by peft's names in files. With ZeRO-3 a collective."""
    from ekipl.engine.state import whole

    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            with whole(parameter):
                yield name.replace(f".{ADAPTER}.", "."), parameter.detach().to("cpu", copy=True).contiguous()


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Inside, the model computes without its adapters."""
    layers = adapters_of(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def adapters_of(model: nn.Module) -> dict[str, Any]:
    """The layers with adapters, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def plain_name(name: str, layers: Mapping[str, Any]) -> tuple[str | None, Any]:
    """A parameter's name in the model without adapters, and the layer whose adapter changes it, or None.

    ``q_proj.base_layer.weight`` is ``q_proj.weight``, changed by the adapter of ``q_proj``; a bias has no adapter. The
    name of an adapter's own parameter is None.
    """
    owner, _, rest = name.partition(".base_layer.")
    if rest:
        return f"{owner}.{rest}", layers[owner] if rest == "weight" else None
    return (None, None) if ".lora_" in name else (name, None)


@torch.no_grad()
def merged(layer: Any) -> Tensor:
    """The layer's weight plus its adapter, as a new tensor."""
    weight: Tensor = layer.base_layer.weight
    adapter: Tensor = layer.get_delta_weight(ADAPTER)
    return weight + adapter.to(weight.dtype)
