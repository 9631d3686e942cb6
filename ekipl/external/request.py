"""The types of one API call: the question, the call, its completions and the two ways in which it fails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from PIL import Image

from ekipl.algorithm.types import Finish, Problem
from ekipl.external.images import data_url

Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class Shape:
    """The sizes that decide the cost of a question. It holds no pixels, so a whole data set of shapes fits in memory.

    Attributes:
        images: width and height of each image.
        characters: length of the prompt.
        bytes: length of the prompt in UTF-8.
    """

    images: tuple[Size, ...]
    characters: int
    bytes: int


class Question:
    """A problem as one user message: its images as data URLs and its prompt, and nothing else."""

    def __init__(self, problem: Problem) -> None:
        """Encodes nothing yet: each property is computed when it is first read."""
        self.problem = problem

    @property
    def name(self) -> str:
        """``task/split/id``, unique among all problems."""
        return f"{self.problem.task}/{self.problem.split}/{self.problem.id}"

    @cached_property
    def shape(self) -> Shape:
        """The sizes of the images and of the prompt."""
        prompt = self.problem.prompt
        sizes = tuple(image.size for image in self.problem.images)
        return Shape(sizes, len(prompt), len(prompt.encode(errors="replace")))

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """The message in the OpenAI chat format."""
        return self._messages(data_url)

    @cached_property
    def fingerprint(self) -> list[dict[str, Any]]:
        """The message with digests of the pixels in place of the images, so that no encoder changes cache keys."""
        return self._messages(digest)

    def _messages(self, url: Callable[[Image.Image], str]) -> list[dict[str, Any]]:
        content = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": url(part)}}
            for part in self.problem.parts
        ]
        return [{"role": "user", "content": content}]


def digest(image: Image.Image) -> str:
    """SHA-256 of the pixels (as RGBA) and of the image's size."""
    pixels = image.convert("RGBA")
    return hashlib.sha256(f"{pixels.width}x{pixels.height}:".encode() + pixels.tobytes()).hexdigest()


@dataclass(frozen=True)
class Call:
    """One API call.

    Attributes:
        model: LiteLLM's name, ``provider/model``.
        messages: in the OpenAI chat format.
        parameters: decoding and other parameters of the provider.
        api_base: address of the server; None = the provider's own.
        api_key: None = LiteLLM looks in the environment.
        timeout_s: seconds from sending to the last byte of the answer.
        known: the facts for a simulated expert (``simulated.known``); None for a real model.
        choices: completions requested, the API's ``n``.
        max_body: most bytes of the answer's body, packed and unpacked.
    """

    model: str
    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    parameters: Mapping[str, Any]
    api_base: str | None
    api_key: str | None = field(repr=False)
    timeout_s: float
    known: Mapping[str, Any] | None = field(default=None, repr=False)
    choices: int = 1
    max_body: int = 8 * 10**6


@dataclass(frozen=True)
class Completion:
    """One answer of a model, as the cache stores it.

    Attributes:
        text: character for character as received.
        finish: ``length`` when the answer was cut at its token limit.
        prompt_tokens: as the provider counted them; 0 = it reported none.
        completion_tokens: likewise.
        version: the model that the provider says has answered.
        fault: why the text is useless (empty, filtered, a refusal); None = it is usable.
        shared: completions of the call; ``prompt_tokens`` were billed once for all of them.
    """

    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    version: str = ""
    fault: str | None = None
    shared: int = 1


class Rejected(Exception):
    """The API rejected the call and would reject it again: a bad key, an unknown model or parameter, a spent quota.

    Attributes:
        status: the HTTP status.
        parameter: the rejected parameter, where the provider names one.
        is_spent: the quota is used up.
        of_row: True, the provider says that the question is at fault (its length, its picture); False, it says that
            the settings are; None, it does not say.
    """

    def __init__(
        self, status: int, parameter: str | None, message: str, *, is_spent: bool = False, of_row: bool | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.parameter, self.is_spent, self.of_row = status, parameter, is_spent, of_row


class Unavailable(Exception):
    """The call failed; its text is the reason by which the failure is counted.

    Attributes:
        retry_after_s: a retry after so many seconds may succeed.
        may_be_billed: the request arrived and no error came back, so the provider may have answered and may charge
            for it.
        again: whether asking again may help.
        detail: what exactly happened, for messages and the ledger.
        misdirected: the answer came from something that is not the API; before a first answer the address is wrong.
    """

    def __init__(
        self,
        reason: str,
        retry_after_s: float = 0.0,
        *,
        may_be_billed: bool = False,
        again: bool = True,
        detail: str = "",
        misdirected: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retry_after_s, self.may_be_billed = retry_after_s, may_be_billed
        self.again, self.detail, self.misdirected = again, detail, misdirected
