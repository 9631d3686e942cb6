"""Rules between settings, which no single value can show. Each yields one line for each error that it finds."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from ekipl.algorithm.types import POLICY

SECRET = re.compile(r"(?i)(api_?key|access_key(_id)?|token|secret|password|credentials?|authorization)$")
HOTTEST_OF_VLLM = 2.0
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Values(dict[str, Any]):
    """A section without the values that have an error of their own. Keys may be dotted; a missing one is a KeyError."""

    def __missing__(self, key: str) -> Any:
        first, dot, rest = key.partition(".")
        if not dot:
            raise KeyError(key)
        return self[first][rest]


def without(refused: Set[str], value: Any, path: str = "") -> Any:
    """The values without those whose dotted keys are ``refused``, and without lists that hold one of them."""
    if isinstance(value, list):
        return [without(refused, item, f"{path}{number}.") for number, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    listed = {key: range(len(item)) if isinstance(item, list) else () for key, item in value.items()}
    errors = {key for key in value if refused & {f"{path}{key}", *(f"{path}{key}.{n}" for n in listed[key])}}
    return Values({key: without(refused, item, f"{path}{key}.") for key, item in value.items() if key not in errors})


Rule = Callable[[Values], Iterator[str]]


def shown(value: object) -> str:
    """A value as a message shows it."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value) or "''"
    text = text if text.isprintable() else repr(text)  # one line each
    return text if len(text) <= 80 else text[:77] + "..."


def _task(v: Values) -> Iterator[str]:
    if not v["task"].get("_target_"):
        yield "task._target_: missing; name the task's class, as in conf/task/counting.yaml"


def _data(v: Values) -> Iterator[str]:
    if v["data.kind"] != "reason_rft":
        return
    root = v["data.root"]
    if root is None and v["data.hub"] is None:
        yield "data.root: null: reason_rft needs a place; set data.root=FOLDER or data.hub=ORGANISATION/NAME"
    elif root is not None and not Path(root).expanduser().is_dir():
        yield f"data.root: {root}: no such folder; set the folder that holds the published files, or data.root=null"


def _train_rows(v: Values) -> Iterator[str]:
    if v["data.kind"] == "synthetic" and v["data.train_start"] >= (size := v["data.train_size"]):
        yield f"data.train_start: {v['data.train_start']}: leaves none of {size} problems; set it below data.train_size"


def _pixels(v: Values) -> Iterator[str]:
    if v["model.min_pixels"] > v["model.max_pixels"]:
        yield f"model.min_pixels: {v['model.min_pixels']}: above model.max_pixels={v['model.max_pixels']}; lower it"


def _policy(v: Values) -> Iterator[str]:
    yield from _model("model.path", v["model.path"])


def _compared_models(v: Values) -> Iterator[str]:
    for number, path in enumerate(v["models"]):
        yield from _model(f"models.{number}", path)


def _evaluated(v: Values) -> Iterator[str]:
    """Models, of which ``external`` means the external ones."""
    named = [("model.path", v["model.path"]), *((f"models.{n}", path) for n, path in enumerate(v["models"]))]
    for key, path in named:
        if path != "external":
            yield from _model(key, path)
    if any(path == "external" for _, path in named):
        yield from (line for rule in (*EXTERNAL, _some_external) for line in rule(v))


def _model(key: str, path: str) -> Iterator[str]:
    """Nothing when ``path`` is the built-in model, a model folder, or may be a name on the hub."""
    if path == "tiny":
        return
    folder = Path(path).expanduser()
    if (folder / "config.json").is_file():
        if not any(folder.glob("*.safetensors")):
            yield f"{key}: {path}: holds no weights in safetensors files; name a folder that does"
    elif (folder / "model" / "config.json").is_file():
        yield f"{key}: {path}: a run folder; its model is {folder / 'model'}"
    elif folder.exists():
        yield f"{key}: {path}: no model, for it holds no config.json; name a folder that does"
    elif not HUB_NAME.fullmatch(path) or path[0] in ".~":
        yield f"{key}: {path}: no such folder; name a model folder, ORGANISATION/NAME on the hub, or tiny"


def _external_count(v: Values) -> Iterator[str]:
    wanted = v["M"]
    if v["external.kind"] == "none":
        if wanted:
            yield f"M: {wanted}: external.kind is none; set M=0, or choose external models, such as external=simulated"
    elif wanted > len(names := [model["name"] for model in v["external.models"]]):
        yield (
            f"M: {wanted}: only {len(names)} external models are configured ({', '.join(names)}); "
            f"set M={len(names)} or less, or add to external.models"
        )


