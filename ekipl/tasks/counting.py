"""Visual counting: one image, one question about how many objects there are (CLEVR-Math, Super-CLEVR)."""

from __future__ import annotations

from ekipl.algorithm.types import AnswerKind, Example
from ekipl.tasks.templates import check_template, render

PROMPT = (
    "{question} Output the thinking process in <think> </think> and final answer (number) in <answer> </answer> tags."
)


class Counting:
    """How many? The answer is a number."""

    name = "counting"
    splits = ("id", "ood")
    kinds: tuple[AnswerKind, ...] = ("number",)

    def __init__(self, prompt: str = PROMPT) -> None:
        """``prompt`` is a template. Raises UsageError when it has no ``{question}``."""
        self.template = check_template(prompt)

    def prompt(self, row: Example) -> str:
        """The question and the form of the answer."""
        return render(self.template, row.question)
