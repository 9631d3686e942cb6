"""The tiny model's architecture: every part of Qwen2-VL, small, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

PATCH, MERGE = 8, 2
WIDTH, LAYERS, HEADS, KEY_HEADS = 128, 4, 4, 2
BACKGROUND = 0.8  # mean of the drawn images, which becomes 0: else brightness outweighs colour in the first layer
# With a base of 8 attention does not find the same word 40 tokens back, and the model ignores the question.
ROPE_BASE = 10_000.0
VISION_WIDTH, VISION_LAYERS, VISION_HEADS = 96, 3, 3


def build_image_processor() -> Any:
    """An image of 96 x 96 pixels becomes 36 tokens, one of 480 x 320 pixels 600; larger ones are shrunk to that."""
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=2,
        min_pixels=48 * 48,
        max_pixels=480 * 320,
        image_mean=[BACKGROUND] * 3,
        image_std=[0.27] * 3,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2VLForConditionalGeneration:
    """A model with seeded random weights."""
    ids = tokenizer.get_vocab()
    eos = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_HEADS,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE, "mrope_section": [2, 7, 7]},
        },
        vision_config={
            "depth": VISION_LAYERS,
            "embed_dim": VISION_WIDTH,
            "num_heads": VISION_HEADS,
            "hidden_size": WIDTH,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2VLForConditionalGeneration(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:  # 0.02 everywhere suits widths in the thousands, not 96
                weight.normal_(0, 0.05 if "embed_tokens" in name else weight[0].numel() ** -0.5)
    model.generation_config = GenerationConfig(
        bos_token_id=ids["<|endoftext|>"], eos_token_id=eos, pad_token_id=ids["<|endoftext|>"], do_sample=True
    )
    return model
