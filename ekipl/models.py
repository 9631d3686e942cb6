"""Load a vision-language model with its tokenizer and image processor; problems -> tensors.

The processor class of Qwen2-VL needs torchvision for its video part; images alone do not. So the three pieces that
matter here (image processor, tokenizer, chat template) are used as they are.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
from transformers.utils import logging as transformers_logging

from ekipl.actions import Problem
from ekipl.errors import UsageError

TINY = Path(__file__).parent / "tiny" / "checkpoint"
_WAY_OUT = "; give a folder written by save_pretrained (ekipl train writes one at RUN/model)"
_TEXT_SLOT = "\ue000ekipl-text\ue000"  # stands for the user's text while the chat template is rendered
PLACEHOLDERS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")


@dataclass(frozen=True)
class VLM:
    """A model with what turns problems into its inputs.

    Attributes:
        eos: every token id that ends a turn; ``end_of_turn`` is the one the chat format writes.
        suppressed: ids the policy must never emit: a sampled image placeholder would have no image features.
        encoded: the prompts of the problems at hand by their ``id()``: sampling and learning pre-process an image once.
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


@dataclass(frozen=True)
class Encoded:
    """One prompt, on the CPU.

    Attributes:
        ids: token ids, as many placeholders among them as the images have features.
        pixels: (patches, patch dimension) of its images, or None without images.
        grid: (images, 3) patches as (time, height, width), or None.
    """

    ids: tuple[int, ...]
    pixels: Tensor | None
    grid: Tensor | None


@dataclass(frozen=True)
class Prompts:
    """P prompts, padded on the left to L tokens.

    Attributes:
        input_ids: (P, L).
        attention_mask: (P, L), 1 on tokens.
        token_types: (P, L), 1 on image placeholders.
        pixel_values: (patches of all images, patch dimension), or None without images.
        image_grid: (images, 3) patches as (time, height, width), or None.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_types: Tensor
    pixel_values: Tensor | None
    image_grid: Tensor | None

    def to(self, device: torch.device) -> Prompts:
        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device)

        return Prompts(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.token_types.to(device),
            move(self.pixel_values),
            move(self.image_grid),
        )


def resolve_path(path: str) -> str:
    """``tiny`` is the checkpoint in the package; an existing folder must hold a model; anything else is a hub name."""
    if path == "tiny":
        return str(TINY)
    folder = Path(path).expanduser()
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
) -> VLM:
    """Load any image-text model that transformers' Auto classes know; the tiny model takes the same way.

    Args:
        path: folder or hub name; ``tiny`` is the checkpoint in the package.
        dtype: ``float32`` or ``bfloat16``.
        attention: ``sdpa``, ``eager`` or ``flash_attention_2``.
        min_pixels: images are enlarged to at least this many pixels; None leaves the model's own limit.
        max_pixels: images are shrunk to at most this many pixels; None leaves the model's own limit.
        trust_remote_code: run code that comes with the model.
        device: ``cpu``, ``cuda``...; None takes a GPU where there is one.

    Raises:
        UsageError: the folder is not a model's, or not one of the family.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # what it warns of is refused below
    folder = resolve_path(path)
    options = {"trust_remote_code": trust_remote_code}
    pixels = {k: v for k, v in (("min_pixels", min_pixels), ("max_pixels", max_pixels)) if v is not None}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **options)
        image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **pixels, **options)
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported, and refused below in one line
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # of many classes, each for another fault of the files: the user's to act on
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"model.path: {path}: cannot be loaded: {reason.rstrip('.')}{_WAY_OUT}") from error
    if fault := _fault(model, tokenizer, report):
        raise UsageError(f"model.path: {path}: {fault}{_WAY_OUT}")
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.eval()
    return VLM(
        model=model,
        tokenizer=tokenizer,
        image_processor=image_processor,
        path=folder,
        end_of_turn=tokenizer.eos_token_id,
        eos=_eos_ids(model, tokenizer),
        suppressed=_suppressed(tokenizer),
        image_token=model.config.image_token_id,
    )


def outline(path: str, trust_remote_code: bool = False) -> Any:
    """The model at ``path`` without weights, in no time and memory: what its modules and parameters are called."""
    config = AutoConfig.from_pretrained(resolve_path(path), trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, trust_remote_code=trust_remote_code)


def freeze(model: Any, *, tower: bool, projector: bool) -> None:
    """Keep the vision tower as it is, the projector from it to the language model, both or neither."""
    for name, parameter in model.model.visual.named_parameters():
        if projector if name.startswith("merger.") else tower:
            parameter.requires_grad_(False)


