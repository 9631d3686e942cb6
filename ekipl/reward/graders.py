"""R(o) = R_format(o) + R_acc(o), Eq. 6: a strict grader, and Reason-RFT's published rewards and evaluators.

Names of graders:
    strict                format after stripping outer white space; equal values, letters, texts or sets of functions,
                          and where the scene is known, any functions that lead to its final state.
    reason_rft            the published evaluators: math-verify; partial credit for functions.
    reason_rft_reward     the published training rewards: equal strings; share of matched functions, less for repeats.
    reason_rft_partial    training reward for functions with partial credit.
    reason_rft_penalty    training reward for functions with negative credit for partial matches.
    reason_rft_tolerance  training reward for numbers that falls from 1 to 0 between 5 and 20 percent of deviation.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

from ekipl.algorithm.seams import Grader
from ekipl.algorithm.types import AnswerKind, Problem, Reward
from ekipl.errors import GraderError, UsageError
from ekipl.reward import comparison, equivalence, letters, parse, wording
from ekipl.reward.simulate import Scene, reaches

GRADERS: dict[str, tuple[AnswerKind, ...]] = {  # name -> the kinds of answer that it grades
    "strict": ("number", "choice", "expression", "functions", "text"),
    "reason_rft": ("number", "choice", "expression", "functions", "text"),
    "reason_rft_reward": ("number", "choice", "expression", "functions", "text"),
    "reason_rft_partial": ("functions",),
    "reason_rft_penalty": ("functions",),
    "reason_rft_tolerance": ("number", "choice", "expression"),
}
JUDGE = "judge"  # the reward of ``reward/judge.py``
REWARDS = (*GRADERS, JUDGE)  # every name that the setting ``reward`` knows
PUBLISHED = tuple(name for name in GRADERS if name != "strict")  # those that compare texts as they stand


def check_grader(name: str, task: str, kinds: Sequence[AnswerKind]) -> str:
    """``name`` itself, when it is known and grades every kind of answer of the task. Raises UsageError."""
    fitting = [known for known, graded in GRADERS.items() if set(kinds) <= set(graded)]
    if name not in fitting:
        reason = f"does not grade the answers of {task}" if name in GRADERS else "no such grader"
        raise UsageError(f"{name}: {reason}; use one of {', '.join(fitting)}")
    return name


def grader(name: str) -> Grader:
    """The grader of that name in ``GRADERS``.

    Where a problem's metadata list ``accepted`` answers, the one counts that the completion meets best. Where they name
    the marks of a skill, ``detail["skill"]`` is 1 if the reasoning holds one of them.
    """

    def graded(problem: Problem, text: str) -> Reward:
        reward = _best(text, problem, name)
        marks = problem.metadata.get("skill")
        if marks is None:
            return reward
        reasoning = text.partition("<answer>")[0]
        return replace(reward, detail={**reward.detail, "skill": float(any(mark in reasoning for mark in marks))})

    return graded


def _best(text: str, problem: Problem, name: str) -> Reward:
    """The best reward by an accepted answer. Raises GraderError unless one is right or all can be compared."""
    best: Reward | None = None
    failure: GraderError | None = None
    for gold in problem.metadata.get("accepted") or (problem.answer,):
        try:
            reward = grade(text, gold, problem.kind, name, problem.metadata.get("scene"), problem.question)
        except GraderError as error:
            failure = error
            continue
        if reward.accuracy >= 1:
            return reward
        best = reward if best is None or reward.accuracy > best.accuracy else best
    if failure or best is None:
        raise failure or GraderError("no accepted answer")
    return best


def grade(text: str, gold: str, kind: AnswerKind, name: str, scene: Scene | None = None, question: str = "") -> Reward:
    """Grade one completion: format 0 or 1; accuracy in [0, 1], in [-0.5, 1] with ``reason_rft_penalty``.

    For functions ``detail`` holds ``exact`` (equal to the gold set) and ``partial``, with every grader. Where the scene
    is known, ``strict`` simulates them and accepts every answer that leads to the final state. Where the question lists
    its options, ``strict`` rejects a letter with the text of another option.

    Raises:
        GraderError: the equivalence of two expressions could not be decided.
    """
    strict = name == "strict"
    formatted = float(parse.well_formed(text.strip() if strict else text))
    if kind == "functions":
        return _grade_functions(text, gold, name, formatted, scene)
    if strict:
        answer, wanted = parse.answer_text(text), gold.strip()
        return Reward(formatted, float(_same(answer, wanted, kind, question)))
    return Reward(formatted, _published_accuracy(text, gold, name))


def _same(answer: str, gold: str, kind: AnswerKind, question: str) -> bool:
    if kind == "choice":
        return letters.same(answer, gold, question)
    return wording.same(answer, gold) if kind == "text" else comparison.same(answer, gold)


# --- letters, numbers, expressions ---


def _published_accuracy(text: str, gold: str, name: str) -> float:
    block = parse.answer_block(text)
    if name == "reason_rft":  # compares a tagged answer with the raw gold text, white space and tags included
        same = text.strip() == gold.strip() if block is None else block.strip() == gold
        return float(same or _verified(text if block is None else block.strip(), gold))
    answer = (text if block is None else block).strip()
    tagged = parse.answer_block(gold)
    wanted = (gold if tagged is None else tagged).strip()
    reward = _tolerance(answer, wanted) if name == "reason_rft_tolerance" else float(answer == wanted)
    return float(_verified(text, gold)) if reward == 0 and block is None else reward


_MATHEMATICAL = re.compile(r"[\d$\\\[]")  # without one of these math-verify finds nothing
_IDLE = r"[^\d$\\\[+\-*×/^()÷%]*"  # text in which math-verify finds no part of a number or formula
_PLAIN = re.compile(  # one number, exact as a float; not "-05", which sympy does not read
    rf"(?:{_IDLE}[\s=])?([0-9]{{1,9}}|-(?:0|[1-9][0-9]{{0,8}}))(?:\.([0-9]{{1,6}}))?{_IDLE}"
)
_QUOTIENT = re.compile(
    rf"\s*\\frac\{{([1-9][0-9]{{0,8}})\}}\{{([1-9][0-9]{{0,8}})\}}{_IDLE}|([1-9][0-9]{{0,8}})/([1-9][0-9]{{0,8}})"
)
_SIGNAL = re.compile("answer|percent|pct", re.I)  # words that change its result


def _verified(answer: str, gold: str) -> bool:
    """math-verify's result. It is computed here for single numbers and quotients, and for texts without any."""
    if not _MATHEMATICAL.search(gold) or not _MATHEMATICAL.search(answer):
        return False
    value, target = _read(answer), _read(gold)
    if value is not None and target is not None:
        off = abs(value.size - target.size)
        if value.exact == target.exact or not (value.quotient or target.quotient):
            return off == 0
        if off > 1e-5:  # rounding to six places, and that of floats below 10**9, is far less
            return False
    return equivalence.equal(answer, gold, latex=False)


