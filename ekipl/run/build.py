"""The composition root: makes the parts from the settings. The parts themselves take plain arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekipl.algorithm.seams import Decoding, ExternalPool, Grader, Logger, ProblemSource, Sampler, Task
from ekipl.algorithm.types import Problem
from ekipl.errors import MissingSplit, UsageError
from ekipl.files import write_text
from ekipl.reward.graders import check_grader, grader, grader_of
from ekipl.run.importing import imported
from ekipl.run.records import Sampling, actions_file

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.algorithm.loop import Hyperparameters
    from ekipl.config import Command, Settings
    from ekipl.config.settings import DecodingSettings, EvaluationSettings, ExternalModelSettings, RolloutSettings
    from ekipl.policy.model import VLM


def begin(cfg: DictConfig, command: Command) -> tuple[Settings, Path]:
    """The checked settings, and the run directory with ``config.yaml`` in it. Raises UsageError."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from ekipl.config import check

    settings = check(cfg, command)
    directory = Path(HydraConfig.get().runtime.output_dir)
    write_text(directory / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    return settings, directory


def build_task(cfg: DictConfig) -> Task:
    """The task that ``task._target_`` names. Raises UsageError when it cannot be made."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        task: Task = instantiate(cfg.task, **_templates(cfg))
    except InstantiationException as error:
        if isinstance(error.__cause__, UsageError):
            raise error.__cause__ from error
        reason = " ".join(str(error.__cause__ or error).split())
        raise UsageError(f"task._target_: {cfg.task['_target_']}: {reason}; see conf/task/counting.yaml") from error
    return task


def _templates(cfg: DictConfig) -> dict[str, str]:
    """The user's own templates, as arguments of the task. Raises UsageError for a file that cannot be read."""
    found = {}
    for key, argument in (("file", "prompt"), ("choice_file", "choice_prompt")):
        name = cfg.prompt[key] or (cfg.prompt.file if key == "choice_file" and "choice_prompt" in cfg.task else None)
        if name is not None:
            try:
                found[argument] = Path(name).expanduser().read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UsageError(f"prompt.{key}: {name}: {reason}; give a text file with {{question}} in it") from error
    return found


def build_grader(settings: Settings, task: Task) -> Grader:
    """The reward of the setting ``reward``. Raises UsageError when it does not fit the task or cannot be imported."""
    return _grader("reward", settings.reward, task)


def further_graders(settings: Settings, task: Task) -> dict[str, Grader]:
    """The graders of ``also_grade_with`` by name, without that of ``reward``. Raises UsageError."""
    names = [(f"also_grade_with.{number}", name) for number, name in enumerate(settings.also_grade_with)]
    return {name: _grader(key, name, task) for key, name in names if name != settings.reward}


def _grader(key: str, name: str, task: Task) -> Grader:
    if ":" in name:
        return grader_of(name, imported(key, name))
    try:
        return grader(check_grader(name, task.name, task.kinds))
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from error


def build_data(settings: Settings) -> ProblemSource:
    """Where the problems come from. Raises UsageError."""
    data = settings.data
    if data.kind == "reason_rft":
        from ekipl.data.reason_rft import ReasonRFTData

        return ReasonRFTData(data.root, data.hub, data.train_start, data.train_split)
    from ekipl.data.synthetic.source import SyntheticData

    sizes = (data.image_size, data.train_size, data.test_size)
    image_size, train_size, test_size = (size or 0 for size in sizes)  # a rule of the settings: none is null
    return SyntheticData(data.seed, image_size, train_size, test_size, data.train_start)


def open_problems(settings: Settings, task: Task) -> dict[str, Sequence[Problem]]:
    """The problems of the splits asked for (by default all that the task is measured on), by split.

    Raises:
        UsageError: no such split, no file for one (unless ``missing_split`` is skip and others have theirs), or bad
            rows; those of all splits are told together.
    """
    known = ("train", *task.splits)
    splits = settings.splits or task.splits
    if wrong := [split for split in splits if split not in known]:
        raise UsageError(f"splits: {', '.join(wrong)}: {task.name} has {', '.join(known)}")
    data = build_data(settings)
    problems, faults, absent = {}, [], []
    for split in splits:
        own = settings.data.train_limit if split == "train" else settings.data.test_limit
        limit = min((n for n in (own, settings.limit) if n is not None), default=None)
        try:
            problems[split] = data.problems(task, split, limit)
        except MissingSplit as error:
            absent.append(str(error) + (", or missing_split=skip" if settings.missing_split else ""))
        except UsageError as error:
            faults.append(str(error))
    if settings.missing_split != "skip" or not problems:
        faults += absent
    if faults:
        raise UsageError("\n".join(faults))
    return problems


def count(problems: Mapping[str, Sequence[Problem]]) -> int:
    """Problems of all splits."""
    return sum(map(len, problems.values()))


def build_pool(settings: Settings, directory: Path | None) -> ExternalPool:
    """The first M external models. Raises UsageError when one cannot be asked as configured.

    Args:
        settings: its section ``external``.
        directory: the run directory, for the ledger; None keeps that in memory.
    """
    external = settings.external
    models = external.models[: settings.M]
    if external.kind == "none" or not models:
        from ekipl.external.offline import NoPool

        return NoPool()
    if external.kind == "demonstrations":
        from ekipl.external.offline import Demonstrations

        return Demonstrations(models[0].name, with_reasoning=settings.prompt.strategy != "answer")
    if external.kind == "recorded":
        from ekipl.external.offline import RecordedPool
        from ekipl.run.records import read_actions

        assert external.path is not None  # a rule of the settings
        file = actions_file(external.path)
        recorded = ((record.task, record.split, record.action) for record in read_actions(file))
        samples = {model.name: model.samples for model in models}
        return RecordedPool(recorded, list(samples), samples, file)
    from ekipl.external.ledger import FILE
    from ekipl.external.pool import LiteLLMPool
    from ekipl.external.spec import ExternalModel

    experts = {f"simulated/{expert.name}": expert.model_dump(exclude={"name"}) for expert in external.experts}
    processes = settings.engine.processes if settings.command == "train" else 1
    asked = [
        ExternalModel(
            **{
                **model.model_dump(),
                "params": {**experts.get(str(model.model), {}), **model.params},
                **{key: rate and rate / processes for key, rate in _rates(model).items()},
            }
        )
        for model in models
    ]
    decoding = Decoding(external.temperature, external.top_p, 0, external.max_tokens)
    cache = None if external.cache is None else Path(external.cache).expanduser()
    return LiteLLMPool(
        asked,
        decoding,
        external.timeout_s,
        settings.seed,
        cache,
        directory and directory / FILE,
        external.budget_usd,
        external.on_exhausted,
        dry=settings.dry_run,
    )


def refuse_strangers(pool: ExternalPool, problems: Iterable[Problem]) -> None:
    """Raises UsageError for a recording of other problems only: training on it would be plain GRPO."""
    from ekipl.external.offline import RecordedPool

    if isinstance(pool, RecordedPool):
        pool.refuse_strangers(problems)


def _rates(model: ExternalModelSettings) -> dict[str, float | None]:
    return {key: getattr(model, key) for key in ("requests_per_minute", "tokens_per_minute")}


def prefetching(
    pool: ExternalPool, problems: Sequence[Problem], plan: Hyperparameters, first_step: int, settings: Settings
) -> ExternalPool:
    """The pool, asked ahead where its answers take time."""
    ahead = settings.external.prefetch
    if settings.external.kind != "litellm" or not pool.names or not ahead or first_step >= plan.I * plan.B:
        return pool
    from ekipl.external.prefetch import Prefetch

    return Prefetch(pool, problems, plan, first_step, ahead)


def external_sampling(settings: Settings) -> dict[str, Sampling]:
    """How each external model samples, by source, as actions files tell it."""

    def of(model: ExternalModelSettings) -> Sampling:
        keys = ("temperature", "top_p", "max_tokens")
        own = {key: value for key in keys if (value := getattr(model, key)) is not None}
        chosen = {**{key: getattr(settings.external, key) for key in keys}, **own}
        chosen |= {key: model.params[key] for key in keys if key in model.params}
        return {"model": model.model or model.name, **{k: v for k, v in chosen.items() if v is not None}}

    return {model.name: of(model) for model in settings.external.models[: settings.M]}


def decoding_of(section: RolloutSettings | DecodingSettings | EvaluationSettings | None) -> Decoding:
    """The decoding that a section of the settings describes."""
    assert section is not None  # a rule of the settings: the commands that sample have theirs
    return Decoding(section.temperature, section.top_p, section.top_k, section.max_tokens)


def policies(settings: Settings) -> list[str]:
    """The models that ``eval`` and ``passk`` sample from, each once: records stand in for ``model.path``."""
    own = [] if settings.records else [settings.model.path]
    return list(dict.fromkeys([*own, *(settings.models or ())]))


def labels(paths: Sequence[str]) -> dict[str, str]:
    """What tables and figures call the models: the run's name for RUN/model, else the path as given."""
    short = {path: Path(path).parent.name if Path(path).name == "model" else path for path in paths}
    return {path: name if list(short.values()).count(name) == 1 and name else path for path, name in short.items()}


def policy_sampling(path: str, decoding: Decoding) -> Sampling:
    """How the policy samples, as actions files tell it."""
    return {"model": path, **asdict(decoding)}


def load_policy(settings: Settings, path: str | None = None, *, weights: bool = True) -> VLM:
    """The model at ``path`` (None: ``model.path``) with the settings of ``model``. Raises UsageError."""
    from ekipl.policy.model import embed_patches_by_product, load_model

    model = settings.model
    vlm = load_model(
        path or model.path,
        dtype=model.dtype,
        attention=model.attention,
        min_pixels=model.min_pixels,
        max_pixels=model.max_pixels,
        trust_remote_code=model.trust_remote_code,
        weights=weights,
    )
    embed_patches_by_product(vlm.model)
    return vlm


def start_vllm(settings: Settings, vlm: VLM, processes: int = 1) -> Any:
    """vLLM with the weights at ``vlm.path``, in each of the processes. Raises UsageError."""
    from ekipl.policy import vllm

    model, rollout = settings.model, settings.rollout
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

    model, folder = settings.model, resolve_path(path or settings.model.path)
    if evaluated_only(folder, model.trust_remote_code):
        return GenerateSampler(
            folder,
            decoding,
            settings.rollout.batch_size,
            dtype=model.dtype,
            attention=model.attention,
            trust_remote_code=model.trust_remote_code,
        )
    if settings.rollout.kind == "vllm":
        from ekipl.policy.vllm import VLLMSampler

        vlm = load_policy(settings, path, weights=False)
        return VLLMSampler(vlm, start_vllm(settings, vlm), decoding)
    return HFSampler(load_policy(settings, path), decoding, settings.rollout.batch_size)


def build_logger(settings: Settings, directory: Path, last_step: int | None = None) -> Logger:
    """``metrics.jsonl``, and Weights & Biases where asked for.

    Args:
        settings: its section ``logger``.
        directory: the run directory.
        last_step: of the checkpoint that is gone on with; None begins anew: what an earlier start left is removed.
    """
    from ekipl.run.log import JsonlLogger, Loggers, WandbLogger

    loggers: list[Logger] = [JsonlLogger(directory / "metrics.jsonl", -1 if last_step is None else last_step)]
    if settings.logger.wandb:
        name = settings.logger.name or directory.name
        config: dict[str, Any] = settings.model_dump(mode="json")
        loggers.append(WandbLogger(directory, settings.logger.project, name, settings.logger.mode, config))
    return Loggers(loggers)


def meta(settings: Settings) -> dict[str, Any]:
    """What the results of a command depend on, and when they were made."""
    from ekipl.report.scores import versions

    parts = {"task", "prompt", "reward", "seed", "data", "model", "splits", "limit", "samples", "decoding", "passk"}
    inputs = {"models", "records", "predictions"}
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {**settings.model_dump(mode="json", include=parts | inputs), "versions": versions(), "date": date}
