"""A training run: builds the parts, runs Algorithm 1 over them, and keeps the run directory."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekipl import checkpoint
from ekipl.actions import POLICY, Problem
from ekipl.advantages import Baseline
from ekipl.algorithm import Plan, Step, train
from ekipl.interfaces import Logger
from ekipl.records import Sampling, records_of_group, write_actions, write_text
from ekipl.selection import Selection
from ekipl.summary import advice, step_metrics, too_few
from ekipl.timing import Clock

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.config import Settings
    from ekipl.engine.deepspeed import DeepSpeedEngine

RECENT = 5  # steps over which dead groups are averaged before something is said


def run_training(cfg: DictConfig, directory: Path) -> None:
    """Train as ``cfg`` says; a directory that holds checkpoints is gone on with.

    What can be refused is refused before weights load: settings, data, keys.
    """
    from ekipl.commands import build
    from ekipl.config import check

    settings = check(cfg, "train")
    task, data = build.build_task(cfg), build.build_data(settings)
    problems = data.problems(task, settings.data.train_split, settings.data.train_limit)
    held_out = _held_out(settings, task.splits, lambda split, limit: data.problems(task, split, limit))
    pool = build.build_pool(settings)
    done = checkpoint.checkpoints(directory / "checkpoints")
    first_step = checkpoint.step_of(done[0]) if done else 0
    logger = build.build_logger(settings, directory, first_step if done else None)

    from ekipl.evaluate import evaluate, metrics
    from ekipl.rollout.hf import HFSampler

    vlm = build.load_policy(settings)
    if settings.model.freeze_vision:
        vlm.model.model.visual.requires_grad_(False)
    engine = _engine(settings, vlm)
    if done:
        engine.load_state(done[0])
    policy = HFSampler(vlm, build.decoding_of(settings.rollout), settings.rollout.batch_size)
    judge = HFSampler(vlm, build.decoding_of(settings.evaluation), settings.rollout.batch_size)
    sampling = {
        POLICY: build.policy_sampling(settings.model.path, policy.decoding),
        **build.external_sampling(settings),
    }

    def measure() -> dict[str, float]:
        values: dict[str, float] = {}
        for split in held_out:
            values |= metrics(evaluate(judge, task, split, settings.evaluation.samples, settings.seed))
        return values

    from ekipl.log import progress

    total = settings.I * settings.B
    with progress(total - first_step, "train") as advance:
        record = Record(directory, settings, engine, logger, sampling, measure, advance)
        if first_step == 0:
            record.baseline()
        try:
            train(problems, task, policy, pool, engine, plan_of(settings), record.after_step, first_step)
        finally:
            pool.close()
            logger.close()
    record.finish()


def plan_of(settings: Settings) -> Plan:
    """The paper's symbols, selection and baseline of Eq. 1."""
    objective, selection = settings.objective, settings.selection
    return Plan(
        N=settings.N,
        G=settings.G,
        I=settings.I,
        B=settings.B,
        mu=settings.mu,
        problems_per_step=settings.problems_per_step,
        seed=settings.seed,
        selection=Selection(selection.rule, selection.contrast, selection.ties),
        baseline=Baseline(objective.baseline, objective.std),
        drop_below_baseline=objective.below_baseline == "drop",
    )


def _engine(settings: Settings, vlm: Any) -> DeepSpeedEngine:
    from ekipl.engine.deepspeed import DeepSpeedEngine, Optimizer
    from ekipl.grpo import Objective

    engine, objective = settings.engine, settings.objective
    return DeepSpeedEngine(
        vlm,
        Objective(
            eps=settings.eps,
            beta=settings.beta,
            ratio=objective.ratio,
            external_ratio=objective.external_ratio,
            gamma=objective.shaped_gamma,
            aggregation=objective.aggregation,
            max_tokens=settings.rollout.max_tokens,
        ),
        Optimizer(
            learning_rate=engine.learning_rate,
            weight_decay=engine.weight_decay,
            schedule=engine.schedule,
            warmup_updates=engine.warmup_steps * settings.mu,
            total_updates=settings.I * settings.B * settings.mu,
            max_grad_norm=engine.max_grad_norm,
        ),
        temperature=settings.rollout.temperature,
        mu=settings.mu,
        zero_stage=engine.zero_stage,
        micro_batch=engine.micro_batch,
    )


def _held_out(
    settings: Settings, splits: Sequence[str], read: Callable[[str, int | None], Sequence[Problem]]
) -> list[Sequence[Problem]]:
    """The evaluation splits, opened now so that bad rows are told before training; none when nothing is evaluated."""
    if settings.evaluation.every == 0:
        return []
    return [read(split, settings.evaluation.limit) for split in splits]


@dataclass
class Record:
    """Keeps the run directory: metrics, actions, evaluations, checkpoints, the model, figures and summary."""

    directory: Path
    settings: Settings
    engine: DeepSpeedEngine
    logger: Logger
    sampling: Mapping[str, Sampling]  # how each source samples, for the action files
    measure: Callable[[], dict[str, float]]
    advance: Callable[[int], None]
    dead: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    said: set[str] = field(default_factory=set)

    def baseline(self) -> None:
        """Step 0: what the policy can do before it learns."""
        if self.settings.evaluation.every:
            self.logger.log(0, {"progress/problems": 0.0, **self._evaluate()})

    def after_step(self, step: Step) -> None:
        """Write what the step did; evaluate and save when it is time."""
        metrics = {
            "progress/problems": float(step.number * self.settings.problems_per_step),
            **step_metrics(step.groups),
            **step.update,
            **{f"time/{phase}": seconds for phase, seconds in step.seconds.items()},
            "time/step": sum(step.seconds.values()),
        }
        self._write_actions(step)
        last = step.number == self.settings.I * self.settings.B
        if self._due(self.settings.evaluation.every, step.number, last):
            metrics |= self._evaluate()
        self.logger.log(step.number, metrics)
        self._warn(step, metrics)
        if self._due(self.settings.checkpoint.every, step.number, last):
            folder, keep = self.directory / "checkpoints", self.settings.checkpoint.keep
            checkpoint.save(folder, step.number, self.engine.save_state, keep)
        self.advance(1)

    def finish(self) -> None:
        """The model for others to open, the figures, and a summary of one page."""
        from ekipl.report import write_report

        model = self.directory / "model"
        if not model.exists():
            self.engine.save(str(model))
        page = write_report(self.directory)
        write_text(self.directory / "summary.md", page)
        print(page)

    @staticmethod
    def _due(every: int, step: int, last: bool) -> bool:
        return every > 0 and (last or step % every == 0)

    def _evaluate(self) -> dict[str, float]:
        clock = Clock()
        with clock("evaluate"):
            values = self.measure()
        return {**values, "time/evaluate": clock.seconds["evaluate"]}

    def _write_actions(self, step: Step) -> None:
        seed = self.settings.seed
        records = (r for group in step.groups for r in records_of_group(group, self.sampling, seed))
        write_actions(self.directory / "actions" / f"step-{step.number:06d}.jsonl", records)

    def _warn(self, step: Step, metrics: Mapping[str, float]) -> None:
        """Say once what keeps a run from learning, in plain words."""
        self.dead.append(metrics["group/frac_zero_variance"])
        recent = list(self.dead) if len(self.dead) == RECENT else []
        words = (advice(recent, step.groups, self.settings.G), too_few(step.groups, self.settings.G))
        for kind, text in zip(("dead", "few"), words, strict=True):
            if text is not None and kind not in self.said:
                self.said.add(kind)
                print(f"ekipl train: warning: step {step.number}: {text}", file=sys.stderr)
