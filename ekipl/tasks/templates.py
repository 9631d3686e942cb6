"""A task that asks by templates, one for each strategy (``prompt=cot | answer | zero_shot | plain``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ekipl.algorithm.types import AnswerKind, Example
from ekipl.errors import UsageError
from ekipl.files import decode_text

PLAIN = {"plain": "{question}"}  # of every task
SLOTS = ("{question}", "{Question}")  # the second is Reason-RFT's spelling


class TemplateTask:
    """A task whose prompts differ by strategy alone.

    Attributes:
        prompts: template by strategy.
        choice_prompts: the same for examples whose answer is of kind ``choice``; None: they are asked like the others.
    """

    name: str
    splits: tuple[str, ...]
    kinds: tuple[AnswerKind, ...]
    prompts: Mapping[str, str]
    choice_prompts: Mapping[str, str] | None = None

    def __init__(self, strategy: str = "cot", prompt: str | None = None, choice_prompt: str | None = None) -> None:
        """Ask by the strategy's templates, or by one's own ``prompt`` and ``choice_prompt``.

        Raises:
            UsageError: a template has no ``{question}``.
        """
        self.template = self.choice_template = check_template(prompt or {**PLAIN, **self.prompts}[strategy])
        if self.choice_prompts is not None:
            self.choice_template = check_template(choice_prompt or {**PLAIN, **self.choice_prompts}[strategy])

    def prompt(self, example: Example) -> str:
        """The question and the form of the answer."""
        return render(self.choice_template if example.kind == "choice" else self.template, example.question)


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


def template_in(key: str, name: str, slot: str = "question") -> str:
    """The template in the file that the setting ``key`` names; ``slot`` is for the message. Raises UsageError."""
    try:
        return decode_text(Path(name).expanduser().read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{key}: {name}: {reason}; give a text file with {{{slot}}} in it") from error
