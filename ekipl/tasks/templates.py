"""Prompt templates. Those of the three tasks are in ``conf/prompt/``."""

from __future__ import annotations

from ekipl.errors import UsageError

SLOTS = ("{question}", "{Question}")  # the second is Reason-RFT's spelling


def check_template(template: str) -> str:
    """``template`` itself. Raises UsageError when it has no ``{question}``."""
    if not any(slot in template for slot in SLOTS):
        raise UsageError(f"prompt: {template[:60]!r}: no {{question}} in it; put it where the question is to stand")
    return template


def render(template: str, question: str) -> str:
    """The template with the question in place of its first ``{question}``; other braces are plain text."""
    slot = next(slot for slot in SLOTS if slot in template)
    head, _, tail = template.partition(slot)
    return head + question + tail
