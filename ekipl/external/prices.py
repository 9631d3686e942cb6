"""What a call costs, and what it can cost at most before it is sent."""

from __future__ import annotations

from dataclasses import dataclass

from ekipl.external.client import Completion
from ekipl.external.question import Question

MILLION = 10**6


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens; the discounts of providers for prompts that they have cached are left out."""

    input: float
    output: float

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / MILLION


class Meter:
    """The cost of a model's calls. What images count differs from provider to provider, so it is learned."""

    def __init__(self, model: str, price: Price | None, max_tokens: int | None) -> None:
        """Price None = unknown; ``max_tokens`` None = the answer has no limit."""
        self.price = price
        self._is_mini = "4o-mini" in model
        self._max_tokens = max_tokens
        self._seen: dict[tuple[tuple[int, int], ...], int] = {}  # sizes of the images -> most prompt tokens so far

    def prompt_tokens(self, question: Question) -> int:
        """At most so many: the images as counted before, where images of these sizes were, and a token a byte of text.

        Images not counted before: 4,000 tokens or one for 100 pixels, far above the tiles and patches of OpenAI,
        Gemini, Claude and Qwen; GPT-4o mini, whose tiles count 33 times, up to 50,000.
        """
        images, text = question.problem.images, len(question.problem.prompt.encode(errors="replace")) + 100
        seen = self._seen.get(_sizes(question))
        if seen is not None:
            return seen + text
        return text + sum(50_000 if self._is_mini else max(4_000, i.width * i.height // 100) for i in images)

    def most_usd(self, question: Question) -> float | None:
        """The most that a call can cost; None = unknown."""
        if self.price is None or self._max_tokens is None:
            return None
        return self.price.usd(self.prompt_tokens(question), self._max_tokens)

    def usd(self, question: Question, completion: Completion) -> float | None:
        """What an answer has cost; the most it can where the provider told no tokens."""
        if self.price is None or completion.prompt_tokens == 0:
            return self.most_usd(question)
        return self.price.usd(completion.prompt_tokens, completion.completion_tokens)

    def learn(self, question: Question, completion: Completion) -> None:
        """Remembers what was counted for images of these sizes."""
        if completion.prompt_tokens:
            sizes = _sizes(question)
            self._seen[sizes] = max(self._seen.get(sizes, 0), completion.prompt_tokens)


def _sizes(question: Question) -> tuple[tuple[int, int], ...]:
    return tuple(image.size for image in question.problem.images)
