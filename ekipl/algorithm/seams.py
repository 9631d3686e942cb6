"""The seams: what Algorithm 1 asks of a task, a grader, a sampler, an external pool, an engine and a logger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ekipl.algorithm.ranges import Count, NotNegative, TopP, Whole
from ekipl.algorithm.types import Action, AnswerKind, Example, Group, Problem, Reward


@dataclass(frozen=True)
class Decoding:
    """How actions are sampled.

    Attributes:
        temperature: 0 is greedy.
        top_p: 1 is off.
        top_k: 0 is off.
        max_tokens: of a completion; a longer external action is not a candidate.
    """

    temperature: NotNegative = 1.0
    top_p: TopP = 1.0
    top_k: Whole = 0
    max_tokens: Count = 256


class Task(Protocol):
    """One benchmark task: how it asks, which kinds of answer it has, which splits it is measured on."""

    name: str
    splits: tuple[str, ...]  # evaluation splits, in-distribution first
    kinds: tuple[AnswerKind, ...]  # of its gold answers

    def prompt(self, row: Example) -> str:
        """The user's text for this row (images are placed before it)."""
        ...


Asked = tuple[Problem, str]  # a problem and a completion that is to be graded


class Grader(Protocol):
    """The reward of a completion.

    One that gains from many at once also has ``many(asked: Sequence[Asked]) -> list[Reward | GraderError]``, in order.
    """

    def __call__(self, problem: Problem, text: str, /) -> Reward:
        """Grade one completion. Raises GraderError when it cannot; a failure of the grader is never a reward of 0."""
        ...


class ProblemSource(Protocol):
    """Where problems come from."""

    def problems(self, task: Task, split: str, limit: int | None = None) -> Sequence[Problem]:
        """The first ``limit`` problems of a split (``train`` or one of the task's); images are opened when read."""
        ...


class Sampler(Protocol):
    """The policy as a source of actions."""

    def sample(self, problems: Sequence[Problem], n: int, seed: int) -> list[list[Action]]:
        """n actions a problem, in the order of the problems."""
        ...

    def encode(self, action: Action) -> Action | str:
        """The action with token ids of the policy, or the reason why the policy cannot learn from it."""
        ...

    def load_weights(self, engine: Engine) -> None:
        """Sample from the engine's present weights from now on."""
        ...


@dataclass(frozen=True)
class ExternalSamples:
    """What the pool answered for one problem."""

    actions: tuple[Action, ...]
    failed: Mapping[str, int] = field(default_factory=dict)  # samples that never became an action, by reason


class ExternalPool(Protocol):
    """M external models. ``names`` are the sources of its actions, in the configured order."""

    names: tuple[str, ...]

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """n actions a problem from each model (or the model's own number, where one is configured)."""
        ...

    def close(self) -> None: ...


class Engine(Protocol):
    """Trains the policy. With several ranks, every method is a collective: all ranks call it."""

    def refresh_reference(self) -> None:
        """pi_ref <- pi_theta."""
        ...

    def likelihoods(self, groups: Sequence[Group]) -> list[Group]:
        """This rank's groups, their external candidates with log pi_theta of each token as ``logprobs``."""
        ...

    def prepare(self, groups: Sequence[Group]) -> Any:
        """This rank's kept actions as tensors, with log pi_old (and log pi_ref when beta > 0)."""
        ...

    def update(self, batch: Any) -> dict[str, float]:
        """One optimizer step on a prepared batch; returns its metrics."""
        ...

    def named_weights(self) -> Iterator[tuple[str, Any]]:
        """The policy's weights by their Hugging Face names, on every rank; each is valid until the next."""
        ...

    def save(self, directory: str) -> None:
        """Write a model folder for transformers; it appears complete or not at all."""
        ...

    def save_adapter(self, directory: str) -> None:
        """Write the adapters alone, in peft's format, where there are any; complete or not at all."""
        ...

    def save_state(self, directory: Path) -> None:
        """Write the training state: weights, optimizer, reference. Raises UsageError when the disk is full."""
        ...

    def load_state(self, directory: Path) -> None:
        """Resume from the folder of ``save_state``. Raises UsageError when another model wrote it."""
        ...


class Logger(Protocol):
    """Where the metrics of a step go."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...
