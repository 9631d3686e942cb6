"""Image-text models of several families, as small as can be, with random weights and the family's own processor."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoImageProcessor, AutoTokenizer

from ekipl.policy.model import TINY

Made = tuple[Any, Any, Any]  # config, processor, tokenizer
SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TILES = [[28, 56], [56, 28], [56, 56]]


def _of(family: str, name: str) -> Any:
    """A class that transformers shows only by its module: an image processor that needs no torchvision."""
    return getattr(import_module(f"transformers.models.{family}"), name)


def _tokenizer(*tokens: str, **named: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(TINY, extra_special_tokens=named)
    special = {"additional_special_tokens": [*tokens, *named.values()]}
    tokenizer.add_special_tokens(special, replace_extra_special_tokens=False)
    tokenizer.bos_token = "<|im_start|>"
    return tokenizer


def _chat(image: str) -> str:
    return (
        "{% for message in messages %}{% for part in message.content %}"
        f"{{% if part.type == 'image' %}}{image}{{% else %}}{{{{ part.text }}}}{{% endif %}}"
        "{% endfor %}{% endfor %}\n"
    )


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    return {**SIZES, "num_key_value_heads": 2, "vocab_size": len(tokenizer), **ids, **more}


def _sight(image_size: int, **more: Any) -> dict[str, Any]:
    return {**SIZES, "image_size": image_size, "patch_size": 14, **more}


def _squares(size: int) -> dict[str, Any]:
    return {"size": {"height": size, "width": size}}


def llava() -> Made:
    tokenizer = _tokenizer("<image>")
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**_sight(28)),
        text_config=transformers.LlamaConfig(**_text(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    pictures = _of("clip.image_processing_pil_clip", "CLIPImageProcessorPil")
    processor = transformers.LlavaProcessor(
        image_processor=pictures(**_squares(28), crop_size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=_chat("<image>"),
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    return config, processor, tokenizer


def llava_next() -> Made:
    tokenizer = _tokenizer("<image>")
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**_sight(28)),
        text_config=transformers.LlamaConfig(**_text(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=TILES,
    )
    pictures = _of("llava_next.image_processing_pil_llava_next", "LlavaNextImageProcessorPil")
    processor = transformers.LlavaNextProcessor(
        image_processor=pictures(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=TILES
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_chat("<image>"),
    )
    return config, processor, tokenizer


def llava_onevision() -> Made:
    tokenizer = _tokenizer("<image>", "<video>")
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**_sight(28)),
        text_config=transformers.Qwen2Config(**_text(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=TILES,
    )
    pictures = _of("llava_onevision.image_processing_pil_llava_onevision", "LlavaOnevisionImageProcessorPil")
    processor = transformers.LlavaOnevisionProcessor(
        image_processor=pictures(**_squares(28), image_grid_pinpoints=TILES),
        tokenizer=tokenizer,
        video_processor=transformers.LlavaOnevisionVideoProcessor(**_squares(28)),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=_chat("<image>"),
    )
    return config, processor, tokenizer


def pixtral() -> Made:
    tokenizer = _tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    config = transformers.LlavaConfig(
        vision_config=transformers.PixtralVisionConfig(**_sight(56)),
        text_config=transformers.MistralConfig(**_text(tokenizer, head_dim=8)),
        image_token_id=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    pictures = _of("pixtral.image_processing_pil_pixtral", "PixtralImageProcessorPil")
    processor = transformers.PixtralProcessor(
        image_processor=pictures(size={"longest_edge": 56}, patch_size={"height": 14, "width": 14}),
        tokenizer=tokenizer,
        patch_size=14,
        chat_template=_chat("[IMG]"),
    )
    return config, processor, tokenizer


def internvl() -> Made:
    named = {"start_image": "<img>", "end_image": "</img>", "context_image": "<IMG_CONTEXT>", "video": "<video>"}
    tokenizer = _tokenizer(**{f"{name}_token": token for name, token in named.items()})
    config = transformers.InternVLConfig(
        vision_config={**SIZES, "image_size": [28, 28], "patch_size": [7, 7]},
        text_config=transformers.Qwen2Config(**_text(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    pictures = _of("got_ocr2.image_processing_pil_got_ocr2", "GotOcr2ImageProcessorPil")
    processor = transformers.InternVLProcessor(
        image_processor=pictures(**_squares(28), crop_to_patches=True, max_patches=4),
        tokenizer=tokenizer,
        video_processor=transformers.InternVLVideoProcessor(**_squares(28)),
        image_seq_length=4,
        chat_template=_chat("<IMG_CONTEXT>\n"),
    )
    return config, processor, tokenizer


def mllama() -> Made:
    """Llama-3.2-Vision."""
    tokenizer = _tokenizer("<|image|>")
    sight = {"image_size": 28, "patch_size": 14, "attention_heads": 2, "num_global_layers": 1, "max_num_tiles": 4}
    sight |= {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "vision_output_dim": 48}
    shapes = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]
    config = transformers.MllamaConfig(
        vision_config={**sight, "intermediate_layers_indices": [0, 1], "supported_aspect_ratios": shapes},
        text_config=_text(tokenizer, cross_attention_layers=[1]),
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    pictures = _of("mllama.image_processing_pil_mllama", "MllamaImageProcessorPil")
    processor = transformers.MllamaProcessor(
        image_processor=pictures(**_squares(28), max_image_tiles=4),
        tokenizer=tokenizer,
        chat_template=_chat("<|image|>"),
    )
    return config, processor, tokenizer


def idefics3() -> Made:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = _tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *tiles)
    config = transformers.Idefics3Config(
        vision_config=_sight(56),
        text_config=transformers.LlamaConfig(**_text(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    pictures = _of("idefics3.image_processing_pil_idefics3", "Idefics3ImageProcessorPil")
    processor = transformers.Idefics3Processor(
        image_processor=pictures(size={"longest_edge": 112}, max_image_size={"longest_edge": 56}),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=_chat("<image>"),
    )
    return config, processor, tokenizer


def gemma3() -> Made:
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = _tokenizer(**named)
    config = transformers.Gemma3Config(
        vision_config=_sight(56),
        text_config=_text(tokenizer, head_dim=8),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        mm_tokens_per_image=4,
    )
    pictures = _of("gemma3.image_processing_pil_gemma3", "Gemma3ImageProcessorPil")
    processor = transformers.Gemma3Processor(
        image_processor=pictures(**_squares(56)),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=_chat("<start_of_image>"),
    )
    return config, processor, tokenizer


def _trained(config: Any, patch_size: int, text: dict[str, Any], vision: dict[str, Any]) -> Made:
    """Of a family that ekipl trains: image processor and tokenizer do without a processor of both."""
    tokenizer = _tokenizer()
    tokens = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    text = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 2,  # of 32 numbers each: vLLM has no smaller ones
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e4},
        **text,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "depth": 2,
        "num_heads": 2,
        "out_hidden_size": text["hidden_size"],
        "patch_size": patch_size,
        **vision,
    }
    made = config(
        vision_config=vision,
        text_config=_text(tokenizer, **text),
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in tokens.items()},
    )
    return made, AutoImageProcessor.from_pretrained(TINY, backend="pil", patch_size=patch_size), tokenizer


def qwen25_vl() -> Made:
    """With windowed attention in the vision tower."""
    return _trained(transformers.Qwen2_5_VLConfig, 8, {}, {"fullatt_block_indexes": [1], "window_size": 32})


def qwen3_vl() -> Made:
    """With features of two layers of the vision tower added in the first two layers of the language model."""
    rope = {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True, "rope_theta": 1e4}
    text = {"num_hidden_layers": 3, "head_dim": 32, "rope_parameters": rope}
    vision = {"depth": 3, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
    return _trained(transformers.Qwen3VLConfig, 16, text, vision)


TRAINED: dict[str, Callable[[], Made]] = {made.__name__: made for made in (qwen25_vl, qwen3_vl)}  # beside ``tiny``
EVALUATED: dict[str, Callable[[], Made]] = {
    made.__name__: made for made in (llava, llava_next, mllama, idefics3, gemma3)
}
WITH_TORCHVISION: dict[str, Callable[[], Made]] = {  # what their processors ask for
    made.__name__: made for made in (llava_onevision, internvl, pixtral)
}


def save(made: Made, folder: Path) -> Path:
    """The model with random weights, as ``save_pretrained`` leaves any."""
    config, processor, tokenizer = made
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)
    return folder