def _external_names(v: Values) -> Iterator[str]:
    for what in {"models", "experts"} & set(v["external"]):
        names = [entry["name"] for entry in v[f"external.{what}"]]
        for number, name in enumerate(names):
            if name in names[:number]:
                yield f"external.{what}.{number}.name: {name}: used twice; give each its own"
            elif what == "models" and name == POLICY:
                yield f"external.models.{number}.name: {name}: means the policy's own actions; choose another"


def _external_models(v: Values) -> Iterator[str]:
    if v["external.kind"] != "litellm":
        return
    experts = [expert["name"] for expert in v["external.experts"]]
    for number, model in enumerate(v["external.models"][: v["M"]]):
        key = f"external.models.{number}"
        provider, _, name = model["model"].partition("/")
        if provider == "simulated" and name not in experts:
            yield f"{key}.model: {model['model']}: no such expert; known are {', '.join(experts) or 'none'}"
        variable = model["api_key_env"]
        if variable is not None and not os.environ.get(variable) and not v.get("dry_run"):
            yield f"{key}.api_key_env: {variable}: not set in the environment; export it, or external=simulated"
        for secret in _secrets(model["params"]):
            yield f"{key}.params.{secret}: settings are written to disk; use {key}.api_key_env instead"


def _secrets(params: Values) -> Iterator[str]:
    """Keys, however deep, under which people write what nobody may read."""
    for name in map(str, params):
        value = params[name]
        if isinstance(value, Values):
            yield from (f"{name}.{inner}" for inner in _secrets(value))
        elif value and SECRET.search(name):
            yield name


def _recording(v: Values) -> Iterator[str]:
    if v["external.kind"] != "recorded" or v["M"] == 0:
        return
    path = v["external.path"]
    if path is None:
        yield "external.path: null: a replay needs its recording; set it to what ekipl external-sample wrote"
    elif not Path(path).expanduser().exists():
        yield f"external.path: {path}: no such file or folder; set it to what ekipl external-sample wrote"


def _some_external(v: Values) -> Iterator[str]:
    if v["M"] == 0:
        yield "M: 0: no external model to sample; set M=1 or more, with external models such as external=simulated"


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


def _vllm_temperature(v: Values) -> Iterator[str]:
    if v["rollout.kind"] == "vllm":
        for section in {"rollout", "evaluation", "decoding"} & set(v):
            if (temperature := v[section].get("temperature") or 0) > HOTTEST_OF_VLLM:
                yield f"{section}.temperature: {temperature}: vLLM samples at 0 to {HOTTEST_OF_VLLM}; or set rollout=hf"


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


def _one_origin(v: Values) -> Iterator[str]:
    if v["predictions"] is not None:
        for key in ("records", "models"):
            if v[key]:
                yield f"predictions: {v['predictions']}: {key} would not be read; leave out one of the two"


def _passk_samples(v: Values) -> Iterator[str]:
    samples = v["passk.samples"]
    if samples is None or v["records"]:
        return
    for k in v["passk.k"]:
        if k > samples:
            yield f"passk.k: {k}: pass@k is undefined with {samples} samples; set passk.samples={k} or leave out {k}"


COMMON: tuple[Rule, ...] = (_task, _data, _pixels, _vllm_temperature)
EXTERNAL: tuple[Rule, ...] = (_external_count, _external_names, _external_models, _recording)
LEARNING: tuple[Rule, ...] = (_somebody, _train_rows, _length, _selection, _clip, _temperature)
ENGINE: tuple[Rule, ...] = (_processes, _accumulation, _offload, _lora)
RULES: dict[str, tuple[Rule, ...]] = {
    "train": (*COMMON, _policy, *EXTERNAL, *LEARNING, *ENGINE),
    "rollout": (*COMMON, _policy),
    "external_sample": (*COMMON, *EXTERNAL, _some_external),
    "eval": (*COMMON, _evaluated, _one_origin),
    "passk": (*COMMON, _policy, _compared_models, _passk_samples),
}


def broken_rules(values: Values, command: str) -> list[str]:
    """One line for each rule of ``command`` that these values break."""
    lines: list[str] = []
    for rule in RULES[command]:
        with suppress(KeyError):  # a value is missing or has an error of its own
            lines += rule(values)
    return lines
