"""The sections that belong to no part of their own: how tasks ask, evaluation, checkpoints, loggers, reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from ekipl.algorithm.ranges import Count, Name, TopP, Whole
from ekipl.algorithm.seams import Decoding


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """How the tasks ask (docs/tasks.md).

    Attributes:
        strategy: ``cot`` (reasoning in tags, then the answer), ``answer`` (the task's own words alone), ``zero_shot``
            or ``plain`` (the question as it stands). With ``answer``, demonstrations have no reasoning.
        version: of the wording, for reports.
        file: a text file with ``{question}`` in it that is asked instead.
        choice_file: the same for questions with choices; null: ``prompt.file``.
    """

    strategy: Literal["cot", "answer", "zero_shot", "plain"]
    version: Count
    file: Name | None
    choice_file: Name | None


@dataclass(frozen=True, kw_only=True)
class Label:
    """A method or a recipe: its settings stand under the keys that it sets.

    Attributes:
        name: stands in reports.
    """

    name: Name


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Decoding):
    """The periodic evaluation of ``train``.

    Attributes:
        every: steps between two evaluations; 0: none.
        splits: such as ``[id]``; null: every evaluation split of the task.
        limit: problems of each split; null: all.
        samples: completions a problem.
    """

    every: Whole
    splits: tuple[Name, ...] | None
    limit: Count | None
    samples: Count


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """Resumable checkpoints.

    Attributes:
        every: steps between two; 0: none, nor on SIGTERM and Ctrl-C.
        keep: the newest ones that are kept; a damaged one is skipped in favour of the one before it.
        best: a split: the checkpoint with the highest accuracy on it in the periodic evaluation (of equal ones the
            earlier) is kept too; null: none is.
    """

    every: Whole
    keep: Count
    best: Name | None


@dataclass(frozen=True, kw_only=True)
class StopSettings:
    """When a run ends before its last step, by the accuracy on ``checkpoint.best``, else on the first split evaluated.

    Attributes:
        at: ends at an accuracy of so much or more; null: never.
        patience: ends after so many evaluations in a row that are not above the best; null: never.
    """

    at: TopP | None
    patience: Count | None


@dataclass(frozen=True, kw_only=True)
class LoggerSettings:
    """Weights & Biases beside metrics.jsonl.

    Attributes:
        wandb: whether it is used.
        project: of Weights & Biases.
        mode: ``offline`` (uploaded later by ``wandb sync``) or ``online``.
        name: of the run; null: the name of the run folder.
    """

    wandb: bool
    project: Name
    mode: Literal["offline", "online"]
    name: Name | None


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """The page of a training run (docs/view.md).

    Attributes:
        html: whether ``report.html`` is written at the end; ``ekipl view RUN`` writes it at any time.
        max_mb: size of the page, at most; in a larger one, groups of evenly spaced steps are kept. 1 MB is 10^6 bytes.
    """

    html: bool
    max_mb: Annotated[float, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class PasskSettings:
    """The pass@k curve.

    Attributes:
        k: points of the curve; ``--k 1,8,64`` is the same.
        samples: actions a problem, at least the largest k; null: the largest k.
    """

    k: Annotated[tuple[Count, ...], MinLen(1)]
    samples: Count | None
