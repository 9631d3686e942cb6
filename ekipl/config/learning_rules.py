"""Rules of training: who is learned from, for how long, whether anything can be learned, on which processes."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from ekipl.config.values import Rule, Values


def _somebody(v: Values) -> Iterator[str]:
    if v["policy_samples"] == 0 and v["M"] == 0:
        yield "policy_samples: 0: with M=0 nobody is left to learn from; set M=1 or more, or policy_samples=null"


def _length(v: Values) -> Iterator[str]:
    steps, epochs = v["B"], v["epochs"]
    if steps is None and epochs is None:
        yield "B: null: nothing says how long to train; set B (steps an iteration) or epochs"
    elif steps is not None and epochs is not None:
        yield f"B: {steps}: epochs={epochs:g} sets the length too; set one of the two to null"


def _selection(v: Values) -> Iterator[str]:
    if v["selection.rule"] == "contrast" and v["selection.contrast"] >= v["G"]:
        yield f"selection.contrast: {v['selection.contrast']}: must be below G={v['G']}, or none of the best are kept"
    if v["selection.rule"] == "rescue" and v["selection.rescue"] >= v["G"]:
        yield f"selection.rescue: {v['selection.rescue']}: must be below G={v['G']}, or no own action is kept"
    if v["selection.rule"] in ("external_only", "external_right") and v["M"] == 0:
        rule = v["selection.rule"]
        yield f"selection.rule: {rule}: M=0 offers no external action; set M=1 or more, or selection=top_g"


def _clip(v: Values) -> Iterator[str]:
    if v["eps"] is None and (high := v["objective.eps_high"]) is not None:
        yield f"objective.eps_high: {high}: eps=null clips nothing; set eps, or objective.eps_high=null"


def _temperature(v: Values) -> Iterator[str]:
    if v["rollout.temperature"] == 0:
        yield "rollout.temperature: 0: training divides by it, and greedy actions are all alike; set it above 0"


def _ranks(v: Values) -> int:
    processes: int = v["engine.num_nodes"] * v["engine.num_processes"]
    return processes


def _processes(v: Values) -> Iterator[str]:
    problems, ranks = v["problems_per_step"], _ranks(v)
    if problems < ranks:
        yield (
            f"engine.num_processes: {ranks}: more processes than problems_per_step={problems}; "
            f"set problems_per_step={ranks} or more, or fewer processes"
        )


def _accumulation(v: Values) -> Iterator[str]:
    wanted, share = v["engine.accumulation"], -(-v["problems_per_step"] // _ranks(v))
    if wanted > share:
        yield (
            f"engine.accumulation: {wanted}: a process has only {share} of problems_per_step={v['problems_per_step']}; "
            f"set it to {share} or less, or more problems"
        )


def _offload(v: Values) -> Iterator[str]:
    stage = v["engine.zero_stage"]
    if v["engine.offload_optimizer"] and stage == 0:
        yield "engine.offload_optimizer: true: ZeRO-0 cannot; choose engine=zero2 or engine=zero3"
    if v["engine.offload_parameters"] and stage != 3:
        yield f"engine.offload_parameters: true: ZeRO-{stage} cannot; choose engine=zero3"


def _lora(v: Values) -> Iterator[str]:
    if v["model.lora.rank"] and v["I"] > 1 and v["beta"] > 0:
        yield (
            f"model.lora.rank: {v['model.lora.rank']}: with adapters the reference is the model without them, which "
            f"I={v['I']} iterations would have to refresh; set I=1, or beta=0"
        )


def _something_learned(v: Values) -> Iterator[str]:
    """An action alone in its group is compared with itself: its advantage is 0."""
    if v["objective.baseline"] not in ("selected", "policy"):
        return
    own = v["N"] if v["policy_samples"] is None else v["policy_samples"]
    way_out = "or objective.baseline=none, with which every action is learned"
    if v["G"] == 1:
        yield f"G: 1: an action alone in its group has the advantage 0: nothing is learned; set G=2 or more, {way_out}"
    elif own == 1 and v["M"] == 0:
        key = "N" if v["policy_samples"] is None else "policy_samples"
        yield (
            f"{key}: 1: with M=0 every group has one action, whose advantage is 0: nothing is learned; set {key}=2 "
            f"or more, M=1 or more, {way_out}"
        )


def _rate(v: Values) -> Iterator[str]:
    if v["engine.learning_rate"] == 0:
        yield "engine.learning_rate: 0: no weight would change; set it above 0 (ekipl eval measures without learning)"


def _login(v: Values) -> Iterator[str]:
    """Weights & Biases asks for a login only when the run begins, after the model is loaded."""
    if not v["logger.wandb"] or v["logger.mode"] != "online" or v.get("dry_run"):
        return
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    file = os.environ.get("NETRC") or next(
        (str(found) for name in (".netrc", "_netrc") if (found := Path.home() / name).exists()), None
    )
    with suppress(OSError, netrc.NetrcParseError):
        if file and (login := netrc.netrc(os.path.expanduser(file)).authenticators(host)) and login[2]:
            return
    yield (
        f"logger.mode: online: no login to {host} (neither WANDB_API_KEY nor a line in .netrc); run wandb login, or "
        "set logger.mode=offline"
    )


def _watched(v: Values) -> Iterator[str]:
    """What looks at the periodic evaluation needs one."""
    best, splits = v["checkpoint.best"], v["evaluation.splits"]
    for key, value in (("checkpoint.best", best), ("stop.at", v["stop.at"]), ("stop.patience", v["stop.patience"])):
        if value is not None and v["evaluation.every"] == 0:
            yield f"{key}: {value}: evaluation.every=0 evaluates nothing; set it to 1 or more, or {key}=null"
    if best is not None and v["checkpoint.every"] == 0:
        yield f"checkpoint.best: {best}: checkpoint.every=0 keeps none; set it to 1 or more, or checkpoint.best=null"
    if best is not None and splits is not None and best not in splits:
        yield f"checkpoint.best: {best}: not among evaluation.splits={', '.join(splits)}; name one of them"


LEARNING: tuple[Rule, ...] = (
    *(_somebody, _length, _selection, _clip, _temperature),
    *(_something_learned, _rate, _login, _watched),
)
ENGINE: tuple[Rule, ...] = (_processes, _accumulation, _offload, _lora)
