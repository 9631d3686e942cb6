"""Questions of one's own about images: any kind of answer, and whichever evaluation splits the data have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from ekipl.algorithm.types import AnswerKind
from ekipl.errors import UsageError
from ekipl.tasks.templates import TemplateTask

PROMPTS = {
    "cot": "{question} Output the thinking process in <think> </think> and final answer in <answer> </answer> tags.",
    "answer": "{question}",
    "zero_shot": "Answer with a number, a word or a short phrase and nothing else. {question}",
}
CHOICE_PROMPTS = {
    "cot": "{question} Please select the correct answer by writing the letter that precedes your choice.\n"
    "Output the thinking process in <think> </think> and final answer (chosen letter) in <answer> </answer> tags.",
    "answer": "{question}",
    "zero_shot": "Answer with the letter of the right choice and nothing else, such as A. {question}",
}


class VQA(TemplateTask):
    """A question about images, or about none. The answer is of a kind that the data or a setting say.

    Attributes:
        kind: of every answer whose row states none; None: inferred from each answer when it is read.
    """

    name = "vqa"
    prompts = PROMPTS
    choice_prompts = CHOICE_PROMPTS

    def __init__(
        self,
        strategy: str = "cot",
        prompt: str | None = None,
        choice_prompt: str | None = None,
        kind: str | None = None,
        splits: Sequence[str] = ("id",),
    ) -> None:
        """Ask by the strategy's templates, or by one's own.

        Raises:
            UsageError: a template has no ``{question}``, there is no such kind, or no or a strange split.
        """
        super().__init__(strategy, prompt, choice_prompt)
        known: tuple[AnswerKind, ...] = get_args(AnswerKind)
        if kind is not None and kind not in known:
            raise UsageError(
                f"task.kind: {kind}: unknown; known are {', '.join(known)}; null infers it from each answer"
            )
        if isinstance(splits, str) or not splits or not all(isinstance(s, str) and s and s != "train" for s in splits):
            raise UsageError(f"task.splits: {splits}: not a list of evaluation splits; write [id] or [id, ood]")
        self.kind = kind
        self.kinds = tuple(one for one in known if kind in (None, one))
        self.splits = tuple(splits)
