"""No external models: Algorithm 1 with M = 0, which is GRPO."""

from __future__ import annotations

from collections.abc import Sequence

from ekipl.algorithm.seams import External
from ekipl.algorithm.types import Problem


class NoPool:
    """Implements ``ExternalPool`` with nobody in it."""

    names: tuple[str, ...] = ()

    def sample(self, problems: Sequence[Problem], n: int) -> list[External]:
        """Nothing, for each problem."""
        return [External(())] * len(problems)

    def close(self) -> None: ...
