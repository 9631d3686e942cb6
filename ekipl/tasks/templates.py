"""From a template and a question to what is asked. The templates of the three tasks stand in ``conf/prompt/``."""

from __future__ import annotations

from ekipl.errors import UsageError

SLOTS = ("{question}", "{Question}")  # the second as Reason-RFT spells it


def check_template(template: str) -> str:
    """``template`` itself. Raises UsageError when it has no place for the question."""
    if not any(slot in template for slot in SLOTS):
        raise UsageError(f"prompt: {template[:60]!r}: no {{question}} in it; put it where the question is to stand")
    return template


def worded(template: str, question: str) -> str:
    """The template with the question in it; other braces mean nothing, in neither of them."""
    slot = next(slot for slot in SLOTS if slot in template)
    head, _, tail = template.partition(slot)
    return head + question + tail
