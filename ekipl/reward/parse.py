r"""Parsers of completions: the tagged blocks, and the letter, number or functions of the answer.

Completions are hostile input: the parsers are pure, take time linear in the length of the text, and evaluate nothing.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

LONGEST = 500  # characters; a longer answer is no letter, number or expression

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
    """The first answer block; without one, the text after </think>; empty when the thinking does not end."""
    block = answer_block(text)
    if block is None:
        thinking, closed, rest = text.rpartition("</think>")
        block = rest if closed or "<think>" not in text else ""
    return block.strip()


# --- letters and numbers ---

_STATED = re.compile(r".*\banswer is\b", re.I | re.S)
_LEAD = re.compile(
    r"(?:(?:the|my)\s+)?(?:(?:correct|final|right|best)\s+)?(?:answer|choice|option)\b(?:\s+is\b)?", re.I
)
_LETTER = re.compile(r"(?:\(([A-Za-z])\)|([A-Za-z])(?:[).:]|$))(.*)", re.S)
_ANOTHER = re.compile(
    r"(?:^|\b(?:or|and)\b|[,/;&])\s*\(?[A-Z](?![A-Za-z])|\b(?:or|and)\s*\(?[a-e](?![A-Za-z]| [a-z]{2})"
    r"|(?<![A-Za-z])[A-Za-e][).:]"
)
_WRAPPED = re.compile(r"\\(?:boxed|text)\{(.*)\}|\\\((.*)\\\)|\\\[(.*)\\\]|\*\*(.*)\*\*", re.S)


def _bare(text: str) -> str:
    r"""The answer without "the answer is", a final full stop, $, \boxed{} and other wrapping; empty when too long."""
    text = text.replace("$", "").strip()
    lead = _STATED.match(text) or _LEAD.match(text)
    text = text[lead.end() :].lstrip(" \t\n:=") if lead else text
    if len(text) > LONGEST:
        return ""
    text = text.removesuffix(".").strip()
    for _ in range(3):
        wrapped = _WRAPPED.fullmatch(text)
        if not wrapped:
            break
        text = next(group for group in wrapped.groups() if group is not None).strip()
    return text


def choice(answer: str) -> str | None:
    """The chosen letter of "B", "b", "(B)", "B.", "B. 12", "The answer is B"; None unless there is exactly one."""
    found = _LETTER.fullmatch(_bare(answer))
    if not found or _ANOTHER.search(found[3].strip()):
        return None
    return str(found[1] or found[2]).upper()


_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_DECIMAL = re.compile(rf"[-+]?(?:{_DIGITS})")
_FRACTION = re.compile(
    rf"([-+]?)(?:\\[dt]?frac\s*\{{\s*({_DIGITS})\s*\}}\s*\{{\s*({_DIGITS})\s*\}}|({_DIGITS})\s*/\s*({_DIGITS}))"
)


def decimal(text: str) -> Fraction | None:
    """The value of "-3", "1,000" or "3.50", else None. Exponents are rejected: 1e999999999 is a huge number."""
    if len(text) > LONGEST or not _DECIMAL.fullmatch(text):
        return None
    return Fraction(text.replace(",", ""))


def fraction(text: str) -> Fraction | None:
    r"""The value of a decimal or of a simple fraction ("1/2", "-\frac{1}{2}"), else None."""
    value = decimal(text)
    if value is not None or len(text) > LONGEST:
        return value
    found = _FRACTION.fullmatch(text)
    if not found:
        return None
    above, below = (Fraction((found[i] or found[i + 2]).replace(",", "")) for i in (2, 3))
    return None if below == 0 else (-above if found[1] == "-" else above) / below


_UNIT = re.compile(
    r"(?<=[0-9.})\sπ])\s*(?:°|\^\s*\{?\s*\\circ\s*\}?|\\degree|(?i:degrees?)"
    r"|\\?(?:[cmdk]?m|CM|MM|KM|米|(?i:inch(?:es)?|feet|ft|meters?|units?))(?:\s*(?:\^\s*\{?[23]\}?|[²³]))?)$"
)
_EQUATION = re.compile(r"[^<>!]*=([^=]*)")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}")
_WORD = re.compile(r"(?<![A-Za-z])(?!(?:sqrt|frac|pi|sin|cos|tan|cot|sec|csc|log|ln|exp)(?![A-Za-z]))[A-Za-z]{2,}")
_IN_PROSE = re.compile(rf"(?<![\w.])[-+]?(?:{_DIGITS})(?!\.?\w)")
_TWISTED = re.compile(  # modifiers (not 3, at least 3) and numbers in words: the one number is not the answer
    r"[+*/^_<>≤≥≠≈√π\\|!?±×÷·~#&{}\[\]…]|n't\b"
    r"|\b(?:no|not|nor|or|but|never|neither|except|than|least|most|zero|one|two|three|four|five|six|seven|eight|nine|ten"
    r"|eleven|twelve|\w{3,5}teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|dozens?|hundreds?|thousands?|[mb]illions?)\b"
    r"|\b(?:minus|negative|half|third|quarter|twice|double|triple|over|under|above|below|beyond|almost|nearly|up to"
    r"|root|sine?|cos(?:ine)?|tan(?:gent)?|cot|sec|csc|log|ln|exp|sqrt|-)\s*(?:of\s*)?[0-9.]"
    r"|[0-9.]\s*(?:-\s|(?:squared|cubed|plus|minus|times|pi|mod|[A-Za-ln-z])(?![A-Za-z]))",
    re.I,
)
_SPACE = re.compile(r"\\(?:[,;:! ]|q?quad(?![A-Za-z]))|~")
_SEVERAL = re.compile(r"[0-9]\s+[0-9]|[0-9]\s*_|\\boxed|\\[(\[]")
_SPELLINGS = (
    (re.compile(r"√\s*([0-9]+)|(?:√|(?<!\\)sqrt)\s*\(([^()]*)\)"), lambda found: rf"\sqrt{{{found[1] or found[2]}}}"),
    (re.compile(r"√"), lambda found: r"\sqrt"),
    (re.compile(r"π|(?<![A-Za-z\\])pi(?![A-Za-z])"), lambda found: r"\pi "),
    (re.compile(r"\*\*"), lambda found: "^"),
    (re.compile(r"\)\s*\("), lambda found: r")\cdot ("),
    (re.compile(r"[*×·]"), lambda found: r"\cdot "),
)


def number(answer: str) -> str:
    r"""The number or expression alone, in LaTeX: "x = 5 cm." -> "5", "3 objects" -> "3", "10√2" -> "10\sqrt{2}".

    Empty when it is not one expression: prose with several numbers ("3 or 4"), numbers in a row, an open bracket.
    """
    return _expression(_bare(answer))


@lru_cache(maxsize=4096)
def _expression(text: str) -> str:
    text = text.replace("−", "-").replace(r"\%", "%")
    equation = _EQUATION.fullmatch(text)
    text = " ".join(_SPACE.sub(" ", _TEXT.sub(r" \1 ", equation[1] if equation else text)).split())
    text = _UNIT.sub("", text).strip()
    if fraction(text) is not None:
        return text
    if _WORD.search(_COMMAND.sub(" ", text)):
        numbers = _IN_PROSE.findall(text)
        return str(numbers[0]).rstrip(".") if len(numbers) == 1 and not _TWISTED.search(text) else ""
    if _SEVERAL.search(text) or not _closed(text):
        return ""
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    return text


forget = _expression.cache_clear


def _closed(text: str) -> bool:
    """Whether every bracket is closed and none is deeper than 12: some parsers take exponential time in the depth."""
    depth = 0
    for character in text:
        depth += (character in "({[") - (character in ")}]")
        if not 0 <= depth <= 12:
            return False
    return depth == 0


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
