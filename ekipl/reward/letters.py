"""The letters that an answer chooses: ``B``, ``(B) 12``, ``I choose B``, ``B, because ...``, ``A, C``; closed forms."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ekipl.reward import comparison, sentence, values, writing

_ONE = (
    r"(?:\(\s*([A-Za-z])\s*\)|\[\s*([A-Za-z])\s*\]|\{\s*([A-Za-z])\s*\}"
    r"|\"\s*([A-Za-z])\s*\"|'\s*([A-Za-z])\s*'|([A-Za-z]))"
)
_ALONE = re.compile(rf"{_ONE}\s*[.):,;]?")
_WITH_TEXT = re.compile(
    rf"{_ONE}(?P<joint>\s*[.):,=]+\s*"
    r"|\s+-+\s*|\s*-+\s+|-+(?=[0-9])|\s+(?=[-0-9(\\√])|(?<=[\])\"'}])\s*)(?P<text>.+)",
    re.S,
)
_APPOSITION = re.compile(r"(?:which is|that is|i\.e\.|namely)[\s,]*", re.I)
_BEHIND = re.compile(r"(?P<text>[^()\n]*[0-9][^()\n]*?)[\s,.]*\(\s*(?P<letter>[A-Z])\s*\)")
_REASON = re.compile(rf"{_ONE}[\s,.:-]*(?:\b(?:because|since|as|for|due to)\b|因为|由于)\s*(?P<text>.+)", re.S | re.I)
_JOINT = r"(?:\s*(?:,|;|&|\band\b|和|与|及)\s*(?:and\s+)?|\s+)"
_MANY = re.compile(rf"{_ONE}(?:{_JOINT}{_ONE})+\.?")
_RUN = re.compile(r"[A-Z]{2,8}")
_ANY_LETTER = re.compile(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_OPTION_LETTER = re.compile(r"(?<![A-Za-z])[A-H](?![A-Za-z])")
_IN_REASON = re.compile(  # a second statement behind the reason
    r"[.!?;:\n]\s*\S|(?<![A-Za-z])[B-H](?![A-Za-z])|(?<![A-Za-z])A(?![A-Za-z]| [a-z])"
    r"|\b(?:answer|choose|choice|option|but|however|actually|although|though|instead|wait|unless|or|no|not|wrong|false"
    r"|incorrect|never|neither|nor|rather|correction|other|reject\w*|exclude\w*|eliminat\w*|discard\w*)\b|n't|答案|选|不|但|错|或",
    re.I,
)
_OPTION = r"(?:^|[\s,;(]){letter}\s*[.):、：]\s*(.+?)(?=\s*(?:[,;]?\s+\(?[A-Z]\s*[.):、：]|\n|$))"
_LISTED = re.compile(r"\b(?:choices|options)\s*:|选项", re.I)
_TWO_LISTED = re.compile(r"(?:^|\s)(?:\(A\)\s.*\s\(B\)\s|A[.)]\s.*\sB[.)]\s)", re.S)


class Chosen(NamedTuple):
    """The letters, and the text of the option behind a single one."""

    letters: frozenset[str]
    text: str = ""


def lists_options(question: str) -> bool:
    """Whether the question lists options: under "Choices:" or the like, or as (A) ... (B) ..."""
    return bool(_LISTED.search(question) or _TWO_LISTED.search(question))


@lru_cache(maxsize=4096)
def read(text: str) -> Chosen | None:
    """The letters that the text chooses; None where it chooses none, or hedges."""
    plain = writing.plain(text)
    if len(plain) == 1 and plain.isascii():
        return Chosen(frozenset(plain.upper())) if plain.isalpha() else None
    for core in dict.fromkeys((sentence.stated(plain), plain)):
        if chosen := _chosen(core):
            return chosen if set(_OPTION_LETTER.findall(plain)) <= chosen.letters else None  # not "A is B"
    return None


forget = read.cache_clear


def same(answer: str, gold: str, question: str = "") -> bool:
    """Whether the answer chooses the letters of the gold answer, in any order, and no other option's text.

    Raises:
        GraderError: the equality of two options could not be decided in time.
    """
    ours, wanted = read(answer), read(gold)
    if ours is None or wanted is None or ours.letters != wanted.letters:
        return False
    if not ours.text:
        return True
    known = wanted.text or option(question, next(iter(wanted.letters)))
    if known:
        return ours.text.casefold() == known.casefold() or comparison.same(ours.text, known)
    stated = values.read(ours.text) if any(map(str.isdigit, ours.text)) else None
    return stated is not None and not (isinstance(stated, values.Several) and stated.brackets == "or")


def option(question: str, letter: str) -> str:
    """The text of an option as the question lists it; empty where it cannot be found."""
    heading = _LISTED.search(question)
    found = re.search(_OPTION.format(letter=letter), question[heading.end() if heading else 0 :])
    return writing.plain(found[1]) if found else ""


def _chosen(core: str) -> Chosen | None:
    core = re.sub(r"(?<=[A-Z])\s*选?项$", "", core)
    if found := _ALONE.fullmatch(core):
        return Chosen(_letters(found))
    if found := _REASON.fullmatch(core):
        is_reason = re.search(r"\w\W+\w|[\u4e00-\u9fff]{2}", found["text"]) and not _IN_REASON.search(found["text"])
        return Chosen(_letters(found)) if is_reason else None
    if _RUN.fullmatch(core):
        return Chosen(frozenset(core)) if len(set(core)) == len(core) else None
    if _MANY.fullmatch(core):
        several = _ANY_LETTER.findall(core)
        if not (
            all(map(str.isupper, several))
            or (all(map(str.islower, several)) and not re.search(r"(?<![A-Za-z])[a-z]\s[a-z](?![A-Za-z])", core))
        ):
            return None
        several = [letter.upper() for letter in several]
        return Chosen(frozenset(several)) if len(set(several)) == len(several) else None
    if found := _WITH_TEXT.fullmatch(core):
        rest = sentence.stated(_APPOSITION.sub("", found["text"].strip()))
        inner = _chosen(rest) if rest else None
        if rest and (inner is None or (inner.text and "=" in rest)):  # not "A. B", but "A. x = 12"
            return Chosen(_letters(found), rest.removesuffix("."))
    if (found := _BEHIND.fullmatch(core)) and values.read(found["text"]):
        return Chosen(frozenset(found["letter"]), found["text"])
    return None


def _letters(found: re.Match[str]) -> frozenset[str]:
    return frozenset(next(letter for letter in found.groups()[:6] if letter).upper())
