"""``--dry-run``: what the external models would still cost, before a request is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from ekipl.actions import Problem

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.config import Settings


def of_training(cfg: DictConfig, settings: Settings) -> None:
    """Print what all steps of a training run would ask."""
    from ekipl.algorithm import data_order
    from ekipl.commands import build

    problems = build.build_data(settings).problems(build.build_task(cfg), "train", settings.data.train_limit)
    batches = islice(data_order(len(problems), settings.problems_per_step, settings.seed), settings.I * settings.B)
    show(settings, (problems[row] for row in chain.from_iterable(batches)), settings.N)


def of_splits(settings: Settings, problems: Iterable[Sequence[Problem]], samples: int) -> None:
    """Print what ``external-sample`` would ask."""
    show(settings, chain.from_iterable(problems), samples)


def show(settings: Settings, problems: Iterable[Problem], samples: int) -> None:
    """Print the table for these problems."""
    from ekipl.commands import build
    from ekipl.external.pool import LiteLLMPool

    pool = build.build_pool(settings, None)
    try:
        if isinstance(pool, LiteLLMPool):
            pool.outlook(problems, samples).show()
        else:
            print(f"external.kind: {settings.external.kind}, M: {settings.M}: nobody is asked")
    finally:
        pool.close()
