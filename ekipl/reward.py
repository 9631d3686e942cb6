"""Format and accuracy of a completion (Eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence

from ekipl.actions import AnswerKind, Reward
from ekipl.errors import UsageError

SCORINGS: dict[str, tuple[AnswerKind, ...]] = {
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
    """Grade one completion."""
    raise NotImplementedError
