"""Reads the answers out of the body of a reply, as the server sent it.

LiteLLM changes what it passes on: it removes a leading <think>...</think> from the text, which is half of the format
that the reward checks, turns unknown and missing finish reasons into ``stop``, and fails on ``content`` as a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ekipl.algorithm.types import Finish
from ekipl.external.request import Completion
from ekipl.masking import masked

EMPTY, FILTERED, REFUSED = "empty answer", "content filter", "refusal"
UNFINISHED = "finish reason "  # begins the fault of an answer that ended in any other way than stop or length
LASTING = (EMPTY, FILTERED, REFUSED, f"{UNFINISHED}tool_calls", f"{UNFINISHED}function_call")
FINISHES: Mapping[str, Finish] = {"stop": "stop", "length": "length"}
NATIVE = {  # of Gemini and Anthropic, where it means that the answer is whole or cut
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
}
_TEXTS = ("text", "output_text")  # types of the parts of a content that are its answer
_SHOWN = 40


def openai_answers(body: Any, most: int) -> list[Completion] | None:
    """The first ``most`` answers of an OpenAI-style body; None for another format.

    Surplus answers are paid for, but no sample number is theirs.

    Raises:
        ValueError: it is of this format, but not to be read.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("choices"), list) or body.get("error"):
        return None
    choices = body["choices"][:most]
    if not all(isinstance(choice, Mapping) and isinstance(choice.get("message"), Mapping) for choice in choices):
        raise ValueError("a choice has no message")
    usage = body.get("usage")
    told = usage if isinstance(usage, Mapping) else {}
    prompt, billed = (_count(told.get(key)) for key in ("prompt_tokens", "completion_tokens"))
    read = [
        (_text(choice["message"].get("content")), choice.get("finish_reason"), bool(choice["message"].get("refusal")))
        for choice in choices
    ]
    return completions(read, prompt, billed, str(body.get("model") or ""))


def native_reasons(body: Any) -> list[object]:
    """The finish reasons of a body in Gemini's or Anthropic's format, in OpenAI's words where they mean an answer."""
    if not isinstance(body, Mapping):
        return []
    found: list[object] = []
    if isinstance(candidates := body.get("candidates"), list):
        found = [each.get("finishReason") for each in candidates if isinstance(each, Mapping)]
    elif "stop_reason" in body:
        found = [body["stop_reason"]]
    return [NATIVE.get(reason, reason) if isinstance(reason, str) else reason for reason in found]


def completions(read: Sequence[tuple[str, object, bool]], prompt: int, billed: int, version: str) -> list[Completion]:
    """One completion for each text with its finish reason and whether it is a refusal; tokens are shared out.

    ``billed`` counts the tokens of all answers.
    """
    version = masked(version)
    if not read:
        return [Completion("", "stop", prompt, billed, version, EMPTY)]
    shares = [billed // len(read) + (place < billed % len(read)) for place in range(len(read))]
    return [
        Completion(
            text,
            FINISHES.get(str(reason), "stop"),
            prompt,
            share,
            version,
            _fault(text, reason, refused),
            len(read),
        )
        for (text, reason, refused), share in zip(read, shares, strict=True)
    ]


def _fault(text: str, reason: object, refused: bool) -> str | None:
    if reason == "content_filter":
        return FILTERED
    if reason not in FINISHES:
        told = "null" if reason is None else "".join(char for char in str(reason) if char.isprintable())
        return f"{UNFINISHED}{told[:_SHOWN]}"
    if not text.strip():
        return REFUSED if refused else EMPTY
    return None


def _text(content: object) -> str:
    """The text of a message: a list of parts is joined; parts that are no text (such as thoughts) are left out."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        raise ValueError("content is neither text nor a list of parts")
    texts = [part.get("text") for part in content if part.get("type", "text") in _TEXTS]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a part of content has no text")
    return "".join(map(str, texts))


def _count(value: object) -> int:
    return max(0, int(value)) if isinstance(value, int | float) and value == value and abs(value) < 2**53 else 0
