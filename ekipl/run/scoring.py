"""The periodic evaluation of a training: metrics of every held-out split, and the completions they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.algorithm.seams import Grader, Sampler
from ekipl.algorithm.types import Problem
from ekipl.errors import BadRow
from ekipl.report.evaluate import GradedAction, metrics, summarize
from ekipl.run import describe
from ekipl.run.records import Record
from ekipl.run.sampling import graded
from ekipl.run.thumbnails import statement_of

if TYPE_CHECKING:
    from ekipl.config import Settings
    from ekipl.engine.collectives import Processes


def evaluated(
    judge: Sampler,
    grade: Grader,
    held_out: Sequence[Sequence[Problem]],
    settings: Settings,
    processes: Processes,
    directory: Path,
) -> tuple[dict[str, float], list[Record]]:
    """The metrics, and the completions of all ranks without log-probabilities; each rank takes a share of the problems.

    Raises:
        BadRow: on all ranks, when one of them cannot read a row and the setting is to end.
    """
    found: list[tuple[GradedAction, Record]] = []
    failed = None
    sampling = describe.policy_sampling(settings.model.path, settings.evaluation)
    try:
        shares = map(processes.mine, held_out)
        for problem, actions in graded(judge, grade, shares, settings.evaluation.samples, settings.seed):
            statement = statement_of(problem, directory)
            for action, one in actions:
                told = replace(action, logprobs=None, reward=one.reward)
                record = Record(problem.task, problem.split, told, sampling, settings.seed, statement=statement)
                found.append((one, record))
    except BadRow as error:
        failed = str(error)
    parts = processes.gather((found, failed))
    if failed := next((text for _, text in parts if text), None):
        raise BadRow(failed, skip=False)
    return metrics(summarize(one for part, _ in parts for one, _ in part)), [r for part, _ in parts for _, r in part]
