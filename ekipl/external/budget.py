"""Cost and rate of calls: a bound before a call, its cost afterwards, an estimate of a run, the pace of a model."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

from ekipl.algorithm.ranges import NotNegative
from ekipl.external.request import Completion, Shape, Size

MILLION = 10**6
MINUTE_S = 60.0
CHAT_TOKENS = 100  # upper bound of the tokens that a chat format adds to a prompt
LIKELY = 4_000  # tokens of an image without a known bound; used for rates, never for budgets
IMAGE_TOKENS = 1_000  # tokens of an image in an estimate, until a provider has counted some

# The most tokens that one image can count, from the providers' documentation. A budget for any other model needs the
# setting external.models.0.image_tokens.
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
    """The bound on an image's tokens by its size, for LiteLLM's name of a model; None = no bound is documented."""
    name = model.rpartition("/")[2]
    return next((bound for pattern, bound in _BOUNDS if re.match(pattern, name)), None)


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens, without the providers' discounts for cached prompts.

    Attributes:
        input: of prompts.
        output: of answers.
    """

    input: NotNegative
    output: NotNegative

    def usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """The cost of these tokens in US dollars."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / MILLION


class Meter:
    """The cost of one model's calls.

    Providers count images in different ways. The meter starts from a documented bound and remembers the counts that
    the provider reports for images of the same sizes.
    """

    def __init__(self, model: str, price: Price | None, max_tokens: int | None, image_tokens: int | None) -> None:
        """Takes the facts that are known before the first call.

        Args:
            model: LiteLLM's name.
            price: None = unknown.
            max_tokens: limit of one answer; None = no limit.
            image_tokens: the most that one image can count; None = as documented.
        """
        self.price = price
        self.max_tokens = max_tokens
        self._bound = documented(model) if image_tokens is None else lambda size: image_tokens
        self._seen: dict[tuple[Size, ...], int] = {}  # sizes of the images -> most prompt tokens reported so far

    def prompt_tokens(self, shape: Shape) -> int | None:
        """An upper bound on the prompt's tokens; None = no bound is known.

        A byte of text counts as one token. Images count as the provider has reported for the same sizes, else as
        their bound.
        """
        text = shape.bytes + CHAT_TOKENS
        if shape.images in self._seen:
            return text + self._seen[shape.images]
        if self._bound is None:
            return None if shape.images else text
        return text + sum(self._bound(size) for size in shape.images)

    def tokens(self, shape: Shape, choices: int) -> int:
        """Tokens of prompt and answers to count against a rate limit: the upper bound, or a guess without one."""
        prompt = self.prompt_tokens(shape)
        likely = LIKELY * len(shape.images) + shape.characters if prompt is None else prompt
        return likely + choices * (self.max_tokens or 0)

    def most_usd(self, shape: Shape, choices: int = 1) -> float | None:
        """An upper bound on a call's cost, even if it is billed as ``choices`` separate calls; None = unknown."""
        if self.price is None or self.max_tokens is None:
            return None
        prompt = self.prompt_tokens(shape) if self.price.input else 0
        return None if prompt is None else choices * self.price.usd(prompt, self.max_tokens)

    def usd(self, shape: Shape, completion: Completion) -> float | None:
        """The cost of an answer; its upper bound where the provider reported no tokens; None = unknown."""
        unreported = completion.prompt_tokens == 0 or (completion.text and completion.completion_tokens == 0)
        if self.price is None or unreported:
            return self.most_usd(shape)
        return self.price.usd(completion.prompt_tokens / completion.shared, completion.completion_tokens)

    def learn(self, shape: Shape, completion: Completion) -> None:
        """Remembers the prompt tokens that the provider reported for images of these sizes."""
        if completion.prompt_tokens:
            self._seen[shape.images] = max(self._seen.get(shape.images, 0), completion.prompt_tokens)


class RemainingCost(NamedTuple):
    """An estimate of the calls that one model's samples still take, retries excluded."""

    model: str
    samples: int
    cached: int
    requests: int
    prompt_tokens: int
    completion_tokens: int | None  # None = without limit
    usd: float | None  # None = unknown
    most_usd: float | None  # upper bound; None = unknown
    is_simulated: bool  # costs nothing


@dataclass
class Tally:
    """Sums up one model's samples for the estimate."""

    meter: Meter
    is_simulated: bool
    wanted: int = 0
    missing: list[Shape] = field(default_factory=list)  # one for each sample that is not in the cache
    requests: list[Shape] = field(default_factory=list)  # one for each call that these need
    prompts: list[float] = field(default_factory=list)  # prompt tokens for each cached answer
    completions: list[int] = field(default_factory=list)

    def add(self, shape: Shape, known: Completion | None) -> None:
        """Counts a sample with its answer in the cache, or None."""
        self.wanted += 1
        if known is None:
            self.missing.append(shape)
        elif known.prompt_tokens:
            self.prompts.append(known.prompt_tokens / known.shared)
            self.completions.append(known.completion_tokens)

    def remaining(self, name: str) -> RemainingCost:
        """The estimate: mean tokens of the cached answers, else 4 characters a token and answers of full length."""
        count, price, limit = len(self.missing), self.meter.price, self.meter.max_tokens
        if self.prompts:
            prompt = round(count * sum(self.prompts) / len(self.prompts))
            completion: int | None = round(count * sum(self.completions) / len(self.completions))
        else:
            prompt = sum(shape.characters // 4 + IMAGE_TOKENS * len(shape.images) for shape in self.requests)
            completion = None if limit is None else count * limit
        usd = None if price is None or completion is None else price.usd(prompt, completion)
        bounds = [self.meter.most_usd(shape) for shape in self.missing]
        most = None if None in bounds else sum(bound for bound in bounds if bound is not None)
        counts = self.wanted, self.wanted - count, len(self.requests)
        return RemainingCost(name, *counts, prompt, completion, usd, most, self.is_simulated)


class Pace:
    """Spaces a model's calls evenly, so that no minute exceeds its limits."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        """None = without limit."""
        self._request_s = MINUTE_S / requests_per_minute if requests_per_minute else 0.0
        self._token_s = MINUTE_S / tokens_per_minute if tokens_per_minute else 0.0
        self._next = 0.0
        self._queue = asyncio.Lock()
        self._ended = asyncio.Event()

    async def turn(self, tokens: int) -> bool:
        """Waits until a call of so many tokens (prompt and answers) may be sent; False = no call may be sent at all."""
        async with self._queue:  # one call at a time watches the clock, so a pause holds for all that wait behind it
            self._next = max(self._next, time.monotonic())
            while (left := self._next - time.monotonic()) > 0:
                if await self.is_ended_within(left):
                    return False
            self._next += max(self._request_s, self._token_s * tokens)
            return not self._ended.is_set()

    def pause(self, seconds: float) -> None:
        """Delays all further calls by this time, which the provider has asked of one of them."""
        self._next = max(self._next, time.monotonic() + seconds)

    def end(self) -> None:
        """Allows no further call and wakes those that wait."""
        self._ended.set()

    async def is_ended_within(self, seconds: float) -> bool:
        """Waits this long for ``end``; returns at once, and True, when it is called."""
        try:
            return await asyncio.wait_for(self._ended.wait(), seconds)
        except asyncio.TimeoutError:
            return False
