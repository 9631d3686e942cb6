"""Numbers in words, from zero to one hundred: English and Chinese. No small library reads both without guessing."""

from __future__ import annotations

import re

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_UNITS = _SMALL.split()
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_DIGITS = "零一二三四五六七八九"


def _table() -> dict[str, int]:
    table = {word: value for value, word in enumerate(_UNITS)}
    for place, ten in enumerate(_TENS, 2):
        table[ten] = place * 10
        for value, word in enumerate(_UNITS[1:10], 1):
            table |= {f"{ten}{joint}{word}": place * 10 + value for joint in ("-", " ", "")}
    for value in range(100):
        tens, unit = divmod(value, 10)
        ten = ("" if tens == 1 else _DIGITS[tens]) + "十" if tens else ""
        table[ten + (_DIGITS[unit] if unit or not tens else "")] = value
    return table | {"one hundred": 100, "a hundred": 100, "一百": 100, "两": 2, "〇": 0, "一十": 10}


_VALUES = _table()
_WORDS = re.compile(r"(?:(minus|negative|负)\s*)?([a-z\- ]+|[零〇一二两三四五六七八九十百]+)", re.I)


def digits(text: str) -> str:
    """``twenty-one`` -> ``21``, ``负五`` -> ``-5``; another text, and a number above a hundred, unchanged."""
    found = _WORDS.fullmatch(text)
    if not found:
        signed = re.fullmatch(r"(?:minus|negative|负)\s*([0-9]+(?:\.[0-9]+)?)", text, re.I)
        return f"-{signed[1]}" if signed else text
    value = _VALUES.get(" ".join(found[2].lower().split()))
    if value is None:
        return text
    return f"{'-' if found[1] else ''}{value}"


def once(text: str) -> str:
    """``five (5)`` and ``5 (five)`` -> ``5``; another text unchanged."""
    found = re.fullmatch(r"([^()]+?)\s*\(([^()]+)\)", text)
    if not found:
        return text
    first, second = digits(found[1]), digits(found[2])
    is_said_twice = first == second and first.lstrip("-").isdigit() and (first, second) != (found[1], found[2])
    return first if is_said_twice else text
