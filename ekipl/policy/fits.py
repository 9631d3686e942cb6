"""Whether a model can read a prompt, told by the text and the sizes of the images before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from ekipl.policy.family import Family, family_of
from ekipl.policy.model import resolve_path

Size = tuple[int, int]  # width, height in pixels
PLAIN_RATIO = 10  # of the sides, which every model reads
FORMAT_TOKENS = 100  # more than a chat template adds
ROUNDING = 1.3  # an image's tokens over its pixels by a token's, at most: sides are rounded to whole patches


@dataclass(frozen=True)
class Reader:
    """The limits of a model. Its tokenizer is loaded only where a prompt may come near them.

    Attributes:
        path: folder or hub name.
        min_pixels: of an image as the model sees it.
        max_pixels: likewise.
        trust_remote_code: run code that comes with the model.
        answer: the most tokens of an answer.
        key: the setting that says so.
        config: the model's.
        family: of the model.
    """

    path: str
    min_pixels: int
    max_pixels: int
    trust_remote_code: bool
    answer: int
    key: str
    config: Any
    family: Family

    def __call__(self, prompt: str, sizes: Sequence[Size]) -> Iterator[str]:
        """The reasons why the model cannot read this prompt with images of these sizes."""
        plain = all(max(size) <= PLAIN_RATIO * min(size) for size in sizes)
        most = max(self.min_pixels, self.max_pixels) / self.family.pixels_per_token(self.config) * ROUNDING + 1
        if plain and len(prompt.encode(errors="replace")) + FORMAT_TOKENS + len(sizes) * most <= self._room:
            return
        images, is_sound = 0, True
        for width, height in sizes:
            try:
                images += self._image_tokens(width, height)
            except ValueError as error:  # an aspect ratio that the model has no patches for
                is_sound = False
                yield f"image: {width} x {height} pixels: {error}; crop it or leave out the row"
        text = len(self._tokenizer(prompt, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        if is_sound and (tokens := text + images + self._frame) > self._room:
            yield (
                f"prompt: {tokens:,} tokens ({text:,} of text, {images:,} of images), with {self.key}={self.answer} "
                f"more than the {self._context:,} that {self.path} reads; shorten it, or lower {self.key} or "
                "model.max_pixels"
            )

    @property
    def _context(self) -> int:
        context: int = self.config.get_text_config().max_position_embeddings
        return context

    @property
    def _room(self) -> int:
        """Tokens that a prompt may have."""
        return self._context - self.answer

    @cached_property
    def _tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(resolve_path(self.path), trust_remote_code=self.trust_remote_code)

    @cached_property
    def _frame(self) -> int:
        """Tokens of the chat format around a text."""
        message = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
        rendered = self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return len(self._tokenizer(rendered, add_special_tokens=False)["input_ids"]) - 1

    @cached_property
    def _image_tokens(self) -> Any:
        """The function from width and height to an image's tokens; it raises ValueError for an image too thin."""
        processor = AutoImageProcessor.from_pretrained(
            resolve_path(self.path),
            backend="pil",
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
            trust_remote_code=self.trust_remote_code,
        )
        merged = processor.merge_size**2

        @cache
        def tokens(width: int, height: int) -> int:
            patches = int(processor.get_number_of_image_patches(height, width))
            return patches // int(merged) + 2  # with the tokens before and after it

        return tokens


def reader(
    path: str, *, min_pixels: int, max_pixels: int, trust_remote_code: bool, answer: int, key: str
) -> Reader | None:
    """The limits of the model at ``path``; None where they are not known, or the model cannot be loaded.

    ``load_model`` tells why a model cannot be loaded.
    """
    try:
        config = AutoConfig.from_pretrained(resolve_path(path), trust_remote_code=trust_remote_code)
    except Exception:  # transformers raises many classes
        return None
    family = family_of(config)
    if family is None:  # evaluated only, with a processor of its own
        return None
    return Reader(path, min_pixels, max_pixels, trust_remote_code, answer, key, config, family)
