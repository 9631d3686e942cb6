"""Load a vision-language model with its tokenizer and image processor.

The processor class of Qwen2-VL requires torchvision for videos, which are not used here. So image processor, tokenizer
and chat template are loaded one by one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from ekipl.errors import UsageError
from ekipl.files import usual_modes
from ekipl.policy.family import built_as, family_of
from ekipl.policy.folders import MODEL, content, weights_fault

PUBLISHED = Path(__file__).with_name("published.json")  # sizes of published checkpoints
TINY = Path(__file__).parents[1] / "tiny" / "checkpoint"
_WAY_OUT = "; give a folder written by save_pretrained (ekipl train writes one at RUN/model)"


@dataclass(frozen=True)
class Encoded:
    """One prompt, on the CPU.

    Attributes:
        ids: token ids, with one placeholder for each feature of the images.
        pixels: (patches, patch dimension) of its images, or None without images.
        grid: (images, 3) patches as (time, height, width), or None.
    """

    ids: tuple[int, ...]
    pixels: Tensor | None
    grid: Tensor | None


@dataclass(frozen=True)
class VLM:
    """A model with its tokenizer and image processor.

    Attributes:
        eos: all token ids that end a turn; ``end_of_turn`` is the one in the chat template.
        suppressed: token ids that the policy never emits: a sampled image placeholder would have no image features.
        encoded: cache of prompts by the ``id()`` of their problem, so that sampling and training encode each once.
    """

    model: Any  # a transformers model with ``model`` (backbone) and ``lm_head``
    tokenizer: Any
    image_processor: Any
    path: str
    end_of_turn: int
    eos: frozenset[int]
    suppressed: tuple[int, ...]
    image_token: int
    encoded: dict[int, Encoded] = field(default_factory=dict, repr=False, compare=False)

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device


def resolve_path(path: str) -> str:
    """The folder or hub name that ``path`` means; ``tiny`` is the checkpoint in the package.

    Raises:
        UsageError: no such folder, or no model in it.
    """
    if path == "tiny":
        return str(TINY)
    folder = Path(path).expanduser()
    if content(folder) != "model" and (folder / MODEL / "config.json").is_file():  # of a run, checkpoint or adapter
        folder = folder / MODEL
    if folder.is_dir():
        if missing := [name for name in ("config.json", "tokenizer_config.json") if not (folder / name).is_file()]:
            raise UsageError(f"model.path: {path}: not a model folder: {', '.join(missing)} missing{_WAY_OUT}")
        return str(folder)
    if folder.is_absolute() or path.startswith((".", "~")) or path.count("/") != 1:
        raise UsageError(
            f"model.path: {path}: no such folder; give a model folder or a hub name such as Qwen/Qwen2-VL-2B"
        )
    return path


def load_model(
    path: str,
    *,
    dtype: str = "float32",
    attention: str = "sdpa",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    trust_remote_code: bool = False,
    device: str | None = None,
    weights: bool = True,
) -> VLM:
    """Load a model of one of the families that ekipl trains (``family.py``).

    Args:
        path: folder or hub name; ``tiny`` is the checkpoint in the package.
        dtype: ``float32``, ``bfloat16``, or ``float64`` (in tests of formulas).
        attention: ``sdpa``, ``eager`` or ``flash_attention_2``.
        min_pixels: images are enlarged to at least this many pixels; None leaves the model's own limit.
        max_pixels: images are shrunk to at most this many pixels; None leaves the model's own limit.
        trust_remote_code: run code that comes with the model.
        device: ``cpu``, ``cuda``...; None takes a GPU where there is one.
        weights: False loads only the ``outline``, which is enough to encode prompts for another sampler.

    Raises:
        UsageError: no model, a damaged one, or one of another family.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # what it would warn about is an error below
    folder = resolve_path(path)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    pixels = {k: v for k, v in (("min_pixels", min_pixels), ("max_pixels", max_pixels)) if v is not None}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **options)
        image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **pixels, **options)
        if weights:
            model, report = _with_weights(folder, dtype=getattr(torch, dtype), attn_implementation=attention, **options)
        else:
            model, report = outline(path, trust_remote_code), {"missing_keys": (), "mismatched_keys": ()}
            with suppress(OSError):  # the file is optional
                model.generation_config = GenerationConfig.from_pretrained(folder)
    except Exception as error:  # transformers raises many classes for damaged files
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"model.path: {path}: cannot be loaded: {reason.rstrip('.')}{_WAY_OUT}") from error
    if fault := _fault(model, tokenizer, report):
        raise UsageError(f"model.path: {path}: {fault}{_WAY_OUT}")
    if weights:
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.eval()
    return VLM(
        model=model,
        tokenizer=tokenizer,
        image_processor=image_processor,
        path=folder,
        end_of_turn=tokenizer.eos_token_id,
        eos=_eos_ids(model, tokenizer),
        suppressed=_suppressed(tokenizer, built_as(model).placeholders),
        image_token=model.config.image_token_id,
    )