class _Value(NamedTuple):
    size: Fraction
    exact: bool  # without a decimal point
    quotient: bool


def _read(text: str) -> _Value | None:
    r"""What math-verify reads in "3", "3.50", "There are 3 cubes", "3/4", "\frac{3}{4}cm"; None where unsure."""
    if found := _PLAIN.fullmatch(text):
        value = _Value(Fraction(f"{found[1]}.{found[2] or 0}"), found[2] is None, False)
    elif found := _QUOTIENT.fullmatch(text):
        value = _Value(Fraction(int(found[1] or found[3]), int(found[2] or found[4])), True, True)
    else:
        return None
    return None if _SIGNAL.search(text) else value


def _tolerance(answer: str, gold: str) -> float:
    """1 within 5 percent of the gold, 0 beyond 20, half a cosine between; 0 for a gold of 0. Texts must be equal.

    The arithmetic equals the original's to the last bit, except that "nan" gets 0 here.
    """
    try:
        value, target = float(answer), float(gold)
    except ValueError:
        return float(answer == gold)
    size, off = abs(target), abs(value - target)
    if off < 0.05 * size:
        return 1.0
    if off > 0.20 * size or size == 0 or not math.isfinite(off):
        return 0.0
    return 0.5 * (math.cos(math.pi * ((off - 0.05 * size) / ((0.20 - 0.05) * size))) + 1)


# --- functions ---

_PARTIAL = (1.0, 0.5, 0.5, 0.25)
_WEIGHTS = {  # of a function that matches entirely; in name and object; in name and value; in name only
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
    """The number of pairs that match at each level, greedily in sorted order (Reason-RFT: in hash order)."""
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


def _grade_functions(text: str, gold: str, name: str, formatted: float, scene: Scene | None) -> Reward:
    if name == "strict":
        listed, wanted = parse.functions(parse.answer_text(text)), set(parse.functions(gold))
    else:
        block = parse.answer_block_on_one_line(text) if name == "reason_rft" else parse.answer_block(text)
        listed = parse.functions_as_published(text if block is None else block)
        wanted = set(parse.functions_as_published(gold))
    predicted = set(listed)
    if not predicted:
        return Reward(formatted, 0.0, {"exact": 0.0, "partial": 0.0})
    counts, larger = _matches(predicted, wanted), max(len(predicted), len(wanted))

    def weighed(weights: Sequence[float], unrepeated: float = 1.0) -> float:
        share = unrepeated / larger  # in the original's order of operations, to the last bit
        return sum((count * share * weight for count, weight in zip(counts, weights, strict=True)), 0.0)

    exact, partial = float(predicted == wanted), weighed(_PARTIAL)
    if name == "strict":
        accuracy = exact if scene is None else float(reaches(scene, listed))
    else:
        unrepeated = 1.0 if name == "reason_rft" else len(predicted) / len(listed)
        accuracy = weighed(_WEIGHTS[name], unrepeated)
    return Reward(formatted, accuracy, {"exact": exact, "partial": partial})
