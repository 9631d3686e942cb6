"""Pools that call no model: nobody, a recording, the data's own answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ekipl.algorithm.seams import ExternalSamples
from ekipl.algorithm.types import Action, Problem
from ekipl.errors import UsageError

NOT_RECORDED = "not recorded"


class NoPool:
    """Implements ``ExternalPool`` without models: Algorithm 1 with M = 0, which is GRPO."""

    names: tuple[str, ...] = ()

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """No actions for each problem."""
        return [ExternalSamples(())] * len(problems)

    def close(self) -> None: ...


class RecordedPool:
    """Implements ``ExternalPool`` by replaying recorded actions, without their rewards: every run grades them anew."""

    def __init__(
        self,
        recorded: Iterable[tuple[str, str, Action]],
        names: Sequence[str],
        samples: Mapping[str, int | None] | None = None,
        file: str | Path = "",
    ) -> None:
        """Holds the actions of some sources.

        Args:
            recorded: task, split and action; of two recordings of one sample the later one counts.
            names: the sources to replay, in this order.
            samples: actions for each problem by source; a source that is missing or None has n of them.
            file: that the actions come from, for error messages.

        Raises:
            UsageError: there is no action of a source.
        """
        self.names = tuple(names)
        self._samples = {name: count for name, count in (samples or {}).items() if count is not None}
        self._actions: dict[tuple[str, str, str, str], dict[int, Action]] = {}
        self._file = file
        sources = set()
        for task, split, action in recorded:
            sources.add(action.source)
            if action.source in self.names:
                replayed = replace(action, tokens=None, logprobs=None, reward=None)
                self._actions.setdefault((action.source, task, split, action.problem_id), {})[action.index] = replayed
        if missing := [name for name in self.names if name not in sources]:
            there = ", ".join(sorted(sources)) or "none"
            raise UsageError(f"{file}: {', '.join(missing)}: no action of this source; the file's sources: {there}")

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """The first recorded actions of each source: n, or its own number, or as many as there are.

        A problem without any action of a source counts as ``not recorded``.
        """
        return [self._replay(problem, n) for problem in problems]

    def refuse_strangers(self, problems: Iterable[Problem]) -> None:
        """Raises UsageError when none of these problems is in the recording."""
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


class Demonstrations:
    """Implements ``ExternalPool`` by the data's own answers, so that Algorithm 1 does supervised learning."""

    def __init__(self, name: str, with_reasoning: bool) -> None:
        """``name`` is the source of the actions; ``with_reasoning`` puts the example's ``cot`` before its answer."""
        self.names: tuple[str, ...] = (name,)
        self.with_reasoning = with_reasoning

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """One action for each problem, for any ``n``. Raises UsageError where the reasoning is missing."""
        return [ExternalSamples((Action(p.id, self.names[0], 0, self.text(p), "stop"),)) for p in problems]

    def text(self, problem: Problem) -> str:
        """The completion to learn, in the format of Reason-RFT's supervised data. Raises UsageError without ``cot``."""
        if not self.with_reasoning:
            return problem.answer
        cot = problem.metadata.get("cot")
        if not cot:
            raise UsageError(
                f"data: {problem.id}: no cot: supervised training on reasoning needs one in every row; use rows that "
                "have it, or prompt=answer, which trains on the answer alone"
            )
        return f"<think>\n{cot}\n</think>\n<answer>\n{problem.answer}\n</answer>"

    def close(self) -> None: ...
