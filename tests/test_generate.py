"""Evaluation of models that are not the policy's family, on a Llava as small as can be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from ekipl.actions import Problem
from ekipl.interfaces import Decoding
from ekipl.models import TINY
from ekipl.rollout.generate import GenerateSampler, is_other

CHAT = (
    "{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|image_pad|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}\n"
)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, saved as any model is."""
    from transformers import (
        AutoTokenizer,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llava")
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    sight = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    text = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=len(tokenizer)
    )
    image_token = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    config = LlavaConfig(vision_config=sight, text_config=text, image_token_id=image_token, image_seq_length=4)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    pictures = CLIPImageProcessorPil(size={"height": 28, "width": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=CHAT,
        image_token="<|image_pad|>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def problem(name: str, shade: int = 0) -> Problem:
    image = Image.new("RGB", (28, 28), (shade, shade, shade))
    return Problem(name, "counting", "id", (image,), "How many?", "How many?", "3", "number")


def test_the_policys_own_family_is_told_apart(llava: Path) -> None:
    assert is_other(str(llava))
    assert not is_other(str(TINY))
    assert not is_other("/nowhere")


def test_samples_are_whole_reproducible_and_in_order(llava: Path) -> None:
    sampler = GenerateSampler(str(llava), Decoding(1.0, 1.0, 0, 5), batch_size=4, dtype="float32")
    problems = [problem(f"p{i}", 80 * i) for i in range(3)]
    first, again = (sampler.sample(problems, 2, seed=1) for _ in range(2))
    assert first == again
    assert first != sampler.sample(problems, 2, seed=2)
    assert [[(a.problem_id, a.index) for a in actions] for actions in first] == [
        [(f"p{i}", 0), (f"p{i}", 1)] for i in range(3)
    ]
    for action in (a for actions in first for a in actions):
        assert action.tokens is not None
        assert (action.finish == "length") == (len(action.tokens) == 5 and action.tokens[-1] not in sampler._ends())


def test_padding_changes_no_greedy_answer(llava: Path) -> None:
    sampler = GenerateSampler(str(llava), Decoding(0.0, 1.0, 0, 5), batch_size=8, dtype="float32")
    long = problem("long", 200)
    long = Problem(**{**long.__dict__, "prompt": "How many red things are left, if all spheres go away?"})
    together = sampler.sample([problem("p", 40), long], 1, seed=0)
    assert together[0] == sampler.sample([problem("p", 40)], 1, seed=0)[0]
    assert together[1] == sampler.sample([long], 1, seed=0)[0]
