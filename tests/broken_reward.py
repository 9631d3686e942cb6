"""Rewards with a bug, for tests of what a run leaves behind when it breaks."""

from __future__ import annotations

import os
import signal

from ekipl.algorithm.types import Problem, Reward
from ekipl.errors import UsageError
from ekipl.reward.graders import grader

_strict = grader("strict")
_seen: set[str] = set()


def breaks(problem: Problem, text: str) -> Reward:
    """Grades the actions of two problems and breaks at the third."""
    _seen.add(problem.id)
    if len(_seen) > 2:
        raise RuntimeError("broken on purpose")
    return _strict(problem, text)


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
