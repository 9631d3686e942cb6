"""Structure perception: one diagram, one question in geometry (GeoMath, Geometry3K)."""

from __future__ import annotations

from ekipl.algorithm.types import AnswerKind
from ekipl.tasks.templates import TemplateTask

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


class Structure(TemplateTask):
    """What does the diagram say? The answer is a letter, a number or an expression."""

    name = "structure"
    splits = ("id", "ood")
    kinds: tuple[AnswerKind, ...] = ("choice", "number", "expression")
    prompts = PROMPTS
    choice_prompts = CHOICE_PROMPTS
