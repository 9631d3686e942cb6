"""The composition root: makes the parts from the settings. The parts themselves take plain arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from inspect import signature
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ekipl.algorithm.seams import Decoding, Engine, ExternalPool, Sampler, Task
from ekipl.algorithm.types import Problem
from ekipl.errors import MissingSplit, UsageError
from ekipl.external.settings import Demonstrated, ExternalModel, JudgeSettings, LiteLLM, Nobody, OwnPool, Recorded
from ekipl.external.simulated import PREFIX
from ekipl.files import write_text
from ekipl.importing import imported
from ekipl.policy.settings import OwnRollout, VLLMRollout
from ekipl.run.reading import reader_of_command
from ekipl.run.records import actions_file
from ekipl.tasks.templates import template_in

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.config import Command, Settings
    from ekipl.engine.collectives import Processes
    from ekipl.external.pool import LiteLLMPool
    from ekipl.policy.model import VLM


def begin(cfg: DictConfig, command: Command) -> tuple[Settings, Path]:
    """The checked settings, and the run directory with ``config.yaml`` in it. Raises UsageError."""
    from hydra.core.hydra_config import HydraConfig

    from ekipl.config import check
    from ekipl.run.hub import check_hub_models
    from ekipl.run.resume import refuse_strange_files
    from ekipl.run.saved import saved_text

    settings = check(cfg, command)
    check_hub_models(settings)
    directory = Path(HydraConfig.get().runtime.output_dir)
    if not settings.dry_run:
        refuse_strange_files(directory)
        write_text(directory / "config.yaml", saved_text(cfg))
    return settings, directory


def build_task(settings: Settings) -> Task:
    """The task that ``task._target_`` names, with the user's own templates. Raises UsageError."""
    arguments = dict(settings.task)
    target = str(arguments.pop("_target_"))
    make = imported("task._target_", target if ":" in target else ":".join(target.rsplit(".", 1)))
    accepted = signature(make).parameters
    prompt = settings.prompt
    if "strategy" not in arguments and prompt.strategy != "cot":
        raise UsageError(
            f"prompt.strategy: {prompt.strategy}: {target} asks in one way; give it an argument strategy, and its "
            "section strategy: ${prompt.strategy}, or set prompt=cot"
        )
    if prompt.file and "prompt" not in accepted:
        raise UsageError(f"prompt.file: {prompt.file}: {target} takes no argument prompt; leave it out")
    if prompt.file:
        arguments["prompt"] = template_in("prompt.file", prompt.file)
    if "choice_prompt" in accepted and (choice := prompt.choice_file or prompt.file):
        arguments["choice_prompt"] = template_in("prompt.choice_file" if prompt.choice_file else "prompt.file", choice)
    try:
        task: Task = make(**arguments)
    except UsageError:
        raise
    except Exception as error:  # a class of the user's own may fail in any way
        reason = " ".join(str(error).split())
        raise UsageError(f"task._target_: {target}: {reason}; see conf/task/counting.yaml") from error
    return task


def open_problems(settings: Settings, task: Task) -> dict[str, Sequence[Problem]]:
    """The problems of the splits asked for (by default all that the task is measured on), by split.

    Raises:
        UsageError: no such split, no file for one (unless ``missing_split`` is skip and others have theirs), or bad
            rows; those of all splits are told together.
    """
    data = settings.data
    problems, faults, absent = {}, [], []
    fits = reader_of_command(settings)
    for split in settings.splits or task.splits:
        own = data.train_limit if split == "train" else data.test_limit
        limit = min((n for n in (own, settings.limit, settings.n) if n is not None), default=None)
        try:
            problems[split] = data.problems(task, split, limit, fits)
        except MissingSplit as error:
            absent.append(str(error) + (", or missing_split=skip" if settings.missing_split else ""))
        except UsageError as error:
            faults.append(str(error))
    if settings.missing_split != "skip" or not problems:
        faults += absent
    if faults:
        raise UsageError("\n".join(faults))
    return problems


def build_pool(settings: Settings, directory: Path | None) -> ExternalPool:
    """The first M external models. Raises UsageError when one cannot be asked as configured.

    Args:
        settings: its section ``external``.
        directory: the run directory, for the ledger; None keeps that in memory.
    """
    external = settings.external
    if isinstance(external, Nobody) or not settings.M:
        from ekipl.external.offline import NoPool

        return NoPool()
    if isinstance(external, OwnPool):
        pool: ExternalPool = imported("external.kind", external.kind)(**external.args)
        return pool
    if isinstance(external, Demonstrated):
        from ekipl.external.offline import Demonstrations

        return Demonstrations(external.models[0].name, with_reasoning=settings.prompt.strategy != "answer")
    if isinstance(external, Recorded):
        from ekipl.external.offline import RecordedPool
        from ekipl.run.records import read_actions

        assert external.path is not None  # a rule of the settings
        file = actions_file(external.path)
        recorded = ((record.task, record.split, record.action) for record in read_actions(file))
        samples = {model.name: model.samples for model in external.models[: settings.M]}
        return RecordedPool(recorded, list(samples), samples, file)
    from ekipl.external.ledger import FILE

    models = [_as_called(model, settings) for model in external.models[: settings.M]]
    return litellm_pool(external, models, settings, directory and directory / FILE, external.on_exhausted)


