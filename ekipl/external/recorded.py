"""External actions from a file, as ``ekipl external-sample`` wrote them: no model is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ekipl.algorithm.seams import ExternalSamples
from ekipl.algorithm.types import Action, Problem
from ekipl.errors import UsageError
from ekipl.run.records import read_actions

NOT_RECORDED = "not recorded"


class RecordedPool:
    """Implements ``ExternalPool`` by replaying the actions of some sources of a records file.

    Rewards in the file are not used: every run scores with its own task.
    """

    def __init__(self, path: str | Path, names: Sequence[str], samples: Mapping[str, int | None] | None = None) -> None:
        """Reads the file.

        Args:
            path: of the file, or of a run folder with its ``actions.jsonl``.
            names: the sources to replay, in this order.
            samples: actions a problem of a source, in place of n.

        Raises:
            UsageError: the file cannot be read, or a source has no action in it.
        """
        self.names = tuple(names)
        self._samples = {name: count for name, count in (samples or {}).items() if count is not None}
        self._actions: dict[tuple[str, str, str, str], dict[int, Action]] = {}
        file = Path(path).expanduser()
        file = self._file = file / "actions.jsonl" if file.is_dir() else file
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

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """The first recorded actions of each source, n or its own number, or as many as there are; none: failed."""
        return [self._replay(problem, n) for problem in problems]

    def refuse_strangers(self, problems: Iterable[Problem]) -> None:
        """Raises UsageError when not one of these problems is in the recording."""
        recorded = {key[1:] for key in self._actions}
        if any((problem.task, problem.split, problem.id) in recorded for problem in problems):
            return
        task, split, problem_id = next(iter(recorded))
        raise UsageError(
            f"external.path: {self._file}: none of the problems is in this recording (it has {len(recorded)}, such as "
            f"{problem_id} of {split} of {task}); record the same task, data and split, or set M=0 for plain GRPO"
        )

    def close(self) -> None: ...

    def _replay(self, problem: Problem, n: int) -> ExternalSamples:
        actions: list[Action] = []
        missing = 0
        for name in self.names:
            recorded = self._actions.get((name, problem.task, problem.split, problem.id), {})
            wanted = self._samples.get(name, n)
            actions += [recorded[index] for index in sorted(recorded)[:wanted]]
            missing += 0 if recorded else wanted
        return ExternalSamples(tuple(actions), {NOT_RECORDED: missing} if missing else {})