def embed_patches_by_product(model: Any) -> None:
    """Spare the vision tower its convolution: where a kernel is a whole patch, a matrix product says the same.

    Six times faster on a CPU; equal but for rounding. The layer, its weights and their names stay as they are.
    """
    layer = model.model.visual.patch_embed.proj
    layer.forward = MethodType(_product, layer)  # a method, so that a copy of the model uses its own weights


def _product(layer: nn.Conv3d, patches: Tensor) -> Tensor:
    """(n, channels, frames, height, width) -> (n, width of the tower)."""
    return functional.linear(patches.flatten(1), layer.weight.flatten(1), layer.bias)


def _fault(model: Any, tokenizer: Any, report: Mapping[str, Any]) -> str | None:
    """Why a model that transformers has loaded cannot be used: it would fill absent weights with random numbers."""
    absent = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if absent:
        return f"{len(absent)} of its weights are missing or of another shape, {absent[0]} among them"
    if not hasattr(model.model, "get_rope_index"):
        return f"{model.config.model_type}: not built like Qwen2-VL, which is what ekipl trains"
    return None if tokenizer.chat_template else "its tokenizer has no chat template"


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """All end-of-sequence ids: the generation config of Qwen names two."""
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)


def _suppressed(tokenizer: Any) -> tuple[int, ...]:
    vocabulary = tokenizer.get_vocab()
    return tuple(sorted(vocabulary[token] for token in PLACEHOLDERS if token in vocabulary))


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Ids of plain text: special tokens written in it (``<|im_end|>``, ``<|image_pad|>``) stay text."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def encode_prompts(vlm: VLM, problems: Sequence[Problem]) -> Prompts:
    """Chat-format prompts, images first, with as many placeholders as an image has features. On the model's device.

    Raises:
        UsageError: an image is too long and thin for the model.
    """
    prompts = [encode_prompt(vlm, problem) for problem in problems]
    length = max(len(prompt.ids) for prompt in prompts)
    pad = vlm.tokenizer.pad_token_id
    input_ids = torch.tensor([[*[pad] * (length - len(p.ids)), *p.ids] for p in prompts])  # (P, L)
    mask = torch.tensor([[0] * (length - len(p.ids)) + [1] * len(p.ids) for p in prompts])  # (P, L)
    types = (input_ids == vlm.image_token).long() * mask  # (P, L)
    pixels = [p.pixels for p in prompts if p.pixels is not None]
    grids = [p.grid for p in prompts if p.grid is not None]
    joined = (torch.cat(pixels), torch.cat(grids)) if pixels else (None, None)
    return Prompts(input_ids, mask, types, *joined).to(vlm.device)


def encode_prompt(vlm: VLM, problem: Problem) -> Encoded:
    """The problem's prompt, made once in the life of ``problem``.

    Raises:
        UsageError: an image is too long and thin for the model.
    """
    key = id(problem)
    if key not in vlm.encoded:
        try:
            pixels, grid = _images(vlm, problem.images)
        except ValueError as error:  # an aspect ratio that the model has no patches for
            raise UsageError(f"data: an image of {problem.id}: {error}; leave out its row") from error
        ids = _prompt_ids(vlm, problem, [] if grid is None else _features(vlm, grid))
        vlm.encoded[key] = Encoded(tuple(ids), pixels, grid)
        weakref.finalize(problem, vlm.encoded.pop, key, None).atexit = False
    return vlm.encoded[key]


def _images(vlm: VLM, images: Sequence[Image.Image]) -> tuple[Tensor | None, Tensor | None]:
    """Pixel patches and grids of a problem's images."""
    if not images:
        return None, None
    features = vlm.image_processor(images=list(images), return_tensors="pt")
    return features["pixel_values"], features["image_grid_thw"]


def _features(vlm: VLM, grid: Tensor) -> list[int]:
    """Language-model tokens of each image: patches / merge^2."""
    merge: int = vlm.image_processor.merge_size
    return [int(g.prod()) // merge**2 for g in grid]


def _prompt_ids(vlm: VLM, problem: Problem, features: Sequence[int]) -> list[int]:
    """Template around the problem's text; only the template's own special tokens become special."""
    content = [{"type": "image"}] * len(problem.images) + [{"type": "text", "text": _TEXT_SLOT}]
    rendered: str = vlm.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    head, tail = rendered.split(_TEXT_SLOT)
    ids: list[int] = []
    remaining = list(features)
    for token in vlm.tokenizer(head, add_special_tokens=False)["input_ids"]:
        ids += [token] * (remaining.pop(0) if token == vlm.image_token else 1)
    ids += encode_text(vlm.tokenizer, problem.prompt)
    ids += vlm.tokenizer(tail, add_special_tokens=False)["input_ids"]
    return ids
