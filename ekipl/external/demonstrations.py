"""The data's own answers as a pool, one a problem: with it the loop of Algorithm 1 does supervised learning."""

from __future__ import annotations

from collections.abc import Sequence

from ekipl.algorithm.seams import ExternalSamples
from ekipl.algorithm.types import Action, Problem
from ekipl.errors import UsageError


class Demonstrations:
    """What the problem's row says: its reasoning and answer, or its answer alone."""

    def __init__(self, name: str, with_reasoning: bool) -> None:
        """``name`` is the source of the actions; ``with_reasoning`` puts the row's ``cot`` before the answer."""
        self.names: tuple[str, ...] = (name,)
        self.with_reasoning = with_reasoning

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """One action a problem, whatever ``n``. Raises UsageError for a row without the reasoning that is wanted."""
        return [ExternalSamples((Action(p.id, self.names[0], 0, self.text(p), "stop"),)) for p in problems]

    def text(self, problem: Problem) -> str:
        """As Reason-RFT writes its supervised data."""
        if not self.with_reasoning:
            return problem.answer
        cot = problem.metadata.get("cot")
        if not cot:
            raise UsageError(
                f"data: {problem.id}: no cot: supervised training on reasoning needs one in every row; use rows that "
                "have it, or prompt=answer, which trains on the answer alone"
            )
        return f"<think>\n{cot}\n</think>\n<answer>\n{problem.answer}\n</answer>"

    def close(self) -> None:
        """Nothing is open."""
