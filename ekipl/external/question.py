"""A problem as the message that an external model gets."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

from PIL import Image

from ekipl.algorithm.types import Problem

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Shape:
    """What the cost of a question depends on: the sizes of its images, characters and UTF-8 bytes of its prompt."""

    images: tuple[Size, ...]
    characters: int
    bytes: int


class Question:
    """One user message: the problem's images as PNG data URLs, then the prompt, and nothing else."""

    def __init__(self, problem: Problem) -> None:
        """Nothing is encoded before it is asked for."""
        self.problem = problem

    @property
    def name(self) -> str:
        """Of the problem among all splits of all tasks."""
        return f"{self.problem.task}/{self.problem.split}/{self.problem.id}"

    @cached_property
    def shape(self) -> Shape:
        """Without the pixels, of which no memory holds those of a whole data set."""
        prompt = self.problem.prompt
        sizes = tuple(image.size for image in self.problem.images)
        return Shape(sizes, len(prompt), len(prompt.encode(errors="replace")))

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """In the OpenAI chat format."""
        return self._messages([data_url(image) for image in self.problem.images])

    @cached_property
    def fingerprint(self) -> list[dict[str, Any]]:
        """The messages with digests of the pixels in place of the images, whatever PNG encoder is installed."""
        return self._messages([digest(image) for image in self.problem.images])

    def _messages(self, images: list[str]) -> list[dict[str, Any]]:
        parts = [{"type": "image_url", "image_url": {"url": image}} for image in images]
        return [{"role": "user", "content": [*parts, {"type": "text", "text": self.problem.prompt}]}]


def data_url(image: Image.Image) -> str:
    """The image as PNG, every pixel as it is."""
    file = BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def digest(image: Image.Image) -> str:
    """SHA-256 of the pixels and the image's shape."""
    pixels = image.convert("RGBA")
    return hashlib.sha256(f"{pixels.width}x{pixels.height}:".encode() + pixels.tobytes()).hexdigest()