def litellm_pool(
    called: LiteLLM | JudgeSettings,
    models: Sequence[ExternalModel],
    settings: Settings,
    ledger: Path | None,
    on_exhausted: Literal["stop", "policy_only"],
    section: str = "external",
) -> LiteLLMPool:
    """The pool of ``models``, called as the ``section`` of the settings says; without a ``ledger`` file in memory."""
    from ekipl.external.http import MB
    from ekipl.external.pool import LiteLLMPool

    return LiteLLMPool(
        models,
        Decoding(called.temperature, called.top_p, 0, called.max_tokens),
        called.timeout_s,
        settings.seed,
        None if called.cache is None else Path(called.cache).expanduser(),
        ledger,
        called.budget_usd,
        on_exhausted,
        max_body=round(called.max_body_mb * MB),
        dry=settings.dry_run,
        section=section,
    )


def _as_called(model: ExternalModel, settings: Settings) -> ExternalModel:
    """The model with its expert's settings as parameters, and with this rank's share of its rates."""
    assert isinstance(settings.external, LiteLLM)
    expert = next((e for e in settings.external.experts if f"{PREFIX}{e.name}" == model.model), None)
    own = {key: value for key, value in asdict(expert).items() if key != "name"} if expert else {}
    return at_share_of_rates(replace(model, params={**own, **model.params}), settings)


def at_share_of_rates(model: ExternalModel, settings: Settings) -> ExternalModel:
    """The model with this rank's share of its rates."""
    ranks = settings.engine.world_size if settings.command == "train" else 1
    return replace(
        model,
        requests_per_minute=model.requests_per_minute and model.requests_per_minute / ranks,
        tokens_per_minute=model.tokens_per_minute and model.tokens_per_minute / ranks,
    )


def refuse_strangers(pool: ExternalPool, problems: Iterable[Problem]) -> None:
    """Raises UsageError for a recording of other problems only: training on it would be plain GRPO."""
    from ekipl.external.offline import RecordedPool

    if isinstance(pool, RecordedPool):
        pool.refuse_strangers(problems)


def prefetching(
    pool: ExternalPool, problems: Sequence[Problem], order: Iterable[Sequence[int]], settings: Settings
) -> ExternalPool:
    """The pool, which is asked ahead in ``order`` where its answers take time."""
    external = settings.external
    if not isinstance(external, LiteLLM) or not pool.names or not external.prefetch:
        return pool
    from ekipl.external.prefetch import Prefetch

    return Prefetch(pool, problems, order, settings.N, external.prefetch)


def with_length(settings: Settings, problems: int) -> Settings:
    """The settings with B as ``epochs`` over this many training problems says, where B is not set."""
    if settings.B is not None:
        return settings
    assert settings.epochs is not None  # a rule of the settings
    return replace(settings, B=ceil(ceil(settings.epochs * problems / settings.problems_per_step) / settings.I))


def load_policy(settings: Settings, path: str | None = None, *, weights: bool = True) -> VLM:
    """The model at ``path`` (None: ``model.path``) with the settings of ``model``. Raises UsageError."""
    from ekipl.policy.model import embed_patches_by_product, load_model
    from ekipl.run.export import as_model

    model = settings.model
    vlm = load_model(
        as_model(path or model.path),
        dtype=model.dtype,
        attention=model.attention,
        min_pixels=model.min_pixels,
        max_pixels=model.max_pixels,
        trust_remote_code=model.trust_remote_code,
        weights=weights,
    )
    embed_patches_by_product(vlm.model)
    return vlm


def build_engine(settings: Settings, vlm: VLM, processes: Processes) -> Engine:
    """The engine that trains ``vlm``, in place. Raises UsageError when an adapter's target names no layer."""
    from ekipl.engine.deepspeed import DeepSpeedEngine

    return DeepSpeedEngine(
        vlm,
        settings,
        settings.engine,
        temperature=settings.rollout.temperature,
        lora=settings.model.lora if settings.model.lora.rank else None,
        processes=processes,
    )


def start_vllm(settings: Settings, vlm: VLM, processes: int = 1) -> Any:
    """vLLM with the weights at ``vlm.path``, in each of the processes. Raises UsageError."""
    from ekipl.policy import vllm

    model, rollout = settings.model, settings.rollout
    assert isinstance(rollout, VLLMRollout)
    return vllm.start(
        vlm,
        dtype=model.dtype,
        batch_size=rollout.batch_size,
        cache_gib=rollout.cache_gib,
        processes=processes,
        trust_remote_code=model.trust_remote_code,
    )


def build_sampler(settings: Settings, decoding: Decoding, path: str | None = None) -> Sampler:
    """A sampler of the model at ``path`` (None: ``model.path``). Loads weights. Raises UsageError."""
    from ekipl.policy.generate import GenerateSampler, evaluated_only
    from ekipl.policy.hf import HFSampler
    from ekipl.policy.model import resolve_path
    from ekipl.run.export import as_model

    path = as_model(path or settings.model.path)
    model, folder = settings.model, resolve_path(path)
    if evaluated_only(folder, model.trust_remote_code):
        return GenerateSampler(
            folder,
            decoding,
            settings.rollout.batch_size,
            dtype=model.dtype,
            attention=model.attention,
            trust_remote_code=model.trust_remote_code,
        )
    if isinstance(settings.rollout, OwnRollout):
        return own_sampler(settings.rollout, load_policy(settings, path), decoding)
    if isinstance(settings.rollout, VLLMRollout):
        from ekipl.policy.vllm import VLLMSampler

        vlm = load_policy(settings, path, weights=False)
        return VLLMSampler(vlm, start_vllm(settings, vlm), decoding)
    return HFSampler(load_policy(settings, path), decoding, settings.rollout.batch_size)


def own_sampler(rollout: OwnRollout, vlm: VLM, decoding: Decoding) -> Sampler:
    """The sampler of the user's own that ``rollout.kind`` names. Raises UsageError."""
    sampler: Sampler = imported("rollout.kind", rollout.kind)(vlm, decoding, **rollout.args)
    return sampler
