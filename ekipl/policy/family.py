"""Everything that differs between model families. A new family is one entry of ``FAMILIES``.

All families here are transformers models with a backbone ``model`` and an output head ``lm_head``. The backbone has a
vision tower, a projector from its features to the width of the language model, and the language model. The names below
are those of modules in the backbone.

An entry promises that the shared prefix, the decoder, recomputation and LoRA work for the family: the tests run all of
them over every entry. Models of other families can be evaluated (``generate.py``), not trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def mrope(
    backbone: Any, input_ids: Tensor, attention_mask: Tensor, token_types: Tensor, image_grid: Tensor | None
) -> Tensor:
    """Multimodal rotary positions (time, height, width) of P prompts padded on the left to L tokens.

    Args:
        backbone: its ``get_rope_index`` places images in time, height and width.
        input_ids: (P, L).
        attention_mask: (P, L), 1 on tokens.
        token_types: (P, L), 1 on image placeholders.
        image_grid: (images, 3), or None without images: then all three are the number of the token.

    Returns:
        (3, P, L).
    """
    if image_grid is None:
        text = (attention_mask.cumsum(-1) - 1).clamp(min=0)  # (P, L)
        return text.expand(3, -1, -1)
    positions: Tensor = backbone.get_rope_index(
        input_ids, mm_token_type_ids=token_types, image_grid_thw=image_grid, attention_mask=attention_mask
    )[0]
    return positions


@dataclass(frozen=True)
class Family:
    """How the models of one family are built.

    Attributes:
        vision: the vision tower.
        vision_layers: its layers.
        vision_width: the key of its width in the vision config.
        patch_embedding: the convolution over pixels; its kernel is one patch, so a matrix product can replace it.
        projector: the modules that ``freeze_projector`` freezes; ``freeze_vision`` freezes the rest of ``vision``.
        language_model: has ``embed_tokens``, ``rotary_emb``, ``layers`` and ``norm``.
        positions: of prompts; see ``mrope`` for its arguments.
        axes: numbers in the position of a token.
        placeholders: tokens that stand for pixels. The policy never emits them: they would have no features.
        vllm: whether tests/test_vllm.py has shown that vLLM samples from the same weights as the engine trains.
    """

    vision: str = "visual"
    vision_layers: str = "visual.blocks"
    vision_width: str = "hidden_size"
    patch_embedding: str = "visual.patch_embed.proj"
    projector: tuple[str, ...] = ("visual.merger",)
    language_model: str = "language_model"
    positions: Callable[[Any, Tensor, Tensor, Tensor, Tensor | None], Tensor] = mrope
    axes: int = 3
    placeholders: tuple[str, ...] = (
        "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    )  # fmt: skip
    vllm: bool = False

    def completion_positions(self, first: Tensor, length: int) -> Tensor:
        """Positions of ``length`` tokens from the positions ``first`` (A,) on: (axes, A, length)."""
        steps = torch.arange(length, device=first.device)
        return (first[:, None] + steps).expand(self.axes, -1, -1)

    def vision_shape(self, config: Any) -> tuple[int, int]:
        """Width and number of layers of the vision tower."""
        return getattr(config.vision_config, self.vision_width), config.vision_config.depth

    def patches_per_token(self, config: Any) -> int:
        """Patches that the projector merges into one token of the language model."""
        merge: int = config.vision_config.spatial_merge_size
        return merge**2

    def pixels_per_token(self, config: Any) -> int:
        """Pixels of an image that become one token of the language model."""
        patch: int = config.vision_config.patch_size
        return patch**2 * self.patches_per_token(config)


FAMILIES = {  # by model_type in config.json
    "qwen2_vl": Family(vision_width="embed_dim", vllm=True),
    "qwen2_5_vl": Family(vllm=True),
    # Features of three layers of the tower, each with a projector of its own, are added in the first layers of the
    # language model, at the image's tokens: the prompt's forward pass does it, completions have no such tokens.
    "qwen3_vl": Family(projector=("visual.merger", "visual.deepstack_merger_list")),
}


def family_of(config: Any) -> Family | None:
    """The family of a model with this configuration; None when ekipl can evaluate it, not train it."""
    return FAMILIES.get(config.model_type)


def built_as(model: Any) -> Family:
    """The family of a model that ``load_model`` has accepted."""
    return FAMILIES[model.config.model_type]
