"""Visual counting: one image, one question about how many objects there are (CLEVR-Math, Super-CLEVR)."""

from __future__ import annotations

from ekipl.algorithm.types import AnswerKind, Example
from ekipl.tasks.templates import check_template, render

PROMPTS = {
    "cot": "{question} Output the thinking process in <think> </think> "
    "and final answer (number) in <answer> </answer> tags.",
    "answer": "{question}",
    "zero_shot": "Answer with a number in digits and nothing else, such as 3. {question}",
}


class Counting:
    """How many? The answer is a number."""

    name = "counting"
    splits = ("id", "ood")
    kinds: tuple[AnswerKind, ...] = ("number",)

    def __init__(self, strategy: str = "cot", prompt: str | None = None) -> None:
        """A task that asks by a template.

        Args:
            strategy: which of ``PROMPTS``.
            prompt: a template of yours in its place.

        Raises:
            UsageError: a template without ``{question}``.
        """
        self.template = check_template(prompt or PROMPTS[strategy])

    def prompt(self, row: Example) -> str:
        """The question and the form of the answer."""
        return render(self.template, row.question)
