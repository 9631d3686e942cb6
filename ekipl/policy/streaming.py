"""Text while its tokens are sampled."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, runtime_checkable

from ekipl.algorithm.types import Action, Problem

Told = Callable[[str], None]  # gets the next part of a text
UNFINISHED = "\ufffd"  # ends a text whose last character lacks bytes


@runtime_checkable
class Streams(Protocol):
    """A sampler that tells an answer while it samples it."""

    def stream(self, problem: Problem, seed: int, told: Told) -> Action:
        """Sample 0 of the problem; ``told`` gets its text in parts, which together are the action's."""
        ...


class Text:
    """The text of tokens that come one by one; a character of several tokens is told when it is whole."""

    def __init__(self, decode: Callable[[list[int]], str], ends: Collection[int], told: Told) -> None:
        """Tell the text of tokens, as ``decode`` makes it of them; those in ``ends`` have none."""
        self._decode, self._ends, self._told = decode, ends, told
        self._ids: list[int] = []
        self._shown = ""

    def add(self, token: int) -> None:
        """The next token."""
        if token in self._ends:
            return
        self._ids.append(token)
        text = self._decode(self._ids)
        if not text.endswith(UNFINISHED):
            self.finish(text)

    def finish(self, text: str) -> None:
        """Tell what is left of this text."""
        if len(text) > len(self._shown) and text.startswith(self._shown):
            self._told(text[len(self._shown) :])
            self._shown = text
