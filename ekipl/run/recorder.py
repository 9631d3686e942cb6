"""Writes metrics, actions, evaluations and checkpoints during training; warns when a run cannot learn."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.algorithm.loop import Clock, Step
from ekipl.algorithm.metrics import advice, step_metrics, too_few, waiting
from ekipl.algorithm.seams import Engine, Logger
from ekipl.algorithm.types import Group
from ekipl.errors import BadRow, UsageError
from ekipl.run import checkpoint
from ekipl.run.best import Best, Ended
from ekipl.run.course import Course
from ekipl.run.records import Record, Sampling, records_of_group, write_actions
from ekipl.run.signals import Stop, Stopped
from ekipl.run.thumbnails import statement_of

if TYPE_CHECKING:
    from ekipl.config import Settings
    from ekipl.engine.collectives import Processes
    from ekipl.report.statement import Statement

RECENT = 5  # steps that a warning averages over


@dataclass
class Recorder:
    """Writes the run directory. All ranks call its methods; rank 0 writes.

    Attributes:
        sampling: how each source samples, for the action files.
        measure: evaluates the policy on the held-out splits; returns the metrics, and the completions on rank 0.
        advance: moves the progress bar by a number of steps.
        stop: the request to stop, read after each step.
        course: the run's way through its data.
        skipped: rows that could not be read.
        latest: gets the newest value of each metric, for the progress shown.
        best: the best evaluation so far.
        watched: the split that decides which that is.
        recent: metrics of the last steps.
        warned: the kinds of warning that were printed; each is printed once.
    """

    directory: Path
    settings: Settings
    processes: Processes
    engine: Engine
    logger: Logger
    sampling: Mapping[str, Sampling]
    measure: Callable[[], tuple[dict[str, float], Sequence[Record]]]
    advance: Callable[[int], None]
    stop: Stop
    course: Course
    watched: str
    best: Best = Best()
    skipped: int = 0
    latest: dict[str, float] = field(default_factory=dict)
    recent: deque[Mapping[str, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    warned: set[str] = field(default_factory=set)

    def record_step_0(self) -> None:
        """Log the evaluation of the untrained policy as step 0."""
        if self.settings.evaluation.every:
            self.latest |= self._evaluate(0)
            self.logger.log(0, {"progress/problems": 0.0, **self.latest})

    def after_step(self, step: Step) -> None:
        """Write metrics and actions of the step on all ranks; evaluate and save a checkpoint when they are due.

        Raises:
            Stopped: a rank was asked to stop; the checkpoint is saved.
            Ended: the run has learned enough; the checkpoint is saved.
        """
        statements = [statement_of(group.problem, self.directory) for group in step.groups]
        own = list(zip(_without_images(step.groups), statements, strict=True))
        told = [pair for part in self.processes.gather(own) for pair in part]
        groups = [group for group, _ in told]
        metrics = {
            "progress/problems": float(step.number * self.settings.problems_per_step),
            **step_metrics(groups),
            **step.update,
            **{f"time/{phase}": seconds for phase, seconds in step.seconds.items()},
            "time/step": sum(step.seconds.values()),
        }
        if self.processes.first:
            self._write_actions(step.number, told)
        last, failed, enough = step.number == self.settings.steps, None, None
        if self._due(self.settings.evaluation.every, step.number, last):
            try:
                metrics |= self._evaluate(step.number)
                enough = self.enough
            except BadRow as error:  # on all ranks
                failed = error
        self.logger.log(step.number, metrics)
        self.latest |= metrics
        if self.processes.first:
            self._warn(step.number, groups, metrics)
        requested = self.processes.most(self.stop.requested)
        ends = requested or failed or (enough and self.settings.checkpoint.every)
        if ends or self._is_best(step.number) or self._due(self.settings.checkpoint.every, step.number, last):
            self._save(step.number)
        self.advance(1)
        self.stop.step_done()
        if failed:
            raise failed
        if requested and not last:
            raise Stopped(requested)
        if enough and not last:
            raise Ended(enough, step.number)

    @property
    def enough(self) -> str | None:
        """Why the run has learned enough by its last evaluation; None: it has not."""
        return self.best.enough(self.settings.stop, self.watched)

    def bad_rows(self, steps: int, errors: Sequence[BadRow]) -> None:
        """Save what was learned in so many steps before rows that cannot be read are left out, or end the run.

        Raises:
            UsageError: the setting is to end; all the rows are named.
        """
        saves = steps > 0 and self.settings.checkpoint.every > 0
        if saves and not self.processes.most((self._checkpoints / f"step-{steps}").exists()):
            self._save(steps)
        lines = "\n".join(map(str, errors))
        saved = f"; the checkpoint after step {steps} is saved" if saves else ""
        if not all(error.skip for error in errors):
            raise UsageError(f"{lines}\nstep {steps + 1}: ended{saved}; data.bad_rows=skip goes on without such rows")
        if self.processes.first:
            self.skipped += len(errors)
            print(
                f"{lines}\nekipl train: warning: step {steps + 1}: goes on without {len(errors)} of its rows "
                f"({self.skipped} so far){saved}",
                file=sys.stderr,
            )

    def _save(self, steps: int) -> None:
        """Write a checkpoint after so many steps."""
        keep, best = self.settings.checkpoint.keep, self.best.step if self.settings.checkpoint.best else None
        checkpoint.save(self._checkpoints, steps, partial(self._write, steps), keep, self.processes, best)

    def _is_best(self, steps: int) -> bool:
        """Whether the checkpoint after so many steps is to be kept as the best."""
        return self.settings.checkpoint.best is not None and self.best.step == steps

    @property
    def _checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    def _write(self, steps: int, folder: Path) -> None:
        self.engine.save_state(folder)
        if self.processes.first:
            self.course.save(folder, steps, self.settings)
            self.best.save(folder)

    @staticmethod
    def _due(every: int, step: int, last: bool) -> bool:
        return every > 0 and (last or step % every == 0)

    def _evaluate(self, number: int) -> dict[str, float]:
        clock = Clock()
        with clock("evaluate"):
            values, records = self.measure()
        if self.processes.first:
            write_actions(self.directory / "evaluations" / f"step-{number:06d}.jsonl", records)
        self.best = self.best.after(number, values.get(f"eval/{self.watched}/accuracy", math.nan))
        return {**values, "time/evaluate": clock.seconds["evaluate"]}

    def _write_actions(self, number: int, told: Sequence[tuple[Group, Statement]]) -> None:
        seed = self.settings.seed
        records = (r for group, said in told for r in records_of_group(group, self.sampling, seed, said))
        write_actions(self.directory / "actions" / f"step-{number:06d}.jsonl", records)

    def _warn(self, number: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> None:
        """Print a warning, once per kind, when the run cannot learn or waits for external models."""
        self.recent.append(metrics)
        recent = list(self.recent) if len(self.recent) == RECENT else []
        warnings = {
            "dead": advice([step["group/frac_zero_variance"] for step in recent], groups, self.settings.G),
            "few": too_few(groups, self.settings.G),
            "slow": waiting([(step["time/external"], step["time/step"]) for step in recent[1:]]),
        }
        for kind, text in warnings.items():
            if text is not None and kind not in self.warned:
                self.warned.add(kind)
                print(f"ekipl train: warning: step {number}: {text}", file=sys.stderr)


def _without_images(groups: Sequence[Group]) -> list[Group]:
    """The groups without images, which the other ranks do not need."""
    return [replace(group, problem=replace(group.problem, images=())) for group in groups]
