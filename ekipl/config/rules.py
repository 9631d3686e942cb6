"""Rules between settings, which no single value can show. Each yields one line for each error that it finds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from ekipl.algorithm.types import POLICY
from ekipl.config.learning_rules import ENGINE, LEARNING
from ekipl.config.model_rules import compared_models, model_path, policy
from ekipl.config.values import Rule, Values
from ekipl.data.table.source import is_hub_name
from ekipl.external.simulated import PREFIX
from ekipl.reward.graders import JUDGE

SECRET = re.compile(r"(?i)(api_?key|access_key(_id)?|token|secret|password|credentials?|authorization)$")
HOTTEST_OF_VLLM = 2.0


def _task(v: Values) -> Iterator[str]:
    if not v["task"].get("_target_"):
        yield "task._target_: missing; name the task's class, as in conf/task/counting.yaml"


def _data(v: Values) -> Iterator[str]:
    if v["data.kind"] == "table":
        yield from _table(v)
    if v["data.kind"] != "reason_rft":
        return
    root = v["data.root"]
    if root is None and v["data.hub"] is None:
        yield "data.root: null: reason_rft needs a place; set data.root=FOLDER or data.hub=ORGANISATION/NAME"
    elif root is not None and not Path(root).expanduser().is_dir():
        yield f"data.root: {root}: no such folder; set the folder that holds the published files, or data.root=null"


def _table(v: Values) -> Iterator[str]:
    path, root = v["data.path"], v["data.root"]
    if path is None:
        yield "data.path: null: a table needs a file; set data.path=FILE, or {train: FILE, id: FILE}"
    named = {f"data.path.{split}": name for split, name in path.items()} if isinstance(path, dict) else {}
    for key, name in ({"data.path": path} | named).items():
        if isinstance(name, str) and not Path(name).expanduser().exists() and not is_hub_name(name):
            yield f"{key}: {name}: no such file or folder; set the file that holds your rows"
    if root is not None and not Path(root).expanduser().exists():
        yield f"data.root: {root}: no such folder or zip file; set what the names of images start from, or null"


def _train_rows(v: Values) -> Iterator[str]:
    if v["data.kind"] == "synthetic" and v["data.train_start"] >= (size := v["data.train_size"]):
        yield f"data.train_start: {v['data.train_start']}: leaves none of {size} problems; set it below data.train_size"


def _pixels(v: Values) -> Iterator[str]:
    if v["model.min_pixels"] > v["model.max_pixels"]:
        yield f"model.min_pixels: {v['model.min_pixels']}: above model.max_pixels={v['model.max_pixels']}; lower it"


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


def _rewards(v: Values) -> Iterator[str]:
    reward, weights = v["reward"], v["reward_weights"]
    rewards = reward if isinstance(reward, list) else [reward]
    if twice := [one for place, one in enumerate(rewards) if one in rewards[:place]]:
        yield f"reward: {twice[0]}: named twice; give it once, with a weight in reward_weights"
    if weights is not None and len(weights) != len(rewards):
        yield f"reward_weights: {weights}: {len(weights)} weights for {len(rewards)} rewards; give one for each"
    elif weights is not None and not any(weights):
        yield f"reward_weights: {weights}: all rewards count 0, and nothing would be learned; give one another weight"


def _judge(v: Values) -> Iterator[str]:
    reward, judge = v["reward"], v["judge"]
    also = v.get("also_grade_with") or []
    if JUDGE not in (*(reward if isinstance(reward, list) else [reward]), *also):
        return
    if judge["model"].startswith(PREFIX):
        yield f"judge.model: {judge['model']}: a simulated expert knows the answers and judges nothing; name a model"
    variable, template = judge["api_key_env"], judge["template"]
    if variable is not None and not os.environ.get(variable) and not v.get("dry_run"):
        yield f"judge.api_key_env: {variable}: not set in the environment; export it, or judge=openai_server"
    if template is not None and not Path(template).expanduser().is_file():
        yield f"judge.template: {template}: no such file; give a text file with {{completion}} in it"
    if judge["cache"] is not None and judge["cache"] == v["external"].get("cache", ""):
        yield f"judge.cache: {judge['cache']}: external.cache is the same file; give the judge one of its own"
    for secret in _secrets(judge["params"]):
        yield f"judge.params.{secret}: settings are written to disk; use judge.api_key_env instead"


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


def _vllm_temperature(v: Values) -> Iterator[str]:
    if v["rollout.kind"] == "vllm":
        for section in {"rollout", "evaluation", "decoding"} & set(v):
            if (temperature := v[section].get("temperature") or 0) > HOTTEST_OF_VLLM:
                yield f"{section}.temperature: {temperature}: vLLM samples at 0 to {HOTTEST_OF_VLLM}; or set rollout=hf"


def _one_origin(v: Values) -> Iterator[str]:
    if v["predictions"] is not None:
        for key in ("records", "models"):
            if v[key]:
                yield f"predictions: {v['predictions']}: {key} would not be read; leave out one of the two"


def _inspect(v: Values) -> Iterator[str]:
    if not v["inspect"]:
        return
    if v.get("predictions") is not None:
        yield "inspect: true: a file of predictions has no problems to show; leave out one of the two"
    if find_spec("inspect_ai") is None:
        yield "inspect: true: inspect_ai is not installed; pip install 'ekipl[inspect]', or inspect=false"


def _passk_samples(v: Values) -> Iterator[str]:
    samples = v["passk.samples"]
    if samples is None or v["records"]:
        return
    for k in v["passk.k"]:
        if k > samples:
            yield f"passk.k: {k}: pass@k is undefined with {samples} samples; set passk.samples={k} or leave out {k}"


def _evaluated(v: Values) -> Iterator[str]:
    """Models, of which ``external`` means the external ones."""
    named = [("model.path", v["model.path"]), *((f"models.{n}", path) for n, path in enumerate(v["models"]))]
    for key, path in named:
        if path != "external":
            yield from model_path(key, path)
    if any(path == "external" for _, path in named):
        yield from (line for rule in (*EXTERNAL, _some_external) for line in rule(v))


def _asked(v: Values) -> Iterator[str]:
    """The model of ``ask``: a policy, or external models that can answer what no data holds."""
    if v["model.path"] != "external":
        yield from model_path("model.path", v["model.path"])
        return
    kind, models = v["external.kind"], v["external"].get("models", [])
    simulated = kind == "litellm" and any(model["model"].startswith(PREFIX) for model in models[: v["M"]])
    if simulated or kind in ("recorded", "demonstrations"):
        name = "simulated" if simulated else kind
        yield f"external.kind: {name}: answers problems of the data only; choose model=gpt4o, or external=openai_server"
    yield from (line for rule in (*EXTERNAL, _some_external) for line in rule(v))


COMMON: tuple[Rule, ...] = (_task, _data, _pixels, _vllm_temperature, _rewards, _judge)
EXTERNAL: tuple[Rule, ...] = (_external_count, _external_names, _external_models, _recording)
RULES: dict[str, tuple[Rule, ...]] = {
    "train": (*COMMON, policy, *EXTERNAL, _train_rows, *LEARNING, *ENGINE),
    "rollout": (*COMMON, policy),
    "show": (*COMMON, policy),
    "external_sample": (*COMMON, *EXTERNAL, _some_external),
    "eval": (*COMMON, _evaluated, _one_origin, _inspect),
    "ask": (_task, _pixels, _vllm_temperature, _asked),
    "passk": (*COMMON, policy, compared_models, _passk_samples, _inspect),
}


def broken_rules(values: Values, command: str) -> list[str]:
    """One line for each rule of ``command`` that these values break."""
    lines: list[str] = []
    for rule in RULES[command]:
        with suppress(KeyError):  # a value is missing or has an error of its own
            lines += rule(values)
    return lines
