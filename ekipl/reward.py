"""R(o) = R_format(o) + R_acc(o), Eq. 6: our own strict scoring, and Reason-RFT's rewards and evaluators as published.

Names of scorings:
    strict                format after stripping outer white space; equal values, letters, sets of functions.
    reason_rft            the published evaluators: math-verify; partial credit for functions.
    reason_rft_reward     the published training rewards: equal strings; share of functions matched, repeats punished.
    reason_rft_partial    training reward for functions with partial credit.
    reason_rft_penalty    training reward for functions where half-right ones cost.
    reason_rft_tolerance  training reward for numbers that falls from 5 to 20 percent of deviation.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain

from ekipl import grading, parse
from ekipl.actions import AnswerKind, Reward
from ekipl.errors import UsageError

SCORINGS: dict[str, tuple[AnswerKind, ...]] = {  # and the kinds of answer that each grades
    "strict": ("number", "choice", "expression", "functions"),
    "reason_rft": ("number", "choice", "expression", "functions"),
    "reason_rft_reward": ("number", "choice", "expression", "functions"),
    "reason_rft_partial": ("functions",),
    "reason_rft_penalty": ("functions",),
    "reason_rft_tolerance": ("number", "choice", "expression"),
}


def check_scoring(scoring: str, task: str, kinds: Sequence[AnswerKind]) -> str:
    """``scoring`` itself, when it is known and grades every kind of answer of the task. Raises UsageError."""
    fitting = [name for name, graded in SCORINGS.items() if set(kinds) <= set(graded)]
    if scoring not in fitting:
        reason = f"does not grade the answers of {task}" if scoring in SCORINGS else "no such scoring"
        raise UsageError(f"scoring: {scoring}: {reason}; use one of {', '.join(fitting)}")
    return scoring


def grade(text: str, gold: str, kind: AnswerKind, scoring: str) -> Reward:
    """Grade one completion: format 0 or 1; accuracy in [0, 1], in [-0.5, 1] with ``reason_rft_penalty``.

    For functions ``detail`` holds ``exact`` and ``partial`` whatever the scoring.

    Raises:
        GraderError: the equivalence of two expressions could not be decided.
    """
    strict = scoring == "strict"
    formatted = float(parse.well_formed(text.strip() if strict else text))
    if kind == "functions":
        return _grade_functions(text, gold, scoring, formatted)
    if strict:
        same = _same_choice if kind == "choice" else _same_number
        return Reward(formatted, float(same(parse.answer_text(text), gold.strip())))
    return Reward(formatted, _published_accuracy(text, gold, scoring))


# --- letters, numbers, expressions ---


def _same_choice(answer: str, gold: str) -> bool:
    letter = parse.choice(answer)
    return letter is not None and letter == parse.choice(gold)


def _same_number(answer: str, gold: str) -> bool:
    if answer == gold:
        return True
    ours, wanted = parse.number(answer), parse.number(gold)
    if not ours or not wanted:
        return False
    value, target = parse.fraction(ours.removesuffix("%")), parse.fraction(wanted)
    if value is not None and target is not None:
        if ours.endswith("%"):  # 50% answers both "how many percent" and "which part"
            return target in (value, value / 100)
        if value == target or (parse.decimal(ours) is not None and parse.decimal(wanted) is not None):
            return value == target
    return grading.equal(ours, wanted, latex=True)


def _published_accuracy(text: str, gold: str, scoring: str) -> float:
    block = parse.answer_block(text)
    answer = (text if block is None else block).strip()
    gold = (parse.answer_block(gold) or gold).strip()
    if answer == gold and scoring != "reason_rft_tolerance":
        return 1.0
    near = _tolerance(answer, gold) if scoring == "reason_rft_tolerance" else 0.0
    if near == 0.0 and (block is None or scoring == "reason_rft"):
        return float(_verified(answer, gold))
    return near


_INTEGER = re.compile(r"-?[0-9]{1,15}")


def _verified(answer: str, gold: str) -> bool:
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold):
        return int(answer) == int(gold)
    if len(gold) == 1 and gold.isalpha():
        return False  # math-verify finds nothing to compare in a bare letter
    return grading.equal(answer, gold, latex=False)


def _tolerance(answer: str, gold: str) -> float:
    """1 within 5 percent of the gold, 0 beyond 20, half a cosine between; or equal text. Nothing meets a gold of 0."""
    try:
        value, target = float(answer), float(gold)
    except ValueError:
        return float(answer == gold)
    if target == 0 or not math.isfinite(value) or not math.isfinite(target):
        return 0.0
    low, high, off = 0.05 * abs(target), 0.20 * abs(target), abs(value - target)
    if off < low:
        return 1.0
    return 0.0 if off > high else 0.5 * (1 + math.cos(math.pi * (off - low) / (high - low)))


# --- functions ---

_PARTIAL = (1.0, 0.5, 0.5, 0.25)
_WEIGHTS = {  # of a function that is right; in name and object; in name and value; in name only
    "reason_rft": _PARTIAL,
    "reason_rft_reward": (1.0, 0.0, 0.0, 0.0),
    "reason_rft_partial": _PARTIAL,
    "reason_rft_penalty": (1.0, -0.25, -0.25, -0.5),
}
_LEVELS: tuple[Callable[[parse.Function], Hashable], ...] = (
    lambda f: f,
    lambda f: (f.name, f.object),
    lambda f: (f.name, f.value),
    lambda f: f.name,
)


def _matches(predicted: Iterable[parse.Function], wanted: Iterable[parse.Function]) -> list[int]:
    """How many pairs agree at each level, matched greedily in sorted order (Reason-RFT: in hash order, by chance)."""
    ours, theirs = sorted(predicted), sorted(wanted)
    counts = []
    for level in _LEVELS:
        partners = defaultdict(list)
        for function in reversed(theirs):
            partners[level(function)].append(function)
        left = []
        for function in ours:
            if partners[level(function)]:
                partners[level(function)].pop()
            else:
                left.append(function)
        counts.append(len(ours) - len(left))
        ours, theirs = left, sorted(chain.from_iterable(partners.values()))
    return counts


def _grade_functions(text: str, gold: str, scoring: str, formatted: float) -> Reward:
    if scoring == "strict":
        listed, wanted = parse.functions(parse.answer_text(text)), set(parse.functions(gold))
    else:
        block = parse.answer_block_on_one_line(text) if scoring == "reason_rft" else parse.answer_block(text)
        listed = parse.functions_as_published(text if block is None else block)
        wanted = set(parse.functions_as_published(gold))
    predicted = set(listed)
    if not predicted:
        return Reward(formatted, 0.0, {"exact": 0.0, "partial": 0.0})
    counts = _matches(predicted, wanted)

    def weighed(weights: Sequence[float]) -> float:
        return sum(w * n for w, n in zip(weights, counts, strict=True)) / max(len(predicted), len(wanted))

    exact, partial = float(predicted == wanted), weighed(_PARTIAL)
    if scoring == "strict":
        accuracy = exact
    else:
        unrepeated = 1.0 if scoring == "reason_rft" else len(predicted) / len(listed)
        accuracy = unrepeated * weighed(_WEIGHTS[scoring])
    return Reward(formatted, accuracy, {"exact": exact, "partial": partial})
