"""Visual counting: one image, one question about how many objects there are (CLEVR-Math, Super-CLEVR)."""

from __future__ import annotations

from ekipl.algorithm.types import AnswerKind
from ekipl.tasks.templates import TemplateTask

PROMPTS = {
    "cot": "{question} Output the thinking process in <think> </think> "
    "and final answer (number) in <answer> </answer> tags.",
    "answer": "{question}",
    "zero_shot": "Answer with a number in digits and nothing else, such as 3. {question}",
}


class Counting(TemplateTask):
    """How many? The answer is a number."""

    name = "counting"
    splits = ("id", "ood")
    kinds: tuple[AnswerKind, ...] = ("number",)
    prompts = PROMPTS