def _with_weights(folder: str, **options: Any) -> tuple[Any, Mapping[str, Any]]:
    """The model, and the names of weights that are missing or of another shape, which ``_fault`` rejects."""
    model, report = AutoModelForImageTextToText.from_pretrained(
        folder, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **options
    )
    return model, report


def outline(path: str, trust_remote_code: bool = False, *, published: bool = False) -> Any:
    """The model at ``path`` on the meta device: modules and parameters with names and shapes, but no weights.

    With ``published`` the sizes in ``published.json`` replace the download of a configuration.
    """
    known = json.loads(PUBLISHED.read_text()) if published else {}
    if path in known:
        config = AutoConfig.for_model(**known[path])
    else:
        config = AutoConfig.from_pretrained(resolve_path(path), trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, trust_remote_code=trust_remote_code)


def check_folder(path: str, folder: Path, trust_remote_code: bool = False) -> None:
    """Raises UsageError when the model in ``folder``, given as ``path``, cannot be loaded; reads no weights."""
    if path == "tiny":
        return
    fault = weights_fault(folder)
    if fault is None:
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
            if family_of(config) is not None:
                AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=trust_remote_code)
            return
        except Exception as error:  # transformers raises many classes for damaged files
            fault = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    raise UsageError(f"models: {path}: cannot be loaded: {fault}{_WAY_OUT}")


def save_model(vlm: VLM, weights: Mapping[str, Any], target: Path) -> None:
    """Write a model folder for transformers and ``vllm serve``; it appears complete or not at all."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    vlm.model.save_pretrained(partial, state_dict=weights)
    vlm.tokenizer.save_pretrained(partial)
    vlm.image_processor.save_pretrained(partial)
    usual_modes(partial)
    partial.rename(target)


def freeze(model: Any, *, vision: bool, projector: bool) -> None:
    """Exclude the vision tower, the projector, or both from training."""
    family = built_as(model)
    for name, parameter in model.model.named_parameters():
        if name.startswith(tuple(f"{part}." for part in family.projector)):
            frozen = projector
        else:
            frozen = vision and name.startswith(f"{family.vision}.")
        if frozen:
            parameter.requires_grad_(False)


def embed_patches_by_product(model: Any) -> None:
    """Compute the patch embedding as a matrix product: its convolution has one kernel position per patch.

    Six times faster on a CPU, and equal up to rounding. The layer, its weights and their names stay.
    """
    layer = model.model.get_submodule(built_as(model).patch_embedding)
    layer.forward = MethodType(_product, layer)  # a bound method, so that a deep copy uses its own weights


def _product(layer: nn.Conv3d, patches: Tensor) -> Tensor:
    """(n, channels, frames, height, width) -> (n, width of the tower)."""
    return functional.linear(patches.flatten(1), layer.weight.flatten(1), layer.bias)


def _fault(model: Any, tokenizer: Any, report: Mapping[str, Any]) -> str | None:
    """The reason why a loaded model cannot be used, or None. transformers fills missing weights with random numbers."""
    absent = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if absent:
        return f"{len(absent)} of its weights are missing or of another shape, {absent[0]} among them"
    if family_of(model.config) is None:
        return f"{model.config.model_type}: not built like Qwen2-VL, which is what ekipl trains"
    return None if tokenizer.chat_template else "its tokenizer has no chat template"


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """All ids that end a turn: Qwen's generation config has two."""
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)


def _suppressed(tokenizer: Any, placeholders: Iterable[str]) -> tuple[int, ...]:
    vocabulary = tokenizer.get_vocab()
    return tuple(sorted(vocabulary[token] for token in placeholders if token in vocabulary))
