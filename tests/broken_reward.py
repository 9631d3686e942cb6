"""Own code with a bug, for tests of what a run leaves behind when it breaks."""

from __future__ import annotations

import os
import signal

from ekipl.algorithm.selection import Candidates
from ekipl.algorithm.types import Problem, Reward
from ekipl.errors import UsageError
from ekipl.reward.graders import grader

_strict = grader("strict")
_seen: list[int] = []


def breaks(candidates: Candidates, size: int) -> list[int]:
    """A selection rule that breaks at the third problem."""
    _seen.append(1)
    if len(_seen) > 2:
        raise RuntimeError("broken on purpose")
    return list(range(size))


def refuses(problem: Problem, text: str) -> Reward:
    """Raises a UsageError in the second of several processes."""
    if os.environ["RANK"] == "1":
        raise UsageError("data: row 7: is bad; leave it out")
    return _strict(problem, text)


def is_killed(problem: Problem, text: str) -> Reward:
    """Kills the second of several processes."""
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return _strict(problem, text)
