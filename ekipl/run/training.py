"""A training run: builds the parts, runs Algorithm 1 over them, and keeps the run directory."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.algorithm.loop import train
from ekipl.algorithm.seams import Engine, ExternalPool, Grader, Sampler, Task
from ekipl.algorithm.types import POLICY, Problem
from ekipl.engine.rank import launched_rank
from ekipl.errors import UsageError
from ekipl.files import read_jsonl, write_text
from ekipl.masking import masked_values
from ekipl.policy.folders import ADAPTERS, MODEL
from ekipl.policy.settings import ModelSettings, OwnRollout, VLLMRollout
from ekipl.run import checkpoint
from ekipl.run.best import ENDED, Ended, best_of, end_of, keep_end, watched
from ekipl.run.course import course_of
from ekipl.run.log import Loggers, last_step, open_logger
from ekipl.run.reading import batches, opened, reader_of_training
from ekipl.run.recorder import Recorder
from ekipl.run.rewards import build_grader
from ekipl.run.scoring import evaluated
from ekipl.run.signals import Stop, Stopped, lock_directory
from ekipl.run.viewing import write_page

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.config import Settings
    from ekipl.config.sections import StopSettings
    from ekipl.engine.collectives import Processes

BEFORE = "model.before"  # the model of a run that goes on
FIRST_STAGE = "first_stage"  # the run directory of the stage before, in the run directory


def run_training(cfg: DictConfig, directory: Path) -> None:
    """Train as ``cfg`` says, in each of the processes; a directory that holds checkpoints is gone on with.

    A finished run is left as it is, unless it is to be longer now.
    """
    is_first = launched_rank() in (None, 0)
    with lock_directory(directory) if is_first else nullcontext():
        if cfg.B is None or not is_finished(directory, cfg.I * cfg.B, cfg.stop):
            _train(cfg, directory)
        if is_first:
            _report(directory, cfg)
            write_page(cfg, directory)


def _train(cfg: DictConfig, directory: Path) -> None:
    """What can be refused is refused before weights load: settings, data, keys."""
    from ekipl.config import check
    from ekipl.run import build

    settings = _after_first_stage(check(cfg, "train"), directory)
    task = build.build_task(settings)
    grade = build_grader(settings, task, directory)
    problems, held_out = opened(settings, task)
    if is_finished(directory, build.with_length(settings, len(problems)).steps, settings.stop):
        return
    _refuse_copies(settings, len(problems))
    _check_targets(settings.model)
    pool = build.build_pool(settings, directory)
    build.refuse_strangers(pool, problems)
    _learn(settings, task, grade, problems, held_out, pool, directory)


def _learn(
    settings: Settings,
    task: Task,
    grade: Grader,
    problems: Sequence[Problem],
    held_out: Sequence[Sequence[Problem]],
    pool: ExternalPool,
    directory: Path,
) -> None:
    """Load the weights, run Algorithm 1, and save the model."""
    from ekipl.engine.collectives import join
    from ekipl.progress import progress
    from ekipl.run import build, describe

    processes = join()
    _refuse_another_world(settings, processes)
    done = checkpoint.newest(directory / "checkpoints", processes)
    first_step = checkpoint.step_of(done) if done else 0
    course = course_of(problems, done, first_step, settings)
    _refuse_copies(settings, course.left)
    settings = build.with_length(settings, course.size)
    engine, policy, judge = _policy(settings, processes)
    if processes.first:
        _set_aside(directory, first_step)
    logger = open_logger(settings, directory, first_step if done else None) if processes.first else Loggers([])
    if done:
        engine.load_state(done)
        policy.load_weights(engine)
    sampling = {
        POLICY: describe.policy_sampling(settings.model.path, settings.rollout),
        **describe.external_sampling(settings),
    }

    measure = partial(evaluated, judge, grade, held_out, settings, processes, directory)
    stop, latest = Stop(), dict[str, float]()
    so_far = partial(describe.course, latest, pool)
    with progress(settings.steps, "train", so_far, "step", first_step, processes.first) as advance:
        where = (directory, settings, processes)
        recorder = Recorder(
            *where, engine, logger, sampling, measure, advance, stop, course, watched(settings, task.splits),
            best_of(done), latest=latest,
        )  # fmt: skip
        if first_step == 0:
            recorder.record_step_0()
        shares = (processes.mine(indices) for indices in course.order(settings))
        pool = build.prefetching(pool, problems, shares, settings)
        coming = batches(
            problems, course.order(settings), first_step, processes, recorder.bad_rows, reader_of_training(settings)
        )
        try:
            if first_step and (reason := recorder.enough):  # killed between this checkpoint and the end
                raise Ended(reason, first_step)
            with stop if settings.checkpoint.every else nullcontext():
                train(coming, grade, policy, pool, engine, settings, recorder.after_step, first_step)
        except Ended as enough:
            if processes.first:
                print(f"ekipl train: ends after step {enough.step}: {enough}", file=sys.stderr)
                keep_end(directory, enough.step, str(enough), settings.stop)
        except Stopped as stopped:
            if stopped.__cause__ is None:  # else another rank is gone, and nothing can be saved together
                _save(engine, directory)  # of the steps done; going on sets it aside
            raise
        finally:
            pool.close()
            logger.close()
    _save(engine, directory)
    if processes.first:
        shutil.rmtree(directory / BEFORE, ignore_errors=True)


def _save(engine: Engine, directory: Path) -> None:
    """The model, and its adapter alone where it has one. The model comes last: it says that the run has ended."""
    engine.save_adapter(str(directory / ADAPTERS))
    engine.save(str(directory / MODEL))


def _refuse_another_world(settings: Settings, processes: Processes) -> None:
    if processes.world_size != settings.engine.world_size:
        raise UsageError(
            f"engine.num_processes: {settings.engine.num_processes} on each of {settings.engine.num_nodes} machines: "
            f"the launcher has started {processes.world_size} in all; set what it starts"
        )


def is_finished(directory: Path, steps: int, stop: StopSettings | DictConfig) -> bool:
    """Whether the run's model is that of its last step, or it has ended early: a stopped run has that of its steps."""
    if not (directory / MODEL).exists():
        return False
    done = last_step(directory / "metrics.jsonl")
    end = end_of(directory)
    as_now = end and (end["step"], end["at"], end["patience"]) == (done, stop.at, stop.patience)
    return done is None or done >= steps or bool(as_now)


