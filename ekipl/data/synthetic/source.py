"""The built-in data: rows are drawn when they are read, from nothing but the seed."""

from __future__ import annotations

from collections.abc import Sequence

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Problem
from ekipl.data.problems import LazyProblems


class SyntheticData:
    """Synthetic splits of any task that can ``generate``; ``train`` and the test splits draw from different streams."""

    def __init__(self, seed: int = 0, image_size: int = 96, train_size: int = 100_000, test_size: int = 200) -> None:
        """``image_size`` is the side of the pictures in pixels; the sizes are rows a split."""
        self.seed, self.image_size = seed, image_size
        self.train_size, self.test_size = train_size, test_size

    def problems(self, task: Task, split: str, limit: int | None = None) -> Sequence[Problem]:
        """The first ``limit`` problems of ``train`` or one of the task's splits, drawn when an item is read.

        Raises:
            ValueError: the task has no such split.
        """
        if split not in ("train", *task.splits):
            raise ValueError(f"split {split!r}: {task.name} has train, {', '.join(task.splits)}")
        size = self.train_size if split == "train" else self.test_size
        rows = range(size if limit is None else min(limit, size))
        return LazyProblems(task, split, rows, lambda index: task.generate(split, index, self.seed, self.image_size))
