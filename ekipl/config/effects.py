"""Settings on the command line that have no effect: whoever sets one expects another run than the one that comes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ekipl.config.values import Values
from ekipl.reward.graders import JUDGE

TRAINING = ("train",)
SAMPLED_AS_DECODING = ("eval", "passk")


def without_effect(v: Values, command: str, overrides: Sequence[str]) -> list[str]:
    """One line for each of the ``overrides`` (key=value) that changes nothing under these settings."""
    keys = [word.lstrip("+").partition("=") for word in overrides if not word.startswith("~")]
    lines = []
    for pattern, reason in _idle(v, command):
        lines += [f"{key}: {value}: {reason}" for key, _, value in keys if re.fullmatch(pattern, key)]
    return lines


def _idle(v: Values, command: str) -> Iterator[tuple[str, str]]:
    """Patterns of the keys that are not read, and what makes them so."""
    if command == "train":
        yield from _of_training(v)
    else:
        for name in ("splits", "limit", "samples"):
            if name in v:
                yield rf"evaluation\.{name}", f"train reads it, and {command} reads {name}; set {name} instead"
        yield r"evaluation\.(?!(splits|limit|samples)$).+", "only train evaluates as it goes; leave it out"
    if JUDGE not in (*_list(v["reward"]), *(v.get("also_grade_with") or [])):
        yield r"judge(\..+)?", "only reward=judge reads it; set that, or leave it out"
    if command in ("train", "external_sample") and v["external"].get("budget_usd", 0) is None:
        yield r"external\.on_exhausted", "external.budget_usd=null never runs out; set a budget, or leave it out"
    if command in SAMPLED_AS_DECODING:
        origin = _read_from(v)
        if origin:
            yield r"(decoding|rollout)(\..+)?|model\.path", f"{origin} is read, and nothing is sampled; leave it out"
        else:
            for name in ("temperature", "top_p", "top_k", "max_tokens"):
                yield rf"rollout\.{name}", f"{command} samples as decoding.* says; set decoding.{name} instead"
            yield r"rollout\.importance_cap", f"{command} does not learn; leave it out"
    if command == "ask":
        yield from _of_question(v)
    if command == "eval" and v["predictions"] is not None:
        reason = "the rows of predictions are graded as they are; leave it out"
        yield r"(splits|limit|samples|missing_split|also_grade_with|data(\..+)?)", reason


def _list(reward: str | list[str]) -> list[str]:
    return reward if isinstance(reward, list) else [reward]


def _of_question(v: Values) -> Iterator[tuple[str, str]]:
    yield r"data(\..+)?|reward", "ask reads no data and grades nothing; leave it out"
    if v["model.path"] == "external":
        yield (
            r"(decoding|rollout)(\..+)?",
            "external models sample as external.* says; set that instead",
        )
        return
    for name in ("temperature", "top_p", "top_k", "max_tokens"):
        yield rf"rollout\.{name}", f"ask samples as decoding.* says; set decoding.{name} instead"
    yield r"external(\..+)?|M", "the policy at model.path is asked; set model.path=external, or leave it out"


def _read_from(v: Values) -> str | None:
    """The setting whose completions stand in for sampling; None where models are sampled."""
    if v.get("predictions") is not None:
        return "predictions"
    return "records" if v["records"] and not v["models"] else None


def _of_training(v: Values) -> Iterator[tuple[str, str]]:
    rule, weight = v["selection.rule"], v["objective.external_weight"]
    if not v["dry_run"]:
        yield "gpu_gib", "only --dry-run reads it; add --dry-run, or leave it out"
    if v["model.lora.rank"] == 0:
        yield r"model\.lora\.(alpha|targets)", "model.lora.rank=0 trains without adapters; set a rank, or leave it out"
    for key, *names in (("contrast", "contrast"), ("switch", "hpt", "needed"), ("rescue|rank", "rescue")):
        if rule not in names and ":" not in rule:
            readers = " and ".join(f"selection={name}" for name in names)
            yield rf"selection\.({key})", f"only {readers} read{'s' * (len(names) == 1)} it, and the rule is {rule}"
    for key, name in (("shaped_gamma", "shaped"), ("trust_alpha", "trust_region")):
        if weight != name:
            yield rf"objective\.{key}", f"only objective.external_weight={name} reads it, and it is {weight}"
    if v["beta"] == 0:
        yield r"objective\.kl_on", "beta=0 has no KL term; set beta above 0, or leave it out"
    if v["evaluation.every"] == 0:
        yield r"evaluation\.(?!every).+", "evaluation.every=0 evaluates nothing; set it to 1 or more, or leave this out"
    if v["checkpoint.every"] == 0:
        yield r"checkpoint\.keep", "checkpoint.every=0 keeps nothing; set it to 1 or more, or leave this out"
    if not v["logger.wandb"]:
        yield r"logger\.(project|mode|name)", "Weights & Biases is not used; set logger=wandb, or leave it out"
