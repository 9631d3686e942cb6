"""The built-in problems as a data source: each row is drawn when it is read, from its number and a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Example, Problem
from ekipl.data.problems import LazyProblems, check_split
from ekipl.data.synthetic import counting, spatial, structure
from ekipl.errors import UsageError

# by name of the task: (split, index, seed, image_size in pixels) -> Example, a pure function
GENERATORS: Mapping[str, Callable[[str, int, int, int], Example]] = {
    "counting": counting.generate,
    "structure": structure.generate,
    "spatial": spatial.generate,
}


class SyntheticData:
    """Synthetic splits of the tasks in ``GENERATORS``. Each split draws from a random stream of its own."""

    def __init__(
        self,
        seed: int = 0,
        image_size: int = 96,
        train_size: int = 100_000,
        test_size: int = 200,
        train_start: int = 0,
    ) -> None:
        """Nothing is drawn yet.

        Args:
            seed: of all rows.
            image_size: height and width of the images in pixels.
            train_size: rows of ``train``, counted from row 0.
            test_size: rows of every other split.
            train_start: the first row of ``train`` that is used.
        """
        self.seed, self.image_size = seed, image_size
        self.train_size, self.test_size, self.train_start = train_size, test_size, train_start

    def problems(self, task: Task, split: str, limit: int | None = None) -> Sequence[Problem]:
        """The first ``limit`` problems of a split: ``train`` or one of the task's.

        Raises:
            UsageError: the task has no such split or no generator.
        """
        generate = GENERATORS.get(task.name)
        if generate is None:
            raise UsageError(
                f"data.kind: synthetic: the task {task.name} has no built-in generator; "
                "set data=reason_rft data.root=FOLDER, or data=package.module:Source"
            )
        check_split(task, split)
        start, size = (self.train_start, self.train_size) if split == "train" else (0, self.test_size)
        rows = range(start, size)[:limit]
        return LazyProblems(task, split, rows, lambda index: generate(split, index, self.seed, self.image_size))
