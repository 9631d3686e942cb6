"""No external models: Algorithm 1 with M = 0, which is GRPO."""

from __future__ import annotations

from collections.abc import Sequence

from ekipl.algorithm.seams import ExternalSamples
from ekipl.algorithm.types import Problem


class NoPool:
    """Implements ``ExternalPool`` with nobody in it."""

    names: tuple[str, ...] = ()

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """Nothing, for each problem."""
        return [ExternalSamples(())] * len(problems)

    def close(self) -> None: ...
