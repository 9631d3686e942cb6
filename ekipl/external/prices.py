"""What a call costs, and what it can cost at most before it is sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from ekipl.external.client import Completion
from ekipl.external.question import Shape, Size

MILLION = 10**6
CHAT_TOKENS = 100  # that a chat format adds to a prompt, at most
LIKELY = 4_000  # tokens of an image where nobody has said how many there can be: for rates, never for budgets

# The most tokens of one image, from what the providers document of their ways to count. A model that is not here has
# to be given its number (external.models.0.image_tokens) before a budget can be kept.
_OPENAI = r"(chatgpt-4o|gpt-4o|gpt-4\.1|gpt-5|o[134])(-mini|-nano|-pro)?(-\d{4}-\d\d-\d\d|-latest)?$"
_BOUNDS: tuple[tuple[str, Callable[[Size], int]], ...] = (
    (r"gpt-4o-mini", lambda size: 2_833 + 8 * 5_667),
    # tiles: at most 85 + 8 x 170; patches: at most 1,536, each at most 2.46 tokens
    (_OPENAI, lambda size: 4_000),
    # 258 for a tile, whose sides are 256 pixels or more; Gemini 3: by resolution, 2,240 at most
    (r"gemini-[\d.]+-", lambda size: max(2_240, 258 * ceil(size[0] / 256) * ceil(size[1] / 256))),
    # width x height / 750, or patches of 28 x 28 pixels
    (r"claude-", lambda size: ceil(size[0] / 27) * ceil(size[1] / 27)),
)


def documented(model: str) -> Callable[[Size], int] | None:
    """The most tokens of an image by its size, for a model as LiteLLM writes it; None = nobody has said."""
    name = model.rpartition("/")[2]
    return next((bound for pattern, bound in _BOUNDS if re.match(pattern, name)), None)


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens; the discounts of providers for prompts that they have cached are left out."""

    input: float
    output: float

    def usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / MILLION


class Meter:
    """The cost of a model's calls. What images count differs from provider to provider, so it is learned."""

    def __init__(self, model: str, price: Price | None, max_tokens: int | None, image_tokens: int | None) -> None:
        """What is known before the first call.

        Args:
            model: as LiteLLM writes it.
            price: None = unknown.
            max_tokens: of an answer; None = without limit.
            image_tokens: the most that one image counts; None = as documented.
        """
        self.price = price
        self.max_tokens = max_tokens
        self._bound = documented(model) if image_tokens is None else lambda size: image_tokens
        self._seen: dict[tuple[Size, ...], int] = {}  # sizes of the images -> most prompt tokens so far

    def prompt_tokens(self, shape: Shape) -> int | None:
        """At most so many; None = nobody can say.

        A token a byte of text, and the images: as counted before, where images of these sizes were, else by bound.
        """
        text = shape.bytes + CHAT_TOKENS
        if shape.images in self._seen:
            return text + self._seen[shape.images]
        if self._bound is None:
            return None if shape.images else text
        return text + sum(self._bound(size) for size in shape.images)

    def tokens(self, shape: Shape, choices: int) -> int:
        """Of prompt and answers, for the rate: the most there can be as far as that is known."""
        prompt = self.prompt_tokens(shape)
        likely = LIKELY * len(shape.images) + shape.characters if prompt is None else prompt
        return likely + choices * (self.max_tokens or 0)

    def most_usd(self, shape: Shape, choices: int = 1) -> float | None:
        """The most that a call can cost, even if it is billed as so many calls for one answer; None = unknown."""
        if self.price is None or self.max_tokens is None:
            return None
        prompt = self.prompt_tokens(shape) if self.price.input else 0
        return None if prompt is None else choices * self.price.usd(prompt, self.max_tokens)

    def usd(self, shape: Shape, completion: Completion) -> float | None:
        """What an answer has cost; the most it can where the provider told no tokens."""
        untold = completion.prompt_tokens == 0 or (completion.text and completion.completion_tokens == 0)
        if self.price is None or untold:
            return self.most_usd(shape)
        return self.price.usd(completion.prompt_tokens / completion.shared, completion.completion_tokens)

    def learn(self, shape: Shape, completion: Completion) -> None:
        """Remembers what was counted for images of these sizes."""
        if completion.prompt_tokens:
            self._seen[shape.images] = max(self._seen.get(shape.images, 0), completion.prompt_tokens)
