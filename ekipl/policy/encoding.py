"""Problems and answers as the model's inputs: token ids, pixel patches and image grids.

Special tokens come from the chat template alone. A special token that is written in a question or an answer is encoded
as plain text.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ekipl.algorithm.types import Problem
from ekipl.errors import UsageError
from ekipl.policy.model import VLM, Encoded

_TEXT_SLOT = "\ue000ekipl-text\ue000"  # replaces each of the user's texts while the chat template is rendered


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


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of plain text: special tokens written in it (``<|im_end|>``, ``<|image_pad|>``) are text too."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def encode_spans(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids of ``encode_text``, and the characters of ``text`` that each stands for, from and up to."""
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]


def encode_prompts(vlm: VLM, problems: Sequence[Problem]) -> Prompts:
    """Chat-format prompts on the model's device, with one placeholder for each feature of an image.

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
    """The problem's prompt. It is cached for the lifetime of ``problem``: sampling and training encode it once.

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
    """Pixel patches and grids of a problem's images, None without images."""
    if not images:
        return None, None
    features = vlm.image_processor(images=list(images), return_tensors="pt")
    return features["pixel_values"], features["image_grid_thw"]


def _features(vlm: VLM, grid: Tensor) -> list[int]:
    """Tokens of each image: patches / merge^2."""
    merge: int = vlm.image_processor.merge_size
    return [int(g.prod()) // merge**2 for g in grid]


def _prompt_ids(vlm: VLM, problem: Problem, features: Sequence[int]) -> list[int]:
    """The chat template's tokens around the text's tokens, each image's placeholder repeated for its features."""
    texts = [part for part in problem.parts if isinstance(part, str)]
    content = [
        {"type": "text", "text": _TEXT_SLOT} if isinstance(part, str) else {"type": "image"} for part in problem.parts
    ]
    rendered: str = vlm.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = []
    remaining = list(features)
    for number, piece in enumerate(rendered.split(_TEXT_SLOT)):
        ids += encode_text(vlm.tokenizer, texts[number - 1]) if number else []
        for token in vlm.tokenizer(piece, add_special_tokens=False)["input_ids"]:
            ids += [token] * (remaining.pop(0) if token == vlm.image_token else 1)
    return ids
