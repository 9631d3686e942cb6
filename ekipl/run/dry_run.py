"""``--dry-run``: what a run takes and what the external models would still cost, before a weight or a request moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Problem
from ekipl.data.reason_rft import ReasonRFTData
from ekipl.errors import UsageError
from ekipl.report.tables import show_all

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.config import Settings


def of_training(stages: Sequence[DictConfig]) -> None:
    """Print what each stage of a training run would do, need and ask."""
    from ekipl.config import check
    from ekipl.report import estimate
    from ekipl.run import build

    for cfg in stages:
        settings = check(cfg, "train")
        task = build.build_task(settings)
        settings = _with_length(settings, task)
        build.build_grader(settings, task)  # refused here as in the run
        show_all([estimate.work(settings, task.name), estimate.memory(settings, task.name)])
        asked = settings.external.kind == "litellm" and settings.M > 0
        try:
            show(settings, _asked(settings, task) if asked else (), settings.N)
        except UsageError as error:  # without the data, what they cost is not known; how many they are is
            requests = settings.steps * settings.problems_per_step * settings.candidates[1]
            print(f"API requests: at most {requests:,}; dollars: not known: {error}")


def _asked(settings: Settings, task: Task) -> Iterable[Problem]:
    from ekipl.algorithm.loop import data_order

    problems = settings.data.problems(task, "train", settings.data.train_limit)
    return (problems[row] for row in chain.from_iterable(data_order(len(problems), settings)))


def _with_length(settings: Settings, task: Task) -> Settings:
    """The settings with B known; without the data, from the number of rows that are published."""
    from ekipl.run import build

    if settings.B is not None:
        return settings
    data = settings.data
    if isinstance(data, ReasonRFTData) and (rows := data.published_rows(task)) is not None:
        return build.with_length(settings, rows)
    return build.with_length(settings, len(data.problems(task, "train", data.train_limit)))


def of_splits(settings: Settings, problems: Iterable[Sequence[Problem]], samples: int) -> None:
    """Print what ``external-sample`` would ask."""
    show(settings, chain.from_iterable(problems), samples)


def show(settings: Settings, problems: Iterable[Problem], samples: int) -> None:
    """Print the table for these problems."""
    from ekipl.external.budget import IMAGE_TOKENS
    from ekipl.external.pool import LiteLLMPool
    from ekipl.report.spending import remaining_table
    from ekipl.run import build

    pool = build.build_pool(settings, None)
    try:
        if isinstance(pool, LiteLLMPool):
            remaining_table(pool.remaining_cost(problems, samples), IMAGE_TOKENS).show()
        else:
            print(f"external.kind: {settings.external.kind}, M: {settings.M}: nobody is asked")
    finally:
        pool.close()
