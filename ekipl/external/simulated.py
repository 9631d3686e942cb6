"""Simulated experts with a set accuracy and style, for runs without network and keys.

LiteLLM calls them like any other model (``client.py`` registers the provider ``simulated``), so they take the same path
through the pool as real models. An answer is a pure function of the expert's settings, the problem and the number of
the sample.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from ekipl.algorithm.ranges import Name, Share
from ekipl.algorithm.types import Problem

PREFIX = "simulated/"
LETTERS = "ABCD"
VALUES = {  # of the functions that answer a spatial problem; their order is part of the random draws
    "size": ("small", "medium", "large"),
    "color": ("yellow", "gray", "cyan", "blue", "brown", "green", "red", "purple"),
    "material": ("glass", "metal", "rubber"),
    "shape": ("cube", "sphere", "cylinder"),
    "position": (
        "front", "behind", "left", "right", "front_left", "front_right", "behind_left", "behind_right",
    ),
}  # fmt: skip
FUNCTION = re.compile(r"change_(size|color|material|shape|position)\(\s*(\d+)\s*,\s*(\w+)\s*\)")
GENERIC = "I looked at the picture and worked out the answer."
OPENING = "Thinking: "


@dataclass(frozen=True)
class Expert:
    """A simulated external model.

    Attributes:
        name: the part of the model's name after ``simulated/``; experts with different names make different mistakes.
        accuracy: probability in [0, 1] that the answer is the gold answer.
        format_rate: probability in [0, 1] that the reasoning is in its tags, independent of ``accuracy``. The answer
            always is in its own.
        style: ``familiar`` is the wording of the built-in data, which model=tiny was trained on; ``foreign`` begins
            with words that model=tiny never writes.
    """

    name: Name
    accuracy: Share = 0.7
    format_rate: Share = 0.95
    style: Literal["familiar", "foreign"] = "familiar"


SETTINGS = tuple(field.name for field in fields(Expert) if field.name != "name")


def known(problem: Problem, sample: int) -> dict[str, Any]:
    """The facts that ``reply`` needs. They hold the gold answer, so they never go to a real model."""
    return {
        "problem_id": problem.id,
        "answer": problem.answer,
        "kind": problem.kind,
        "cot": problem.metadata.get("cot"),
        "variants": problem.metadata.get("variants", ()),
        "mistakes": problem.metadata.get("mistakes", ()),
        "sample": sample,
    }


def reply(expert: Expert, known: Mapping[str, Any], seed: int = 0) -> str:
    """One completion, from the facts of ``known``; ``seed`` is that of the random draws."""
    rng = random.Random(f"{seed}/{expert.name}/{known['problem_id']}/{known['sample']}")
    is_correct, is_formed = rng.random() < expert.accuracy, rng.random() < expert.format_rate
    answer, thinking = known["answer"], rng.choice([known["cot"] or GENERIC, *known["variants"]])
    if not is_correct and known["mistakes"]:
        thinking, answer = rng.choice(known["mistakes"])
    elif not is_correct:
        answer, old, new = mistake(answer, known["kind"], rng)
        thinking = misled(thinking, old, new)
    if expert.style == "foreign":
        thinking = OPENING + thinking
    if is_formed:
        thinking = f"<think>{thinking}</think>"
    return f"{thinking}\n<answer>{answer}</answer>"


def mistake(gold: str, kind: str, rng: random.Random) -> tuple[str, str, str]:
    """A plausible answer that is not equivalent to ``gold``, the part of ``gold`` that differs, and its replacement."""
    if kind == "choice":
        letter = rng.choice([letter for letter in LETTERS if letter != gold.strip().upper()])
        return letter, gold, letter
    if kind == "functions" and (calls := list(FUNCTION.finditer(gold))):
        call = rng.choice(calls)
        what, value = call[1], call[3]
        other = rng.choice([v for v in VALUES[what] if v != value])
        return gold[: call.start(3)] + other + gold[call.end(3) :], value, other
    if kind == "text":
        return f"not {gold}", gold, f"not {gold}"
    number = _near(gold, rng) if kind == "number" else None
    wrong = f"{gold} + 1" if number is None else number  # not equal, whatever number or formula it is
    return wrong, gold, wrong


def misled(thinking: str, old: str, new: str) -> str:
    """The reasoning with the word ``old`` replaced by ``new``; without its last clause if ``old`` is not in it."""
    word = rf"(?<![\w.]){re.escape(old)}(?!\w|\.\d)"
    changed = re.sub(word, lambda _: new, thinking)
    if changed != thinking:
        return changed
    head = re.sub(r"[.,;]\s+[^.,;]+[.,;]?\s*$", "", thinking)
    return head if head != thinking else GENERIC


def _near(gold: str, rng: random.Random) -> str | None:
    """A number one or two fifths away from ``gold`` (at least 1 or 2), negative only if ``gold`` is.

    None if ``gold`` is not a finite number of at most 10^12.
    """
    try:
        value = Decimal(gold.strip())
    except InvalidOperation:
        return None
    if not value.is_finite() or abs(value) > 10**12:
        return None
    step = max(Decimal(1), (abs(value) / 5).to_integral_value())
    others = [value + times * step for times in (-2, -1, 1, 2)]
    return str(rng.choice([other for other in others if other >= 0 or value < 0]))
