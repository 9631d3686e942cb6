"""The vocabulary: what travels between the rooms, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import exp
from statistics import fmean
from typing import Any, Literal

from PIL import Image

POLICY = "policy"  # the source of the policy's own actions; any other source is an external model's name

# Keys of ``Image.info``, where a picture comes from a file.
FILE = "ekipl.file"  # the file's bytes, where they show exactly these pixels
LOSSY = "ekipl.lossy"  # whether the file's format was lossy
PATH = "ekipl.path"  # where the file lies
MARKER = "<image>"  # in a prompt, stands for the next image

AnswerKind = Literal["number", "choice", "expression", "functions", "text"]
Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Example:
    """One row of a data set, before a task words it as a prompt.

    Attributes:
        id: unique within its split.
        images: RGB images in the order the question speaks of them (spatial: initial, final).
        question: the question's own words.
        answer: the gold answer as a string.
        kind: how the answer is compared; the data says so, it is never guessed while grading.
        metadata: what only this data knows: ``cot`` (reasoning without tags), ``family``, ``scene``, ``accepted`` (all
            right answers, where there are several; ``answer`` is the first).
    """

    id: str
    images: tuple[Image.Image, ...]
    question: str
    answer: str
    kind: AnswerKind
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """The paper's s = (image x, question q), worded for the policy."""

    id: str
    task: str
    split: str
    images: tuple[Image.Image, ...]
    question: str
    prompt: str
    answer: str
    kind: AnswerKind
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> list[Image.Image | str]:
        """The message: each image in the place of its ``<image>`` marker, or before the text if that has no markers.

        A prompt with more or fewer markers than images is text.
        """
        texts = self.prompt.split(MARKER)
        if len(texts) != len(self.images) + 1:
            return [*self.images, self.prompt]
        placed = [part for pair in zip(texts, self.images, strict=False) for part in pair]
        return [part for part in (*placed, texts[-1]) if part != ""]


@dataclass(frozen=True)
class Reward:
    """R(o) = R_format(o) + R_acc(o), Eq. 6, or the weighted sum of rewards of the user's own (docs/rewards.md).

    Attributes:
        format: whether the completion has its tags.
        accuracy: whether the answer is right; 1 is fully right.
        detail: further scores from 0 to 1 that are reported, not trained on.
        parts: each of several rewards and each of their parts by name, before its weight, on a scale of its own.
        weighed: the sum that is trained on in place of format + accuracy; None: there is none.
    """

    format: float
    accuracy: float
    detail: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)
    weighed: float | None = None

    @property
    def total(self) -> float:
        """The scalar that is trained on."""
        return self.format + self.accuracy if self.weighed is None else self.weighed


@dataclass(frozen=True)
class Action:
    """One answer to one problem.

    Attributes:
        source: ``policy`` or the external model's name.
        index: which of its source's samples this is, from 0.
        text: as received; special tokens of the policy's tokenizer are plain text here.
        finish: ``stop`` when the source ended its turn, ``length`` when it was cut.
        tokens: ids in the policy's vocabulary, the end-of-turn token included when finished; None until encoded.
        logprobs: log-probability of each token: of an own action as its sampler reported it, of an external one under
            pi_old where the selection asks for it, else None.
        reward: None until scored.
        answer: the places of the tokens of an external action's answer, from and up to; None without answer tags.
    """

    problem_id: str
    source: str
    index: int
    text: str
    finish: Finish
    tokens: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    reward: Reward | None = None
    answer: tuple[int, int] | None = None

    def with_reward(self, reward: Reward) -> Action:
        return replace(self, reward=reward)

    @property
    def total(self) -> float:
        """The scalar reward; an unscored action has none."""
        if self.reward is None:
            raise ValueError(f"action {self.index} of {self.source} for {self.problem_id} has not been scored")
        return self.reward.total

    @property
    def right(self) -> bool:
        """Whether the answer is fully right, in whatever format."""
        return self.reward is not None and self.reward.accuracy >= 1

    @property
    def reach(self) -> float:
        """Probability under pi_old of the least likely token of an external action."""
        assert self.logprobs is not None
        return exp(min(self.logprobs))

    @property
    def comprehension(self) -> float:
        """Mean probability under pi_old of the tokens of the answer, each after all that stands before it (AMPO)."""
        assert self.logprobs is not None
        return fmean(map(exp, self.logprobs[slice(*self.answer)])) if self.answer else 0.0


@dataclass(frozen=True)
class Group:
    """A problem with everything that was offered for it, and which of that the policy learns from.

    Attributes:
        offered: all scored candidates, the set O of Algorithm 1.
        kept: indices into ``offered``, the set T; none before the choice.
        advantages: one for each kept action (Eq. 1).
        refused: candidates that could not take part, counted by reason (too long, image placeholder, failed call).
        waiting: external actions that are too unlikely under pi_old to be candidates yet; None without a gate.
    """

    problem: Problem
    offered: tuple[Action, ...]
    kept: tuple[int, ...]
    advantages: tuple[float, ...]
    refused: Mapping[str, int] = field(default_factory=dict)
    waiting: int | None = None

    @property
    def actions(self) -> tuple[Action, ...]:
        """The G actions kept."""
        return tuple(self.offered[i] for i in self.kept)

    @property
    def no_gradient(self) -> bool:
        """Whether the policy term of the objective has no gradient here."""
        return not any(self.advantages)
