"""The built-in problems as a data source: each row is drawn when it is read, from its number and a seed.

About half of the problems of each task need a *skill*: one step that ``model=tiny`` can write but never chooses
(docs/tiny.md). No answer without that step is right by chance. The metadata of each row are::

    {"family": its family, "scene": what the picture shows,
     "cot": reasoning that leads to the answer, "variants": [the same in other words, ...],
     "mistakes": [(wrong reasoning, the answer that follows from it), ...],
     "skill": [marks, ...],  # absent where none is needed; reasoning that uses the skill holds one of them
     "without_skill": (reasoning, answer)}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from ekipl.algorithm.ranges import Count, Whole
from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Example, Problem
from ekipl.data.problems import Fits, LazyProblems, Limits, check_split, refuse
from ekipl.data.synthetic import counting, spatial, structure
from ekipl.errors import UsageError

# by name of the task: (split, index, seed, image_size in pixels) -> Example, a pure function
GENERATORS: Mapping[str, Callable[[str, int, int, int], Example]] = {
    "counting": counting.generate,
    "structure": structure.generate,
    "spatial": spatial.generate,
}


@dataclass(frozen=True, kw_only=True)
class SyntheticData(Limits):
    """Synthetic splits of the tasks in ``GENERATORS``. Each split draws from a random stream of its own.

    Attributes:
        kind: ``synthetic``.
        seed: of the generated problems.
        image_size: height and width of the pictures, pixels.
        train_size: problems of ``train``.
        test_size: problems of each evaluation split.
    """

    kind: Literal["synthetic"] = "synthetic"
    seed: Whole = 0
    image_size: Annotated[int, Ge(16)] = 96
    train_size: Count = 100_000
    test_size: Count = 200

    def problems(self, task: Task, split: str, limit: int | None = None, fits: Fits | None = None) -> Sequence[Problem]:
        """The first ``limit`` problems of ``train`` (from ``train_start``) or of a split, drawn when an item is read.

        The problems of a split differ little in length, so ``fits`` is asked of the first only.

        Raises:
            UsageError: the task has no such split or no generator, or the model cannot read the first problem.
        """
        generate = GENERATORS.get(task.name)
        if generate is None:
            raise UsageError(
                f"data.kind: synthetic: the task {task.name} has no built-in generator; "
                "set data=table data.path=FILE, data=reason_rft data.root=FOLDER, or data=package.module:Source"
            )
        check_split(task, split)
        start, size = (self.train_start, self.train_size) if split == "train" else (0, self.test_size)
        rows = range(start, size)[:limit]
        problems = LazyProblems(task, split, rows, lambda index: generate(split, index, self.seed, self.image_size))
        if fits and (first := next(iter(problems), None)) is not None:
            reasons = list(fits(first.prompt, [image.size for image in first.images]))
            refuse(f"data: {task.name}, {split}", [f"row 1 (id {first.id!r}): {reason}" for reason in reasons])
        return problems
