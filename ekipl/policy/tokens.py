"""Shared by all samplers of the policy: token ids of an action, and the random stream of a sample."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from ekipl.algorithm.types import POLICY, Action, Problem
from ekipl.policy.encoding import encode_spans
from ekipl.policy.model import VLM


def with_tokens(vlm: VLM, action: Action, max_tokens: int) -> Action | str:
    """The action with token ids of the policy, or the reason why the policy cannot learn from it."""
    tokens = action.tokens
    if tokens is None:  # an external model's action; the policy's own have tokens, and may be empty
        if not action.text.strip():
            return "empty"
        if any("\ud800" <= char <= "\udfff" for char in action.text):
            return "lone_surrogate"  # it has no UTF-8, so no tokenizer can encode it
        ids, spans = encode_spans(vlm.tokenizer, action.text)
        tokens = (*ids, vlm.end_of_turn) if action.finish == "stop" else tuple(ids)
        action = replace(action, answer=answer_places(action.text, spans))
    if len(tokens) > max_tokens:
        return "too_long"
    if set(tokens) & set(vlm.suppressed):
        return "placeholder_token"
    return replace(action, tokens=tokens)


def answer_places(text: str, spans: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The tokens of the first answer between its tags, from and up to; None without one.

    ``spans`` are the characters of ``text`` that each token stands for.
    """
    head, opened, rest = text.partition("<answer>")
    inside, closed, _ = rest.partition("</answer>")
    if not closed or not inside.strip():
        return None
    start = len(head) + len(opened) + len(inside) - len(inside.lstrip())
    end = start + len(inside.strip())
    places = [place for place, (first, last) in enumerate(spans) if first < end and last > start]
    return places[0], places[-1] + 1


def text_of(vlm: VLM, tokens: Sequence[int]) -> str:
    """The text of tokens of the policy; special tokens are text too."""
    text: str = vlm.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def policy_action(vlm: VLM, problem_id: str, index: int, tokens: Sequence[int], logprobs: Sequence[float]) -> Action:
    """Sample ``index`` of the policy from its tokens as drawn, the end-of-turn token included if it was drawn."""
    finished = tokens[-1] in vlm.eos
    shown = tokens[:-1] if finished else tokens
    return Action(
        problem_id=problem_id,
        source=POLICY,
        index=index,
        text=text_of(vlm, shown),
        finish="stop" if finished else "length",
        tokens=tuple(tokens),
        logprobs=tuple(logprobs),
    )


def stream(seed: int, problem: Problem, index: int | None = None) -> int:
    """The seed of a problem's random stream, or of one sample's: 128 bits from (seed, split, id, index)."""
    parts = [str(seed), problem.split, problem.id, *([] if index is None else [str(index)])]
    return int.from_bytes(hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).digest()[:16], "big")
