"""Structure perception: one diagram, one question in geometry (GeoMath, Geometry3K)."""

from __future__ import annotations

from ekipl.algorithm.types import AnswerKind, Example
from ekipl.tasks.templates import check_template, render

CHOICE_PROMPT = (
    "{question} Please select the correct answer by writing the letter (A, B, C or D) that precedes your choice.\n"
    "Output the thinking process in <think> </think> and final answer (chosen letter) in <answer> </answer> tags."
)
NUMBER_PROMPT = (
    "{question} Output the thinking process in <think> </think> "
    "and final answer (float number or int number) in <answer> </answer> tags."
)


class Structure:
    """What does the diagram say? The answer is a letter, a number or an expression."""

    name = "structure"
    splits = ("id", "ood")
    kinds: tuple[AnswerKind, ...] = ("choice", "number", "expression")

    def __init__(self, prompt: str = NUMBER_PROMPT, choice_prompt: str = CHOICE_PROMPT) -> None:
        """A task with two prompt templates.

        Args:
            prompt: template of open questions.
            choice_prompt: template of questions whose answer is of kind ``choice``, as the example states.

        Raises:
            UsageError: a template has no ``{question}``.
        """
        self.template, self.choice_template = check_template(prompt), check_template(choice_prompt)

    def prompt(self, row: Example) -> str:
        """The question and the form of the answer."""
        return render(self.choice_template if row.kind == "choice" else self.template, row.question)
