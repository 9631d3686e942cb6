r"""Parsers of completions: the tagged blocks, and the functions of the answer.

Completions are hostile input: the parsers are pure, take time linear in the length of the text, and evaluate nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ekipl.reward import sentence

_BETWEEN_BLOCKS = re.compile(r"</think>\s*<answer>")


def well_formed(text: str) -> bool:
    r"""Whether the whole text is a think block, optional white space and an answer block.

    Equal to Reason-RFT's full match of ``<think>.*?</think>\s*<answer>.*?</answer>``, which takes quadratic time.
    """
    if not (text.startswith("<think>") and text.endswith("</answer>")):
        return False
    between = _BETWEEN_BLOCKS.search(text, len("<think>"))
    return between is not None and between.end() <= len(text) - len("</answer>")


def answer_block(text: str) -> str | None:
    """The text inside the first answer block, line breaks included; None without one."""
    start = text.find("<answer>")
    end = text.find("</answer>", start)
    return text[start + len("<answer>") : end] if 0 <= start < end else None


def answer_block_on_one_line(text: str) -> str | None:
    """The text inside the first answer block on one line: the published evaluator of functions reads no other."""
    return next((block for line in text.split("\n") if (block := answer_block(line)) is not None), None)


def answer_text(text: str) -> str:
    """What the completion answers: the first answer block after the last </think>, whatever the thinking holds.

    Without a block, the text after </think>; of a text without thinking, the first block or the whole. Empty when the
    thinking does not end.
    """
    _, closed, rest = text.rpartition("</think>")
    if not closed and "<think>" in text:
        return ""
    block = answer_block(rest)
    return (sentence.conclusion(rest) if block is None else block).strip()


# --- functions ---


class Function(NamedTuple):
    """One step of a transformation, such as change_color(3, cyan)."""

    name: str
    object: str
    value: str


_PUBLISHED = re.compile(r"(?<!\w)(\w+)\((\w+),\s*'?(\w+)'?\)")  # from the start of a word, else it is quadratic
_CALL = re.compile(r"(?<!\w)(\w+)\s*\(([^()]*)\)")
_LEADING_ZEROS = re.compile(r"^0+(?=[0-9])")


def functions_as_published(text: str) -> list[Function]:
    """The functions in Reason-RFT's spelling, in order and with repeats; other spellings are ignored."""
    return [Function(*found) for found in _PUBLISHED.findall(text)]


def functions(text: str) -> list[Function]:
    """The functions in any case, with any quotes and spaces: `Change_Position( "5", Front Left )`.

    A ``change_`` call with a wrong number of arguments is kept. It equals no valid function, so it counts as wrong.
    """
    found = []
    for name, inside in _CALL.findall(text.lower()):
        target, *values = (_plain_argument(part) for part in inside.split(","))
        if len(values) == 1:
            found.append(Function(name, _LEADING_ZEROS.sub("", target), values[0]))
        elif name.startswith("change_"):
            found.append(Function(name, target, f"({inside})"))
    return found


def _plain_argument(text: str) -> str:
    return re.sub(r"[\s_-]+", "_", text.strip(" \t\r\n'\"`"))
