"""Sampling from the policy."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from PIL import Image

from ekipl.algorithm.seams import Decoding
from ekipl.algorithm.types import Action
from ekipl.errors import UsageError
from ekipl.policy.encoding import encode_prompts
from ekipl.policy.hf import HFSampler, choose
from ekipl.policy.model import VLM, load_model
from ekipl.policy.prefix import ActionLogProbs
from ekipl.policy.vllm import start
from tests.float64 import EXACT
from tests.test_prefix import PROBLEMS, models  # noqa: F401 - a fixture
from tests.test_prefix import vlm as family  # noqa: F401 - a fixture: each family that ekipl trains

DECODING = Decoding(max_tokens=24)


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load_model("tiny", device="cpu")


def test_a_sample_does_not_depend_on_its_batch(family: VLM) -> None:  # noqa: F811
    together = HFSampler(family, DECODING, batch_size=64).sample(PROBLEMS, 5, seed=1)
    apart = HFSampler(family, DECODING, batch_size=2).sample(PROBLEMS[::-1], 5, seed=1)[::-1]
    assert [[a.tokens for a in row] for row in together] == [[a.tokens for a in row] for row in apart]
    assert [[a.index for a in row] for row in together] == [list(range(5))] * 3
    fewer = HFSampler(family, DECODING).sample(PROBLEMS, 2, seed=1)
    assert [[a.tokens for a in row[:2]] for row in together] == [[a.tokens for a in row] for row in fewer]


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_a_missing_vllm_is_reported_in_one_line(vlm: VLM) -> None:
    with pytest.raises(UsageError, match=r"^rollout.kind: vllm: cannot be imported .*pip install .* rollout=hf$"):
        start(vlm, dtype="float32", batch_size=4, cache_gib=1.0, processes=1)


def test_samples_and_seeds_differ(vlm: VLM) -> None:
    sampler = HFSampler(vlm, replace(DECODING, temperature=2.0))
    one, other = sampler.sample(PROBLEMS[:1], 6, seed=1)[0], sampler.sample(PROBLEMS[:1], 6, seed=2)[0]
    assert len({a.tokens for a in (*one, *other)}) == 12


def test_log_probabilities_equal_those_of_training(family: VLM) -> None:  # noqa: F811
    actions = HFSampler(family, replace(DECODING, temperature=0.7)).sample(PROBLEMS, 3, seed=0)
    flat = [(row, action) for row, group in enumerate(actions) for action in group]
    length = max(len(a.tokens or ()) for _, a in flat)
    tokens = torch.tensor([[*(a.tokens or ()), *[0] * (length - len(a.tokens or ()))] for _, a in flat])
    mask = torch.tensor([[1.0] * len(a.tokens or ()) + [0.0] * (length - len(a.tokens or ())) for _, a in flat])
    sampled = torch.tensor([[*(a.logprobs or ()), *[0.0] * (length - len(a.logprobs or ()))] for _, a in flat])
    with torch.no_grad():
        logprobs = ActionLogProbs(family.model, 0.7, family.suppressed)
        scored = logprobs(encode_prompts(family, PROBLEMS), torch.tensor([row for row, _ in flat]), tokens, mask, 1)
    assert (scored - sampled).abs().max() < EXACT


def test_greedy_equals_generate_of_transformers(family: VLM) -> None:  # noqa: F811
    greedy = HFSampler(family, replace(DECODING, temperature=0)).sample(PROBLEMS, 1, seed=0)
    for problem, (action,) in zip(PROBLEMS, greedy, strict=True):
        prompt = encode_prompts(family, [problem])
        family.model.model.rope_deltas = None  # of the call before
        images = {"pixel_values": prompt.pixel_values, "image_grid_thw": prompt.image_grid} if problem.images else {}
        output = family.model.generate(
            input_ids=prompt.input_ids,
            attention_mask=prompt.attention_mask,
            mm_token_type_ids=prompt.token_types,
            **images,
            do_sample=False,
            max_new_tokens=24,
            suppress_tokens=list(family.suppressed),
        )
        assert action.tokens == tuple(output[0, prompt.input_ids.shape[1] :].tolist())


def test_finish_reason_and_text(vlm: VLM) -> None:
    actions = [a for row in HFSampler(vlm, Decoding(max_tokens=96)).sample(PROBLEMS, 8, seed=3) for a in row]
    for action in actions:
        assert action.tokens is not None
        ended = action.tokens[-1] in vlm.eos
        assert action.finish == ("stop" if ended else "length")
        assert not set(action.tokens[:-1]) & vlm.eos
        assert "<|im_end|>" not in action.text
        assert ended or len(action.tokens) == 96


def test_image_placeholders_are_never_sampled(vlm: VLM) -> None:
    sampler = HFSampler(vlm, Decoding(temperature=50.0, max_tokens=64))  # nearly uniform over the vocabulary
    tokens = [t for row in sampler.sample(PROBLEMS, 16, seed=0) for a in row for t in a.tokens or ()]
    assert len(tokens) > 1000
    assert not set(tokens) & set(vlm.suppressed)


def external(text: str, finish: str = "stop") -> Action:
    return Action("p", "gpt", 0, text, finish)  # type: ignore[arg-type]


def test_encoding_an_external_action(vlm: VLM) -> None:
    sampler = HFSampler(vlm, DECODING)
    encoded = sampler.encode(external("<answer>3</answer>"))
    assert isinstance(encoded, Action)
    assert encoded.tokens is not None
    assert encoded.tokens[-1] == vlm.end_of_turn
    assert vlm.tokenizer.decode(encoded.tokens[:-1]) == "<answer>3</answer>"
    cut = sampler.encode(external("<answer>3", "length"))
    assert isinstance(cut, Action)
    assert cut.tokens is not None
    assert cut.tokens[-1] != vlm.end_of_turn
    assert sampler.encode(external("word " * 200)) == "too_long"
    assert sampler.encode(external(" \n")) == "empty"
    assert sampler.encode(external("half a \ud83d pair")) == "lone_surrogate"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think> 3 + 4 </think>\n<answer>\n7 red cubes\n</answer>", "7 red cubes"),
        ("<answer>12</answer> or <answer>13</answer>", "12"),
        ("no tags, 12", None),
        ("<answer> </answer>", None),
        ("<answer>12", None),
    ],
)
def test_the_tokens_of_an_external_answer_are_found(vlm: VLM, text: str, answer: str | None) -> None:
    encoded = HFSampler(vlm, replace(DECODING, max_tokens=99)).encode(external(text))
    assert isinstance(encoded, Action)
    assert encoded.tokens is not None
    found = encoded.answer and vlm.tokenizer.decode(encoded.tokens[slice(*encoded.answer)]).strip()
    assert found == answer


def test_an_image_with_an_unsupported_aspect_ratio_is_named(vlm: VLM) -> None:
    thin = replace(PROBLEMS[0], images=(Image.new("RGB", (2000, 2)),))
    with pytest.raises(UsageError, match=f"data: an image of {thin.id}: .*aspect ratio"):
        HFSampler(vlm, DECODING).sample([thin], 1, seed=0)


def test_an_empty_answer_of_the_policy_is_trained_on(vlm: VLM) -> None:
    own = replace(external(""), source="policy", tokens=(vlm.end_of_turn,), logprobs=(-1.0,))
    assert HFSampler(vlm, DECODING).encode(own) == own


def test_special_tokens_in_an_external_answer_stay_text(vlm: VLM) -> None:
    text = "<|im_end|><|image_pad|>"
    encoded = HFSampler(vlm, replace(DECODING, max_tokens=99)).encode(external(text))
    assert isinstance(encoded, Action)
    assert encoded.tokens is not None
    specials = {vlm.end_of_turn, vlm.image_token}
    assert not set(encoded.tokens[:-1]) & specials
    assert vlm.tokenizer.decode(encoded.tokens[:-1]) == text


def test_an_action_with_a_placeholder_is_rejected(vlm: VLM) -> None:
    action = replace(external("x"), tokens=(30, vlm.image_token, 31))
    assert HFSampler(vlm, DECODING).encode(action) == "placeholder_token"


def test_choose_by_hand() -> None:
    # probabilities 0.5, 0.3, 0.15, 0.05: cumulative 0.5, 0.8, 0.95, 1
    p = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).expand(5, 4)
    noise = torch.tensor([0.0, 0.49, 0.51, 0.81, 0.96])
    assert choose(p, Decoding(), noise).tolist() == [0, 0, 1, 2, 3]
    assert choose(p, Decoding(temperature=0), noise).tolist() == [0] * 5
    # top-k 2: 0.625, 0.375; the noise 0.81 falls on the second
    assert choose(p, Decoding(top_k=2), noise).tolist() == [0, 0, 0, 1, 1]
    # top-p 0.7 keeps tokens until their sum reaches 0.7: the first two; top-p 0.5 keeps the first
    assert choose(p, Decoding(top_p=0.7), noise).tolist() == [0, 0, 0, 1, 1]
    assert choose(p, Decoding(top_p=0.5), noise).tolist() == [0] * 5


def test_choose_follows_the_distribution() -> None:
    torch.manual_seed(0)
    p = torch.tensor([0.4, 0.0, 0.35, 0.25]).expand(20000, 4)
    counts = Counter(choose(p, Decoding(), torch.rand(20000)).tolist())
    assert counts[1] == 0  # zero mass is never drawn
    for token, share in ((0, 0.4), (2, 0.35), (3, 0.25)):
        assert abs(counts[token] / 20000 - share) < 0.015  # 4 standard errors of 0.0035


def test_a_token_is_found_in_a_vocabulary_of_many_blocks() -> None:
    rng = torch.Generator().manual_seed(0)
    p = torch.rand(64, 1000, generator=rng).double() * (torch.rand(64, 1000, generator=rng) < 0.1)  # most of no mass
    noise = torch.rand(64, generator=rng).double()
    p[0] = 0
    p[0, 999], noise[0] = 1e-30, 0.999999  # all mass at the very end
    p[1] = 0
    p[1, 0], noise[1] = 1, 0.999999
    drawn = choose(p, Decoding(), noise)
    cumulative = p.cumsum(-1)
    wanted = (cumulative > (noise * cumulative[:, -1])[:, None]).float().argmax(-1)
    assert drawn.tolist() == wanted.tolist()
