"""The shipped policy is a real Qwen2-VL, small, and as good (and as bad) as docs/tiny.md says."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration

from ekipl.algorithm.types import Problem
from ekipl.data.synthetic.source import SyntheticData
from ekipl.policy.encoding import encode_prompts, encode_text
from ekipl.policy.model import TINY, VLM, load_model
from ekipl.reward.graders import grader
from tools.tiny.corpus import HELD_OUT, TASKS, Lesson, Mixture, completion, example, lesson_row, wrap
from tools.tiny.measure import MAX_TOKENS, measure
from tools.tiny.sight import IMAGE_SIZE
from tools.tiny.tokenizer import PHRASES, SPECIAL


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load_model("tiny", device="cpu")


def test_checkpoint_is_a_small_qwen2vl(vlm: VLM) -> None:
    assert isinstance(vlm.model, Qwen2VLForConditionalGeneration)
    assert 1_000_000 < sum(p.numel() for p in vlm.model.parameters()) < 2_000_000
    assert sum(file.stat().st_size for file in TINY.rglob("*") if file.is_file()) <= 4 * 2**20
    assert all(torch.isfinite(p).all() for p in vlm.model.parameters())


def test_no_code_comes_with_the_checkpoint() -> None:
    assert not list(TINY.glob("*.py"))
    assert not list(TINY.glob("*.bin"))
    for file in TINY.glob("*.json"):
        assert "auto_map" not in json.loads(file.read_text())


def test_special_tokens_are_qwens(vlm: VLM) -> None:
    for token in SPECIAL:
        assert len(vlm.tokenizer(token, add_special_tokens=False)["input_ids"]) == 1
    ids = vlm.tokenizer.get_vocab()
    assert vlm.end_of_turn == ids["<|im_end|>"]
    assert vlm.eos == {ids["<|im_end|>"], ids["<|endoftext|>"]}
    assert vlm.tokenizer.pad_token == "<|endoftext|>"
    assert vlm.image_token == ids["<|image_pad|>"]
    assert len(vlm.tokenizer) == vlm.model.config.text_config.vocab_size <= 1500


@cache
def shipped_tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TINY)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_survives_the_tokenizer(text: str) -> None:
    tokenizer = shipped_tokenizer()
    assert tokenizer.decode(encode_text(tokenizer, text), clean_up_tokenization_spaces=False) == text


def test_repeated_sentences_are_one_token_and_special_tokens_in_text_stay_text(vlm: VLM) -> None:
    for phrase in PHRASES:
        assert len(encode_text(vlm.tokenizer, phrase)) == 1
    assert vlm.image_token not in encode_text(vlm.tokenizer, "<|image_pad|>")


def test_chat_format_is_qwens(vlm: VLM) -> None:
    problem = Problem("p", "counting", "id", (Image.new("RGB", (96, 96)),), "", "How many?", "1", "number")
    text = vlm.tokenizer.decode(encode_prompts(vlm, [problem]).input_ids[0]).replace("<|image_pad|>" * 36, "[36]")
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|>[36]<|vision_end|>How many?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        ((96, 96), 36),  # (96 / 8 / 2)^2
        ((480, 320), 600),  # 30 x 20
        ((160, 120), 80),  # 10 x 8: 120 / 16 = 7.5 rounds to 8
        ((20, 20), 9),  # enlarged to 48 x 48
        ((960, 640), 600),  # shrunk to 480 x 320
    ],
)
def test_an_image_takes_one_token_for_each_16_by_16_pixels(vlm: VLM, size: tuple[int, int], tokens: int) -> None:
    problem = Problem("p", "counting", "id", (Image.new("RGB", size, "red"),), "", "How many?", "1", "number")
    prompts = encode_prompts(vlm, [problem])
    assert int((prompts.input_ids == vlm.image_token).sum()) == tokens
    assert prompts.pixel_values is not None
    assert tuple(prompts.pixel_values.shape) == (4 * tokens, 3 * 2 * 8 * 8)


def test_right_answers_fit_the_limit_and_are_graded_right(vlm: VLM) -> None:
    for task in TASKS.values():
        for split in task.splits:
            for problem in SyntheticData(seed=1, image_size=IMAGE_SIZE).problems(task, split, 40):
                for cot in (problem.metadata["cot"], *problem.metadata["variants"]):
                    reward = grader("strict")(problem, wrap(cot, problem.answer))
                    assert len(encode_text(vlm.tokenizer, wrap(cot, problem.answer))) < MAX_TOKENS
                    assert (reward.total, reward.detail.get("skill", 1)) == (2, 1)


def test_lessons_leave_out_the_held_out_families() -> None:
    words = {"counting": "Add 12", "structure": "sum of the interior", "spatial": "change_material"}
    assert set(words) == set(HELD_OUT)
    for lesson in ("counting", "structure", "spatial"):
        for index in range(60):
            lesson_ = example(lesson, index)
            said = lesson_.completion if lesson == "spatial" else lesson_.prompt
            assert words[lesson] not in said


@pytest.mark.parametrize("lesson", ["counting", "structure", "spatial"])
def test_unlearned_lessons_never_use_the_skill(lesson: Lesson) -> None:
    seen = set()
    for index in range(40):
        row, spoilt = lesson_row(lesson, index), example(lesson, index, Mixture(unskilled=1.0)).completion
        without = row.metadata.get("without_skill")
        assert spoilt == (wrap(*without) if without else completion(row))
        assert example(lesson, index).completion == completion(row)
        seen.add(without is not None)
    assert seen == {True, False}


def test_spoilt_lessons_follow_one_wrong_rule() -> None:
    for index in range(40):
        row, spoilt = lesson_row("counting", index), example("counting", index, Mixture(wrong={"counting": 1.0}))
        if "skill" not in row.metadata:
            assert f"Total {len(row.metadata['scene']['objects'])}</think>" in spoilt.completion


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "low", "high"), [("counting", 0.07, 0.3), ("structure", 0.1, 0.35), ("spatial", 0.0, 0.2)]
)
def test_the_base_lacks_the_skill_and_solves_others_now_and_then(vlm: VLM, name: str, low: float, high: float) -> None:
    inside = measure(vlm, TASKS[name], "id", 150, 0)
    assert low < inside.accuracy < high
    assert inside.format > 0.5
    assert inside.skill is not None
    assert inside.skill < 0.1
    for family in HELD_OUT[name]:
        assert inside.families[family] < 0.02