def _set_aside(directory: Path, first_step: int) -> None:
    """Rename the model that this run had before it goes on."""
    (directory / ENDED).unlink(missing_ok=True)
    if not (directory / MODEL).exists():
        return
    if first_step == 0:
        raise UsageError(
            f"hydra.run.dir: {directory}: it has a model, but no checkpoint to go on from (checkpoint.every=0 writes "
            f"none); give another directory, with model.path={directory / MODEL}"
        )
    shutil.rmtree(directory / BEFORE, ignore_errors=True)
    (directory / MODEL).rename(directory / BEFORE)


def _after_first_stage(settings: Settings, directory: Path) -> Settings:
    """The settings with the first stage's model as the initial policy, where there is a first stage."""
    if settings.first_stage is None:
        return settings
    model = directory / FIRST_STAGE / MODEL
    if not model.exists():
        raise UsageError(f"first_stage: {model}: no such folder; train {directory / FIRST_STAGE / 'config.yaml'} first")
    return replace(settings, model=replace(settings.model, path=str(model)))


def _refuse_copies(settings: Settings, problems: int) -> None:
    if problems < settings.problems_per_step:
        raise UsageError(
            f"problems_per_step: {settings.problems_per_step}: a batch of the {problems} training problems would "
            f"hold copies; set it to {problems} or less"
        )


def _report(directory: Path, cfg: DictConfig) -> None:
    """The figures, a summary of one page, and the card of the model."""
    from omegaconf import OmegaConf

    from ekipl.report import card
    from ekipl.report.page import write_report
    from ekipl.run.describe import spending

    page = write_report(directory, spending(directory), cfg.checkpoint.best, end_of(directory).get("reason"))
    write_text(directory / "summary.md", page)
    if (directory / MODEL).is_dir():
        settings = masked_values(OmegaConf.to_container(cfg, resolve=True))
        text = card.model_card(settings, read_jsonl(directory / "metrics.jsonl"), directory.absolute().name)
        file = directory / MODEL / card.FILE
        if not file.is_file() or file.read_text(encoding="utf-8") != text:  # its time is part of a model's identity
            write_text(file, text)
    print(page)


def _policy(settings: Settings, processes: Processes) -> tuple[Engine, Sampler, Sampler]:
    """The engine, and the samplers of rollouts and of evaluation."""
    from ekipl.policy.hf import HFSampler
    from ekipl.policy.model import freeze
    from ekipl.policy.vllm import VLLMSampler
    from ekipl.run import build

    vlm = build.load_policy(settings)
    freeze(vlm.model, vision=settings.model.freeze_vision, projector=settings.model.freeze_projector)
    rollout, judging = settings.rollout, settings.evaluation
    if isinstance(rollout, VLLMRollout):
        engine = build.build_engine(settings, vlm, processes)
        llm = build.start_vllm(settings, vlm, processes.world_size)
        return engine, VLLMSampler(vlm, llm, rollout), VLLMSampler(vlm, llm, judging)
    own_copy = settings.engine.zero_stage == 3  # sampling needs whole weights; ranks decode different lengths
    sampled = replace(vlm, model=copy.deepcopy(vlm.model)) if own_copy else vlm
    engine = build.build_engine(settings, vlm, processes)
    policy, judge = (HFSampler(sampled, d, rollout.batch_size, own_copy) for d in (rollout, judging))
    own = build.own_sampler(rollout, sampled, rollout) if isinstance(rollout, OwnRollout) else policy
    return engine, own, judge


def _check_targets(model: ModelSettings) -> None:
    """Raises UsageError when LoRA is to change layers that the model does not have."""
    if model.lora.rank:
        from ekipl.engine.lora import target_layers
        from ekipl.policy.model import freeze, outline

        empty = outline(model.path, model.trust_remote_code)
        freeze(empty, vision=model.freeze_vision, projector=model.freeze_projector)
        target_layers(empty, model.lora.targets)
