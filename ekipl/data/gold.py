"""The gold answer of a row and its kind, found once when the row is read and never while grading."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import AnswerKind
from ekipl.reward import comparison, letters, parse, values

LONGEST_TEXT = 1_000_000  # characters of a question, several times the context of any model
LONGEST_ANSWER = 10_000  # characters of a gold answer
MOST_ANSWERS = 1_000  # accepted answers of one row
KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)
_HALVES = re.compile("[\ud800-\udfff]")  # of a surrogate pair, which alone are no character
_PLAIN = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")  # the most frequent numbers, without the rest of the grammar
_WORD = re.compile(r"[^\W\d_]{2,}")
_NAMES = frozenset({"pi", "infinity", "inf"})  # words that are values
_DATE = re.compile(r"\d{1,4}([-/.:])\d{1,2}\1\d{1,4}")


@dataclass(frozen=True)
class Gold:
    """A gold answer without tags.

    Attributes:
        answer: the first accepted one.
        kind: how it is compared.
        accepted: all of them, where there are several.
        is_stated: whether the data or a setting says the kind; else it was inferred from the answer.
    """

    answer: str
    kind: AnswerKind
    accepted: tuple[str, ...] = ()
    is_stated: bool = False


def answer_kind(answer: str, question: str = "") -> AnswerKind:
    """The kind of a gold answer that has no stated kind, derived once, when the row is read.

    ``functions`` if it holds functions; ``choice`` if it is a letter A to D or, where the question lists its options,
    chooses letters in any way that ``strict`` reads; ``number`` if it has an exact rational value; else ``expression``.
    """
    if _PLAIN.fullmatch(answer):
        return "number"
    if parse.functions(answer):
        return "functions"
    if letters.read(answer) if letters.lists_options(question) else re.fullmatch("[A-D]", answer):
        return "choice"
    return "number" if values.exact(answer) else "expression"


def inferred(answers: tuple[str, ...], question: str, task: Task) -> AnswerKind:
    """The kind of these accepted answers for a task: ``answer_kind``, or ``text`` where it has that kind.

    Words, dates and answers of different kinds are ``text``.
    """
    kinds = {answer_kind(answer, question) for answer in answers}
    kind = kinds.pop()
    if "text" not in task.kinds:
        return kind
    return "text" if kinds or (kind in ("number", "expression") and all(map(_is_worded, answers))) else kind


def _is_worded(answer: str) -> bool:
    """Whether an answer that may be read as a value is words, or a date or time."""
    if _PLAIN.fullmatch(answer):
        return False
    if _WORD.fullmatch(answer):
        return answer.casefold() not in _NAMES and not values.exact(answer)  # "three" is a number
    return bool(_DATE.fullmatch(answer)) or comparison.only_as_spelled(answer)


def gold(value: Any, stated: Any, question: str, task: Task) -> Gold:
    """The gold answer in a field of a row.

    Args:
        value: a text, a whole number, or a tuple of accepted ones.
        stated: the kind that the row states; None: that of ``task.kind`` if there is one, else ``inferred``.
        question: may list options.
        task: the kinds it has.

    Raises:
        ValueError: the answer is missing, no text, or not of a kind that the task has.
    """
    given = value if isinstance(value, tuple) else (value,)
    if not given:
        raise ValueError("answer: an empty list; give one accepted answer or more")
    if len(given) > MOST_ANSWERS:
        raise ValueError(f"answer: {len(given):,} accepted answers; at most {MOST_ANSWERS:,} are read")
    answers = tuple(dict.fromkeys(map(_untagged, given)))
    stated = getattr(task, "kind", None) if stated is None else stated
    if stated is not None and stated not in KINDS:
        raise ValueError(f"kind: {reprlib.repr(stated)}: not one of {', '.join(KINDS)}")
    kind = cast(AnswerKind, stated) if stated else inferred(answers, question, task)
    for answer in answers:
        if kind not in task.kinds:
            raise ValueError(f"answer: {reprlib.repr(answer)}: {kind}; {task.name} needs {' or '.join(task.kinds)}")
        is_empty = kind == "functions" and not parse.functions(answer)
        if is_empty or (kind == "choice" and not letters.read(answer)):
            raise ValueError(f"answer: {reprlib.repr(answer)}: not of kind {kind}")
    return Gold(answers[0], kind, answers if len(answers) > 1 else (), bool(stated))


def _untagged(value: Any) -> str:
    text = as_text(value)
    if fault := text_fault(text, LONGEST_ANSWER):
        raise ValueError(f"answer: {fault}")
    assert isinstance(text, str)
    block = parse.answer_block(text)
    answer = (text if block is None else block).strip()
    if not answer:
        raise ValueError(f"answer: {reprlib.repr(text)}: nothing between its tags")
    return answer


def gold_of(row: Mapping[str, Any], question: str, task: Task) -> Gold:
    """The gold answer, or the accepted ones, of a raw row of Reason-RFT's fields. Raises ValueError like ``gold``."""
    value = answer_of(row)
    return gold(tuple(value) if isinstance(value, list) else value, row.get("kind"), question, task)


def answer_of(row: Mapping[str, Any]) -> Any:
    """The field of a raw row that holds its answer."""
    return row.get("solution") if row.get("answer") is None else row["answer"]


def gold_as_it_stands(row: Mapping[str, Any], question: str, task: Task) -> Gold:
    """Like ``gold_of``, but with white space and tags, and of any kind: the published graders compare texts.

    Raises:
        ValueError: the answer is missing or no text.
    """
    text = as_text(answer_of(row))
    if not isinstance(text, str):
        return gold_of(row, question, task)
    try:
        return Gold(text, gold_of(row, question, task).kind)
    except ValueError:
        return Gold(text, task.kinds[0])


def as_text(value: Any) -> Any:
    """A whole number as the text that it is in many files, such as ``"answer": 5``; anything else unchanged."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def text_fault(value: Any, longest: int = LONGEST_TEXT) -> str | None:
    """Why a field of a row is no text that can be read; None when it is one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "missing"
    if not isinstance(value, str) or not value.strip():
        way = "; quote it" if isinstance(value, float) else ""
        way = "; write the word that is to be said, such as yes" if isinstance(value, bool) else way
        return f"{reprlib.repr(value)}: not a text{way}"
    if len(value) > longest:
        return f"{reprlib.repr(value)}: {len(value):,} characters; at most {longest:,} are read"
    if half := _HALVES.search(value):
        return f"{reprlib.repr(value)}: half of a surrogate pair ({half[0]!r}) is no character; correct the text"
    return None
