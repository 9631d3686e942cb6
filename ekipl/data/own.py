"""A source of problems of your own (docs/extending.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from ekipl.algorithm.ranges import Count, Whole
from ekipl.algorithm.seams import ProblemSource, Task
from ekipl.algorithm.types import Problem
from ekipl.importing import Named, imported

KINDS = ("synthetic", "reason_rft")


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """Problems from a class of your own.

    Attributes:
        kind: the import path of a class that implements ``ProblemSource``.
        args: keyword arguments of that class.
        train_start: first problem of ``train`` that is used.
        train_limit: problems of ``train`` that are used, from ``train_start``; null: all.
        test_limit: problems of each evaluation split; null: all.
    """

    kind: Annotated[str, Named(KINDS)]
    args: Mapping[str, Any] = field(default_factory=dict)
    train_start: Whole = 0
    train_limit: Count | None = None
    test_limit: Count | None = None

    def problems(self, task: Task, split: str, limit: int | None = None) -> Sequence[Problem]:
        """The first ``limit`` problems of a split, of ``train`` from ``train_start``."""
        source: ProblemSource = imported("data.kind", self.kind)(**self.args)
        start = self.train_start if split == "train" else 0
        return source.problems(task, split, None if limit is None else start + limit)[start:]
