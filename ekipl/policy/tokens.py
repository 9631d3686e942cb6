"""What all samplers of the policy agree on: token ids of an action, and the random numbers of a sample."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from ekipl.algorithm.types import POLICY, Action, Problem
from ekipl.policy.encoding import encode_text
from ekipl.policy.model import VLM


def with_tokens(vlm: VLM, action: Action, max_tokens: int) -> Action | str:
    """The action with the policy's token ids, or why the policy cannot learn from it."""
    tokens = action.tokens
    if tokens is None:  # an external model's; of its own, the policy learns to give no empty answer
        if not action.text.strip():
            return "empty"
        if any("\ud800" <= char <= "\udfff" for char in action.text):
            return "lone_surrogate"  # no tokenizer can encode it
        end = [vlm.end_of_turn] if action.finish == "stop" else []
        tokens = tuple(encode_text(vlm.tokenizer, action.text) + end)
    if len(tokens) > max_tokens:
        return "too_long"
    if set(tokens) & set(vlm.suppressed):
        return "placeholder_token"
    return replace(action, tokens=tokens)


def policy_action(vlm: VLM, problem_id: str, index: int, tokens: Sequence[int], logprobs: Sequence[float]) -> Action:
    """Sample ``index`` of the policy: tokens as drawn, the end of the turn among them when it came to one."""
    finished = tokens[-1] in vlm.eos
    shown = tokens[:-1] if finished else tokens
    return Action(
        problem_id=problem_id,
        source=POLICY,
        index=index,
        text=vlm.tokenizer.decode(shown, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        finish="stop" if finished else "length",
        tokens=tuple(tokens),
        logprobs=tuple(logprobs),
    )


def stream(seed: int, problem: Problem, index: int | None = None) -> int:
    """The key of the random numbers of a problem, or of one of its samples: 128 bits that nothing else depends on."""
    parts = [str(seed), problem.split, problem.id, *([] if index is None else [str(index)])]
    return int.from_bytes(hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).digest()[:16], "big")
