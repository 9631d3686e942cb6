"""Names of models, how they sample, what they cost, and the provenance of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ekipl.algorithm.seams import Decoding, ExternalPool
from ekipl.algorithm.types import Problem
from ekipl.config import Settings, as_dict
from ekipl.external.ledger import read_spending
from ekipl.external.pool import LiteLLMPool
from ekipl.external.settings import ExternalModel, LiteLLM, Nobody, OwnPool
from ekipl.masking import masked_values
from ekipl.report.scores import versions
from ekipl.report.spending import spending_table
from ekipl.report.tables import Table
from ekipl.run.code import asks_judge, digests
from ekipl.run.records import Sampling


def count(problems: Mapping[str, Sequence[Problem]]) -> int:
    """Problems of all splits."""
    return sum(map(len, problems.values()))


def external_sampling(settings: Settings) -> dict[str, Sampling]:
    """How each external model samples, by source, for the actions files."""
    external = settings.external
    if not isinstance(external, LiteLLM):
        models = () if isinstance(external, Nobody | OwnPool) else external.models
        return {model.name: {"model": model.name} for model in models[: settings.M]}

    def of(model: ExternalModel) -> Sampling:
        chosen: dict[str, Any] = {}
        for key in ("temperature", "top_p", "max_tokens"):
            own = getattr(model, key)
            chosen[key] = model.params.get(key, getattr(external, key) if own is None else own)
        return {"model": model.model, **{k: v for k, v in chosen.items() if v is not None}}

    return {model.name: of(model) for model in external.models[: settings.M]}


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
    return {"model": path, **{field.name: getattr(decoding, field.name) for field in fields(Decoding)}}


def meta(settings: Settings) -> dict[str, Any]:
    """What the results of a command depend on, and when they were made."""
    parts = {"task", "prompt", "reward", "reward_weights", "seed", "data", "model", "splits", "limit", "samples"}
    parts |= {"decoding", "passk", *(["judge"] if asks_judge(settings) else [])}
    inputs = {"models", "records", "predictions"}
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    told = {key: value for key, value in as_dict(settings).items() if key in parts | inputs}
    own = digests(settings)
    return {**masked_values(told), **({"code": own} if own else {}), "versions": versions(), "date": date}


def spending(directory: Path) -> Table | None:
    """The table of a run directory's ledger; None where no external model was called. Raises UsageError."""
    sums = read_spending(directory)
    return spending_table(*sums) if sums.models else None


def spent_so_far(pool: ExternalPool) -> str:
    """Requests and US dollars so far, for the progress shown; empty for a pool that has not called a model."""
    if not isinstance(pool, LiteLLMPool):
        return ""
    requests, usd = pool.spent()
    return f"{requests} requests, {usd:.4f} USD" if requests else ""


def course(metrics: Mapping[str, float], pool: ExternalPool) -> str:
    """A training so far, for the progress shown: its newest metrics in words, and what it has spent."""
    shown = {
        "own accuracy": ("reward/accuracy/policy", "{:.0%}"),
        "reward kept": ("reward/kept", "{:.2f}"),
        "groups without gradient": ("group/frac_zero_variance", "{:.0%}"),
        "ID": ("eval/id/accuracy", "{:.0%}"),
    }
    words = [f"{name} {form.format(metrics[key])}" for name, (key, form) in shown.items() if key in metrics]
    return ", ".join(filter(None, [*words, spent_so_far(pool)]))
