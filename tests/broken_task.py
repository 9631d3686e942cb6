"""A task with a bug, for tests of what a run leaves behind when it breaks."""

from __future__ import annotations

from ekipl.actions import Problem, Reward
from ekipl.tasks.counting import Counting


class BrokenTask(Counting):
    """Grades the actions of two problems and breaks at the third."""

    def __init__(self, scoring: str, prompt: str) -> None:
        super().__init__(scoring, prompt)
        self.seen: set[str] = set()

    def score(self, problem: Problem, text: str) -> Reward:
        self.seen.add(problem.id)
        if len(self.seen) > 2:
            raise RuntimeError("broken on purpose")
        return super().score(problem, text)
