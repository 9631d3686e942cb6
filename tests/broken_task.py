"""A task with a bug, for tests of what a run leaves behind when it breaks."""

from __future__ import annotations

import os
import signal

from ekipl.algorithm.types import Problem, Reward
from ekipl.errors import UsageError
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


class BrokenInOne(Counting):
    """In the second of several processes grading refuses, or that process is killed."""

    def __init__(self, scoring: str, prompt: str, fault: str) -> None:
        super().__init__(scoring, prompt)
        self.fault = fault

    def score(self, problem: Problem, text: str) -> Reward:
        if os.environ["RANK"] == "1":
            if self.fault == "refuses":
                raise UsageError("data: row 7: is bad; leave it out")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(problem, text)
