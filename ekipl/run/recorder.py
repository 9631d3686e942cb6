"""What a training run leaves: metrics, actions, evaluations and checkpoints, and a warning when it cannot learn."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.algorithm.loop import Step
from ekipl.algorithm.metrics import advice, step_metrics, too_few, waiting
from ekipl.algorithm.seams import Logger
from ekipl.algorithm.timing import Clock
from ekipl.algorithm.types import Group
from ekipl.run import checkpoint
from ekipl.run.records import Sampling, records_of_group, write_actions
from ekipl.run.signals import Stop, Stopped

if TYPE_CHECKING:
    from ekipl.config import Settings
    from ekipl.engine.collectives import Processes
    from ekipl.engine.deepspeed import DeepSpeedEngine

RECENT = 5  # steps that are averaged before something is said of them


@dataclass
class Recorder:
    """Keeps the run directory: metrics, actions, evaluations, checkpoints."""

    directory: Path
    settings: Settings
    processes: Processes
    engine: DeepSpeedEngine
    logger: Logger
    sampling: Mapping[str, Sampling]  # how each source samples, for the action files
    measure: Callable[[], dict[str, float]]
    advance: Callable[[int], None]
    stop: Stop
    recent: deque[Mapping[str, float]] = field(default_factory=lambda: deque(maxlen=RECENT))  # metrics of steps
    said: set[str] = field(default_factory=set)

    def baseline(self) -> None:
        """Step 0: what the policy can do before it learns."""
        if self.settings.evaluation.every:
            self.logger.log(0, {"progress/problems": 0.0, **self._evaluate()})

    def after_step(self, step: Step) -> None:
        """Write what the step did on all processes; evaluate and save when it is time."""
        groups = [group for part in self.processes.gather(_without_images(step.groups)) for group in part]
        metrics = {
            "progress/problems": float(step.number * self.settings.problems_per_step),
            **step_metrics(groups),
            **step.update,
            **{f"time/{phase}": seconds for phase, seconds in step.seconds.items()},
            "time/step": sum(step.seconds.values()),
        }
        if self.processes.first:
            self._write_actions(step.number, groups)
        last = step.number == self.settings.I * self.settings.B
        if self._due(self.settings.evaluation.every, step.number, last):
            metrics |= self._evaluate()
        self.logger.log(step.number, metrics)
        if self.processes.first:
            self._warn(step.number, groups, metrics)
        requested = self.processes.most(self.stop.requested)
        if requested or self._due(self.settings.checkpoint.every, step.number, last):
            folder, keep = self.directory / "checkpoints", self.settings.checkpoint.keep
            checkpoint.save(folder, step.number, self.engine.save_state, keep, self.processes)
        self.advance(1)
        if requested and not last:
            raise Stopped(requested)

    @staticmethod
    def _due(every: int, step: int, last: bool) -> bool:
        return every > 0 and (last or step % every == 0)

    def _evaluate(self) -> dict[str, float]:
        clock = Clock()
        with clock("evaluate"):
            values = self.measure()
        return {**values, "time/evaluate": clock.seconds["evaluate"]}

    def _write_actions(self, number: int, groups: Sequence[Group]) -> None:
        records = (r for group in groups for r in records_of_group(group, self.sampling, self.settings.seed))
        write_actions(self.directory / "actions" / f"step-{number:06d}.jsonl", records)

    def _warn(self, number: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> None:
        """Say once what keeps a run from learning, or makes it slow, in plain words."""
        self.recent.append(metrics)
        recent = list(self.recent) if len(self.recent) == RECENT else []
        words = {
            "dead": advice([step["group/frac_zero_variance"] for step in recent], groups, self.settings.G),
            "few": too_few(groups, self.settings.G),
            "slow": waiting([(step["time/external"], step["time/step"]) for step in recent[1:]]),
        }
        for kind, text in words.items():
            if text is not None and kind not in self.said:
                self.said.add(kind)
                print(f"ekipl train: warning: step {number}: {text}", file=sys.stderr)


def _without_images(groups: Sequence[Group]) -> list[Group]:
    """What the other processes need to know of these groups."""
    return [replace(group, problem=replace(group.problem, images=())) for group in groups]
