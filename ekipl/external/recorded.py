"""External actions from a file, as ``ekipl external-sample`` wrote them: no model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ekipl.actions import Action, Problem
from ekipl.errors import UsageError
from ekipl.interfaces import External
from ekipl.records import read_actions

NOT_RECORDED = "not recorded"


class RecordedPool:
    """Implements ``ExternalPool`` by replaying the actions of some sources of a records file.

    Rewards in the file are not used: every run scores with its own task.
    """

    def __init__(self, path: str | Path, names: Sequence[str]) -> None:
        """Reads the file, or ``actions.jsonl`` of a run folder; ``names`` are the sources to replay, in this order.

        Raises:
            UsageError: the file cannot be read, or a source has no action in it.
        """
        self.names = tuple(names)
        self._actions: dict[tuple[str, str, str, str], dict[int, Action]] = {}
        file = Path(path).expanduser()
        file = file / "actions.jsonl" if file.is_dir() else file
        sources = set()
        for record in read_actions(file):
            action = record.action
            sources.add(action.source)
            if action.source in self.names:
                replayed = replace(action, tokens=None, logprobs=None, reward=None)
                key = (action.source, record.task, record.split, action.problem_id)
                self._actions.setdefault(key, {})[action.index] = replayed  # of two recordings the later one
        if missing := [name for name in self.names if name not in sources]:
            there = ", ".join(sorted(sources)) or "none"
            raise UsageError(f"{file}: {', '.join(missing)}: no action of this source; the file's sources: {there}")

    def sample(self, problems: Sequence[Problem], n: int) -> list[External]:
        """The first n recorded actions of each source, or as many as there are; none at all count as failed."""
        return [self._replay(problem, n) for problem in problems]

    def close(self) -> None: ...

    def _replay(self, problem: Problem, n: int) -> External:
        actions: list[Action] = []
        missing = 0
        for name in self.names:
            recorded = self._actions.get((name, problem.task, problem.split, problem.id), {})
            actions += [recorded[index] for index in sorted(recorded)[:n]]
            missing += 0 if recorded else n
        return External(tuple(actions), {NOT_RECORDED: missing} if missing else {})
