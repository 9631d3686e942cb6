"""Whether an answer of words is the gold answer: equal texts after what does not change a word is taken off.

Taken off are the Unicode form (NFKC), case, invisible characters, the amount of white space, quotes, brackets and
Markdown around the whole, punctuation at the end, and an article in front. Nothing inside a text is changed.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_SIGNS = str.maketrans(dict.fromkeys("‘’‛´`", "'") | dict.fromkeys("“”„‟", '"') | dict.fromkeys("‐‒–—―−", "-"))
_PAIRS = {"(": ")", "[": "]", "{": "}", "'": "'", '"': '"', "*": "*", "«": "»", "「": "」", "『": "』"}
_STOPS = ".,;:!?…。、"
_ARTICLE = re.compile(r"(?:a|an|the)\s+(?=\S)")


def same(answer: str, gold: str) -> bool:
    """Whether the two are one text in normal form."""
    return normal(answer) == normal(gold)


@lru_cache(maxsize=4096)
def normal(text: str) -> str:
    """The normal form: ``**The Red  bus.**`` -> ``red bus``. A text of punctuation alone stays as it is."""
    whole = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_SIGNS)
    whole = " ".join("".join(char for char in whole if unicodedata.category(char) != "Cf").split())
    core = _bare(whole)
    return _ARTICLE.sub("", core, count=1) if _ARTICLE.match(core) else core or whole


def _bare(text: str) -> str:
    """The text without pairs around it and punctuation behind it."""
    while True:
        core = text.rstrip(_STOPS).strip()
        if len(core) > 1 and _PAIRS.get(core[0]) == core[-1] and _encloses(core):
            core = core[1:-1].strip()
        if core == text:
            return core
        text = core


def _encloses(text: str) -> bool:
    """Whether the first sign is closed by the last one: not in ``(a) or (b)`` and ``"a" or "b"``."""
    opening, closing = text[0], text[-1]
    if opening == closing:
        return opening not in text[1:-1] or (set(text[:2]) == set(text[-2:]) == {opening} and len(text) > 4)
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == opening) - (sign == closing)
        if depth == 0:
            return place == len(text) - 1
    return False
