"""Structure perception: one diagram, one question in geometry (GeoMath, Geometry3K)."""

from __future__ import annotations

from ekipl.algorithm.types import AnswerKind, Example
from ekipl.tasks.templates import check_template, render

PROMPTS = {
    "cot": "{question} Output the thinking process in <think> </think> "
    "and final answer (float number or int number) in <answer> </answer> tags.",
    "answer": "{question}",
    "zero_shot": "Answer with a number and nothing else, such as 30. {question}",
}
CHOICE_PROMPTS = {
    "cot": "{question} Please select the correct answer by writing the letter (A, B, C or D) that precedes your choice."
    "\nOutput the thinking process in <think> </think> and final answer (chosen letter) in <answer> </answer> tags.",
    "answer": "{question}",
    "zero_shot": "Answer with the letter of the right choice and nothing else, such as A. {question}",
}


class Structure:
    """What does the diagram say? The answer is a letter, a number or an expression."""

    name = "structure"
    splits = ("id", "ood")
    kinds: tuple[AnswerKind, ...] = ("choice", "number", "expression")

    def __init__(self, strategy: str = "cot", prompt: str | None = None, choice_prompt: str | None = None) -> None:
        """A task that asks by templates, one of them for questions with choices.

        Args:
            strategy: which of ``PROMPTS`` and ``CHOICE_PROMPTS``.
            prompt: a template of yours for open questions.
            choice_prompt: a template of yours for questions whose answer is of kind ``choice``; the row says so.

        Raises:
            UsageError: a template has no ``{question}``.
        """
        self.template = check_template(prompt or PROMPTS[strategy])
        self.choice_template = check_template(choice_prompt or CHOICE_PROMPTS[strategy])

    def prompt(self, row: Example) -> str:
        """The question and the form of the answer."""
        return render(self.choice_template if row.kind == "choice" else self.template, row.question)
