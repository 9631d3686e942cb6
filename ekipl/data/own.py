"""A source of problems of your own (docs/extending.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from ekipl.algorithm.seams import ProblemSource, Task
from ekipl.algorithm.types import Problem
from ekipl.data.problems import Limits
from ekipl.importing import Named, imported

KINDS = ("synthetic", "reason_rft")


@dataclass(frozen=True, kw_only=True)
class OwnData(Limits):
    """Problems from a class of your own.

    Attributes:
        kind: the import path of a class that implements ``ProblemSource``.
        args: keyword arguments of that class.
    """

    kind: Annotated[str, Named(KINDS)]
    args: Mapping[str, Any] = field(default_factory=dict)

    def problems(self, task: Task, split: str, limit: int | None = None) -> Sequence[Problem]:
        """The first ``limit`` problems of a split, of ``train`` from ``train_start``."""
        source: ProblemSource = imported("data.kind", self.kind)(**self.args)
        start = self.train_start if split == "train" else 0
        return source.problems(task, split, None if limit is None else start + limit)[start:]
