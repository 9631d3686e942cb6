"""The config tree: every option composes and is accepted, precedence is as documented, refusals say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from ekipl.algorithm.objective import Objective
from ekipl.algorithm.selection import Selection
from ekipl.cli import conf_dir, paper_cells, spelled_out
from ekipl.config import Command, Settings, check, first_stage
from ekipl.config.checking import keys
from ekipl.errors import UsageError
from ekipl.external.settings import Each
from ekipl.run.build import build_task, with_length
from tools.docs import attributes, page

COMMANDS = get_args(Command)
GROUPS = {
    folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
    for folder in sorted(conf_dir().iterdir())
    if folder.is_dir()
}
CASES = [
    (command, group, option)
    for command in COMMANDS
    for group, options in GROUPS.items()
    for option in options
    if (group != "decoding" or command in ("eval", "passk", "ask")) and option != "custom"
]
APIS = ("gpt4o", "gemini")  # models that are asked, not loaded
DOCUMENT = Path(__file__).parents[1] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("OPENAI", "GEMINI", "OPENROUTER", "AZURE"):
        monkeypatch.setenv(f"{provider}_API_KEY", "x")


def composed(command: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose(command, overrides=spelled_out(command.replace("_", "-"), list(overrides)))


def refusal(command: Command, *overrides: str) -> list[str]:
    with pytest.raises(UsageError) as refused:
        check(composed(command, *overrides), command)
    return str(refused.value).splitlines()


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; an empty section or list, and a list of plain values, is a leaf."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        is_inner = (isinstance(value, dict) and value) or (
            isinstance(value, list) and isinstance((value or [0])[0], dict)
        )
        if is_inner:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_are_accepted(command: Command) -> None:
    result = check(composed(command), command)
    assert (result.N, result.M, result.G, result.model.path) == (8, 2, 16, "tiny")
    assert [model.name for model in result.external.models] == ["expert_a", "expert_b"]
    assert result.rollout.max_tokens == result.external.max_tokens == 96  # by interpolation


@pytest.mark.parametrize(("command", "group", "option"), CASES)
def test_every_option_is_accepted_by_every_command(
    command: Command, group: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [f"{group}={option}"]
    monkeypatch.setenv("WANDB_API_KEY", "0123456789")  # a login
    if option == "recorded":
        overrides.append(f"external.path={tmp_path}")
    if option == "table":
        overrides.append(f"data.path={tmp_path}")
    if option in APIS and command not in ("eval", "external_sample", "ask"):
        assert refusal(command, *overrides)[0].startswith("model.path: external")
    elif command == "external_sample" and composed(command, *overrides).M == 0:
        assert "M: 0: no external model to sample" in refusal(command, *overrides)[0]
    else:
        check(composed(command, *overrides), command)


def test_a_real_model_alone_brings_the_published_setting() -> None:
    result = check(composed("train", "model=qwen2vl_7b"), "train")
    assert result.model.path == "Qwen/Qwen2-VL-7B-Instruct"
    assert (result.model.dtype, result.model.min_pixels, result.model.max_pixels) == ("bfloat16", 3136, 480000)
    assert (result.data.kind, result.engine.zero_stage, result.problems_per_step, result.beta) == (
        "reason_rft",
        3,
        14,
        0.04,
    )
    assert [model.name for model in result.external.models] == ["gpt4o", "gemini"]
    rollout = result.rollout
    assert (rollout.temperature, rollout.top_p, rollout.top_k, rollout.max_tokens) == (0.9, 0.9, 50, 512)
    assert (result.engine.learning_rate, result.engine.schedule) == (1e-6, "linear")


@pytest.mark.parametrize("option", [option for option in GROUPS["model"] if option not in ("tiny", *APIS)])
def test_every_real_model_brings_the_same_but_its_name(option: str) -> None:
    mine, other = composed("train", f"model={option}"), composed("train", "model=qwen2vl_7b")
    assert mine.model.name == option
    mine.model.name, mine.model.path = other.model.name, other.model.path
    assert mine == other


def test_a_model_is_a_model_and_the_recipe_has_the_rest() -> None:
    result = check(composed("train", "model=qwen2vl_7b", "recipe=tiny"), "train")
    assert (result.model.name, result.model.dtype, result.recipe.name) == ("qwen2vl_7b", "bfloat16", "tiny")
    assert (result.data.kind, result.engine, result.B) == ("synthetic", check(composed("train"), "train").engine, 20)
    paper = check(composed("train", "recipe=paper"), "train")
    assert (paper.model.name, paper.data.kind, paper.engine.zero_stage) == ("tiny", "reason_rft", 3)


@pytest.mark.parametrize(
    ("overrides", "steps", "epochs"),
    [("", 20, None), ("B=7", 7, None), ("epochs=2", None, 2), ("recipe=paper", None, 1), ("recipe=paper B=7", 7, None)],
)
def test_the_length_is_steps_or_epochs_and_the_command_line_decides(
    overrides: str, steps: int | None, epochs: float | None
) -> None:
    result = check(composed("train", *overrides.split()), "train")
    assert (result.B, result.epochs) == (steps, epochs)
    # 2,000 problems, 12 a step: 166.7 steps an epoch
    assert (steps or {1: 143, 2: 334}[int(epochs or 0)]) == with_length(result, 2000).B
    assert refusal("train", "B=7", "epochs=1") == ["B: 7: epochs=1 sets the length too; set one of the two to null"]
    assert refusal("train", "B=null", "epochs=null") == [
        "B: null: nothing says how long to train; set B (steps an iteration) or epochs"
    ]


def test_the_command_line_beats_the_model() -> None:
    overrides = (
        "engine=zero0 data=synthetic external=none rollout.max_tokens=7 problems_per_step=28 model.dtype=float32"
    )
    result = check(composed("train", "model=qwen2vl_7b", *overrides.split()), "train")
    assert (result.engine.zero_stage, result.data.kind, result.external.kind, result.M) == (0, "synthetic", "none", 0)
    assert (result.rollout.max_tokens, result.problems_per_step, result.model.dtype) == (7, 28, "float32")
    assert result.engine.learning_rate == 1e-6  # what was not named stays the model's


@pytest.mark.parametrize("command", COMMANDS)
def test_an_experiment_beats_the_model_and_yields_to_the_command_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults: [{override /model: qwen2vl_2b}, {override /data: synthetic}]\n"
        "N: 3\n"
        "rollout: {max_tokens: 33, temperature: 0.5}\n"
    )
    cfg = composed(command, f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine", "rollout.temperature=0.6")
    assert (cfg.model.name, cfg.data.kind, cfg.engine.zero_stage) == ("qwen2vl_2b", "synthetic", 3)
    assert (cfg.N, cfg.rollout.max_tokens, cfg.rollout.temperature) == (3, 33, 0.6)


def test_the_slurm_example_starts_as_many_processes_as_there_are_gpus(tmp_path: Path) -> None:
    """Without its launcher, a plugin that need not be installed."""
    example = OmegaConf.load(DOCUMENT.parent / "examples" / "slurm" / "experiment" / "two_nodes.yaml")
    assert isinstance(example, DictConfig)
    launcher = example.pop("hydra").launcher
    example.defaults = [entry for entry in example.defaults if "override /hydra/launcher" not in entry]
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\n" + OmegaConf.to_yaml(example)
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    result = check(composed("train", f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"), "train")
    assert result.engine.num_nodes == launcher.nodes
    assert result.engine.num_processes == launcher.gpus_per_node
    assert launcher.tasks_per_node == 1
    assert result.problems_per_step % result.engine.world_size == 0


def test_a_users_own_task_may_have_keys_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "chess.yaml").write_text("_target_: my_package.Chess\nboard: 8\n")
    cfg = composed("train", f"hydra.searchpath=[file://{tmp_path}]", "task=chess", "task.board=9")
    assert check(cfg, "train").task == {"_target_": "my_package.Chess", "board": 9}
    assert refusal("train", "~task._target_") == [
        "task._target_: missing; name the task's class, as in conf/task/counting.yaml"
    ]


@pytest.mark.parametrize(
    ("overrides", "n", "m", "g"),
    [
        ("external=none", 8, 0, 16),
        ("external=openai_server", 8, 1, 16),
        ("external=none M=0 G=4", 8, 0, 4),
        ("method=reason_rft_zero", 8, 0, 8),
        ("method=reason_rft_zero N=6", 6, 0, 6),
        ("method=reason_rft_zero G=4", 8, 0, 4),
        ("method=reason_rft_zero external=simulated", 8, 0, 8),
        ("method=reason_rft_zero external=simulated M=1", 8, 1, 8),
        ("method=compute_matched", 24, 0, 24),
        ("method=compute_matched model=qwen2vl_7b", 24, 0, 24),
    ],
)
def test_methods_and_external_options_bring_their_sizes(overrides: str, n: int, m: int, g: int) -> None:
    result = check(composed("train", *overrides.split()), "train")
    assert (n, m, g) == (result.N, result.M, result.G)


@pytest.mark.parametrize("cell", paper_cells(), ids="-".join)
def test_every_cell_of_the_paper_composes(cell: tuple[str, ...]) -> None:
    task, model, method = (word.partition("=")[2] for word in cell)
    if method == "zero_shot":
        result = check(composed("eval", *cell), "eval")
        assert result.prompt.strategy == "zero_shot"
        assert (result.recipe.name, result.data.kind) == ("paper", "reason_rft")
        return
    cfg = composed("train", *cell)
    result = check(cfg, "train")
    assert check(composed("eval", *cell), "eval").prompt == result.prompt
    assert result.task["_target_"].rpartition(".")[2] == task.capitalize()
    assert result.model.path == f"Qwen/Qwen2-VL-{model[-2:].upper()}-Instruct"
    assert (result.data.kind, result.I, result.mu, result.method.name) == ("reason_rft", 1, 1, method)
    supervised = method in ("ans_sft", "cot_sft")
    assert (result.engine.learning_rate, result.problems_per_step) == ((1e-5, 16) if supervised else (1e-6, 14))
    assert result.model.freeze_vision == supervised
    assert result.epochs == (5 if task == "structure" and not supervised else 1)
    assert result.reward == ("reason_rft_reward" if method.startswith("reason_rft") else "strict")
    if method.endswith("ekipl"):  # the paper does not say
        assert (result.N, result.G) == (8, 16)
    staged = method in ("reason_rft", "sft_ekipl")
    assert result.data.train_start == (1600 if staged and task != "structure" else 0)
    assert {"ekipl": 2, "sft_ekipl": 2, "ans_sft": 1, "cot_sft": 1}.get(method, 0) == result.M
    # published rows and steps: docs/reproducing.md
    rows = {"counting": 35_000, "structure": 4_500, "spatial": 60_000}[task] - result.data.train_start
    column = 0 if supervised else 2 if staged else 1
    steps = {"counting": (2188, 2500, 2386), "structure": (282, 1608, 1608), "spatial": (3750, 4286, 4172)}[task]
    assert steps[column] == with_length(result, rows).B
    stage = first_stage(cfg)
    assert (stage is not None) == staged
    if stage is not None:
        first = check(stage, "train")
        assert (first.engine.learning_rate, first.model.freeze_vision, first.model.max_pixels) == (1e-5, True, 262144)
        assert (with_length(first, 1600).B, first.engine.num_processes) == (100, 8)


def test_the_cells_of_the_papers_tables_are_listed() -> None:
    assert len({*paper_cells()}) == 3 * 2 * 7


@pytest.mark.parametrize("method", ["ans_sft", "cot_sft"])
def test_supervised_methods_learn_from_the_data_alone(method: str) -> None:
    result = check(composed("train", f"method={method}", "model=qwen2vl_7b"), "train")
    assert (result.policy_samples, result.M, result.G, result.beta) == (0, 1, 1, 0)
    assert (result.external.kind, result.objective.baseline) == ("demonstrations", "none")
    assert (result.objective.external_weight, result.objective.aggregation) == ("unit", "token_mean")
    assert result.rollout.temperature == 1.0  # the likelihood is that of the model itself
    assert result.prompt.strategy == method.partition("_")[0].replace("ans", "answer")


@pytest.mark.parametrize("method", ["reason_rft", "sft_ekipl"])
def test_methods_of_two_stages(method: str) -> None:
    cfg = composed("train", f"method={method}", "model=qwen2vl_2b", "seed=7")
    stage = first_stage(cfg)
    assert stage is not None
    first, second = check(stage, "train"), check(cfg, "train")
    assert (first.method.name, first.data.train_start, first.data.train_limit) == ("cot_sft", 0, 1600)
    assert (first.external.kind, first.policy_samples, first.rollout.temperature) == ("demonstrations", 0, 1.0)
    assert (second.data.train_start, second.policy_samples, second.rollout.temperature) == (1600, None, 0.9)
    assert first.seed == second.seed == 7
    assert first.first_stage is None
    rows = {
        task: composed("train", f"method={method}", f"task={task}").data.train_start
        for task in GROUPS["task"]
        if task != "custom"
    }
    assert rows == {"counting": 1600, "spatial": 1600, "structure": 0, "vqa": 1600}
    assert composed("train", f"method={method}", "task=structure", "data.train_start=7").data.train_start == 7
    assert refusal("train", f"method={method}", "first_stage.G=0") == ["first_stage.G: 0: too small; must be 1 or more"]


def test_a_task_asks_by_the_template_of_the_strategy(tmp_path: Path) -> None:
    from ekipl.tasks import counting, structure

    for strategy in ("cot", "answer", "zero_shot"):
        settings = check(composed("eval", "task=structure", f"prompt={strategy}"), "eval")
        task = build_task(settings)
        assert isinstance(task, structure.Structure)
        assert task.template == structure.PROMPTS[strategy]
        assert task.choice_template == structure.CHOICE_PROMPTS[strategy]
    (tmp_path / "mine.txt").write_text("Say: {question}")
    task = build_task(check(composed("eval", f"prompt.file={tmp_path}/mine.txt"), "eval"))
    assert isinstance(task, counting.Counting)
    assert task.template == "Say: {question}"


def test_a_task_that_asks_in_one_way_refuses_another(tmp_path: Path) -> None:
    (tmp_path / "chess.py").write_text("class Chess:\n    name = 'chess'\n")
    settings = check(composed("eval", f"task={tmp_path}/chess.py:Chess", "prompt=answer"), "eval")
    with pytest.raises(UsageError, match=r"prompt\.strategy: answer: .*chess\.py:Chess asks in one way"):
        build_task(settings)
    settings = check(composed("eval", f"task={tmp_path}/chess.py:Chess", f"prompt.file={tmp_path}/chess.py"), "eval")
    with pytest.raises(UsageError, match=r"prompt\.file: .* takes no argument prompt"):
        build_task(settings)


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        ("contrast", {"selection.rule": "contrast"}),
        ("pool_baseline", {"objective.baseline": "pool"}),
        ("drop_below", {"objective.below_baseline": "drop"}),
        ("shaped", {"objective.external_weight": "shaped"}),
        ("unit", {"objective.external_weight": "unit"}),
    ],
)
def test_a_method_differs_from_the_paper_in_what_it_names_alone(method: str, changed: dict[str, object]) -> None:
    paper = dict(leaves(OmegaConf.to_container(composed("train"))))
    mine = dict(leaves(OmegaConf.to_container(composed("train", f"method={method}"))))
    assert {key: value for key, value in mine.items() if paper.get(key) != value} == {"method.name": method, **changed}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        *((f"{key}=0", f"{key}: 0: too small; must be 1 or more") for key in ("N", "G", "mu", "I", "B")),
        ("M=-1", "M: -1: too small; must be 0 or more"),
        ("eps=0", "eps: 0: too small; must be above 0"),
        ("eps=1.5", "eps: 1.5: too large; must be 1 or less"),
        ("beta=-0.1", "beta: -0.1: too small; must be 0 or more"),
        ("beta=nan", "beta: nan: not a finite number"),
        ("N=abc", "N: abc: not a whole number"),
        ("N=8.0", "N: 8.0: not a whole number"),
        ("N=true", "N: true: not a whole number"),
        ("N='8'", "N: 8: not a whole number"),
        ("N=", "N: '': not a whole number"),
        ("N='${nowhere}'", "N: Interpolation key 'nowhere' not found"),
        ("logger.wandb=yes please", "logger.wandb: yes please: neither true nor false"),
        ("model.path=", "model.path: '': empty"),
        ("selection.ties=first", "selection.ties: first: unknown; known are random, policy_first or external_first"),
        ("engine.zero_stage=1", "engine.zero_stage: 1: unknown; known are 0, 2 or 3"),
        (
            "reward=lenient",
            "reward: lenient: unknown; known are strict, reason_rft, reason_rft_reward, reason_rft_partial, "
            "reason_rft_penalty, reason_rft_tolerance, judge; or write package.module:name or FILE.py:name",
        ),
        ("+engine.learnin_rate=1", "engine.learnin_rate: no such setting; did you mean engine.learning_rate?"),
        (
            "+external.models.0.tempratur=1",
            "external.models.0.tempratur: no such setting; did you mean external.models.0.temperature?",
        ),
        ("+zzz=1", "zzz: no such setting; docs/configuration.md has them all"),
        (
            "+data.root=x",
            "data.root: the chosen data= does not read it, kind reason_rft or table does; choose that, or leave it out",
        ),
        ("+samples=1", "samples: not a setting of train; leave it out"),
        ("~N", "N: missing"),
        ("external.models=3", "external.models: 3: not a list; write [a, b]"),
        ("external.models.0=3", "external.models.0: 3: not a section; its keys are set one by one"),
        (
            "M=3",
            "M: 3: only 2 external models are configured (expert_a, expert_b); "
            "set M=2 or less, or add to external.models",
        ),
        (
            "external=none M=1",
            "M: 1: external.kind is none; set M=0, or choose external models, such as external=simulated",
        ),
        ("external.models.1.name=expert_a", "external.models.1.name: expert_a: used twice; give each its own"),
        (
            "external.models.1.name=policy",
            "external.models.1.name: policy: means the policy's own actions; choose another",
        ),
        (
            "external.models.0.model=simulated/nobody",
            "external.models.0.model: simulated/nobody: no such expert; known are expert_a, expert_b",
        ),
        (
            "external.models.0.model=null",
            "external.models.0.model: null: not text; quote it to make it text",
        ),
        (
            "+external.models.0.params.api_key=sk-1",
            "external.models.0.params.api_key: settings are written to disk; use external.models.0.api_key_env instead",
        ),
        (
            "+external.models.0.params.extra_headers.Authorization=x",
            "external.models.0.params.extra_headers.Authorization: settings are written to disk; "
            "use external.models.0.api_key_env instead",
        ),
        (
            "external=recorded",
            "external.path: null: a replay needs its recording; set it to what ekipl external-sample wrote",
        ),
        (
            "external=recorded external.path=/no/such",
            "external.path: /no/such: no such file or folder; set it to what ekipl external-sample wrote",
        ),
        (
            "data=reason_rft data.hub=null",
            "data.root: null: reason_rft needs a place; set data.root=FOLDER or data.hub=ORGANISATION/NAME",
        ),
        (
            "data=reason_rft data.root=/no/such",
            "data.root: /no/such: no such folder; set the folder that holds the published files, or data.root=null",
        ),
        ("data.train_size=null", "data.train_size: null: not a whole number"),
        ("data.train_start=2000", "data.train_start: 2000: leaves none of 2000 problems; set it below data.train_size"),
        (
            "model.path=./no/such",
            "model.path: ./no/such: no such folder; name a model folder, ORGANISATION/NAME on the hub, or tiny",
        ),
        ("model.min_pixels=500000", "model.min_pixels: 500000: above model.max_pixels=480000; lower it"),
        (
            "selection=contrast G=4",
            "selection.contrast: 4: must be below G=4, or none of the best are kept",
        ),
        ("selection=rescue G=2", "selection.rescue: 2: must be below G=2, or no own action is kept"),
        ("selection.gate=0", "selection.gate: 0: too small; must be above 0"),
        ("selection.gate=1.5", "selection.gate: 1.5: too large; must be 1 or less"),
        (
            "selection.external_share={start:2,end:0}",
            "selection.external_share.start: 2: too large; must be 1 or less",
        ),
        (
            "selection=external_only M=0",
            "selection.rule: external_only: M=0 offers no external action; set M=1 or more, or selection=top_g",
        ),
        (
            "eps=null objective.eps_high=0.28",
            "objective.eps_high: 0.28: eps=null clips nothing; set eps, or objective.eps_high=null",
        ),
        (
            "rollout.temperature=0",
            "rollout.temperature: 0: training divides by it, and greedy actions are all alike; set it above 0",
        ),
        (
            "rollout=vllm rollout.temperature=2.5",
            "rollout.temperature: 2.5: vLLM samples at 0 to 2.0; or set rollout=hf",
        ),
        (
            "engine.num_processes=13",
            "engine.num_processes: 13: more processes than problems_per_step=12; "
            "set problems_per_step=13 or more, or fewer processes",
        ),
        (
            "engine.num_processes=5 engine.accumulation=4",
            "engine.accumulation: 4: a process has only 3 of problems_per_step=12; set it to 3 or less, "
            "or more problems",
        ),
        (
            "engine.offload_optimizer=true",
            "engine.offload_optimizer: true: ZeRO-0 cannot; choose engine=zero2 or engine=zero3",
        ),
        (
            "engine=zero2 engine.offload_parameters=true",
            "engine.offload_parameters: true: ZeRO-2 cannot; choose engine=zero3",
        ),
        (
            "model.lora.rank=8 I=2",
            "model.lora.rank: 8: with adapters the reference is the model without them, which I=2 iterations would "
            "have to refresh; set I=1, or beta=0",
        ),
    ],
)
def test_a_bad_value_is_refused_in_one_line(override: str, line: str) -> None:
    parts = [override] if "please" in override else override.split(" ")
    assert refusal("train", *parts) == [line]


def test_large_but_sound_values_are_accepted() -> None:
    check(composed("train", "G=1000", "mu=4", "engine.num_processes=3", "beta=0", "eps=1"), "train")  # must not raise


def test_all_problems_are_told_together() -> None:
    """Wrong types, ranges, names, unknown keys and rules between keys; a rule on refused values adds nothing."""
    bad = "N=0 eps=abc selection.ties=x +foo=1 M=3 external.models.1.temperature=-1 external.models.0.name=policy"
    assert sorted(line.partition(":")[0] for line in refusal("train", *bad.split())) == sorted(
        ["N", "eps", "selection.ties", "foo", "M", "external.models.1.temperature", "external.models.0.name"]
    )
    assert [line.partition(":")[0] for line in refusal("train", "M=x", "model.path=./no/such")] == ["M", "model.path"]


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("GEMINI_API_KEY", "")
    gpt = "external.models.0.api_key_env: OPENAI_API_KEY: not set in the environment; export it, or external=simulated"
    gemini = gpt.replace("models.0", "models.1").replace("OPENAI", "GEMINI")
    assert refusal("train", "external=gpt4o_gemini") == [gpt, gemini]
    assert refusal("external_sample", "external=gpt4o_gemini", "M=1") == [gpt]  # the second model is not called
    for command in ("rollout", "eval", "passk"):  # nor is any of them here
        check(composed(command, "external=gpt4o_gemini"), command)


@pytest.mark.parametrize(("k", "samples", "lines"), [("[1,8,64]", "8", 1), ("[1,8,64]", "2", 2), ("[8]", "8", 0)])
def test_passk_is_undefined_for_k_above_the_samples(k: str, samples: str, lines: int) -> None:
    overrides = (f"passk.k={k}", f"passk.samples={samples}")
    if not lines:
        check(composed("passk", *overrides), "passk")
        return
    told = refusal("passk", *overrides)
    assert len(told) == lines
    assert told[-1] == f"passk.k: 64: pass@k is undefined with {samples} samples; set passk.samples=64 or leave out 64"
    check(composed("passk", *overrides, "records=[somewhere]"), "passk")  # those have as many samples as they have


@pytest.mark.parametrize(
    ("k", "line"),
    [("[0]", "passk.k.0: 0: too small; must be 1 or more"), ("[]", "passk.k: []: empty; at least 1 needed")],
)
def test_passk_needs_points(k: str, line: str) -> None:
    assert refusal("passk", f"passk.k={k}") == [line]


def test_a_model_is_a_folder_with_a_config_or_a_name_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    assert refusal("eval", f"model.path={tmp_path}/run/model") == [
        f"model.path: {tmp_path}/run/model: holds no weights in safetensors files; name a folder that does"
    ]
    (tmp_path / "run" / "model" / "model-00001-of-00001.safetensors").write_text("")
    for path in ("tiny", "Qwen/Qwen2-VL-7B-Instruct", f"{tmp_path}/run/model"):
        check(composed("eval", f"model.path={path}", f"models=[{path}]"), "eval")
    check(composed("eval", f"model.path={tmp_path}/run"), "eval")  # a run is a model
    assert refusal("eval", f"models=[tiny,{tmp_path}]") == [
        f"models.1: {tmp_path}: no model, for it holds no config.json; name a folder that does"
    ]
    for path in ("gpt2", "a/b/c", "../x", "/x/y"):
        assert refusal("train", f"model.path={path}")[0].startswith(f"model.path: {path}: no such folder")
    check(composed("external_sample", "model.path=gpt2"), "external_sample")  # loads no policy


def test_completions_come_from_a_file_or_from_models() -> None:
    assert refusal("eval", "predictions=a.jsonl", "records=[b]", "models=[tiny]") == [
        "predictions: a.jsonl: records would not be read; leave out one of the two",
        "predictions: a.jsonl: models would not be read; leave out one of the two",
    ]


def test_external_models_are_evaluated_where_there_are_some() -> None:
    check(composed("eval", "model.path=external"), "eval")
    (line,) = refusal("eval", "model.path=external", "external=none")
    assert line.startswith("M: 0: no external model to sample")


def test_further_graders_are_known_ones() -> None:
    check(composed("eval", "also_grade_with=[]", "missing_split=skip"), "eval")
    (line,) = refusal("eval", "also_grade_with=[strict,lenient]")
    assert line.startswith("also_grade_with.1: lenient: unknown; known are strict, reason_rft, ")


def test_settings_are_of_the_command_that_asks() -> None:
    assert refusal("train", "command=eval") == ["command: eval: this is train; leave it as it is"]
    assert refusal("rollout", "~samples", "+records=[]") == [
        "records: not a setting of rollout; leave it out",
        "samples: missing",
    ]


def test_settings_are_read_only() -> None:
    result = check(composed("train"), "train")
    with pytest.raises(FrozenInstanceError):
        result.N = 9  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        result.rollout.max_tokens = 9  # type: ignore[misc]


KEYS = [key for key, _ in leaves(OmegaConf.to_container(composed("passk"), resolve=True)) if key != "command"]
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec="utf-8", exclude_characters="$")),
    st.lists(st.integers()), st.dictionaries(st.sampled_from("abk"), st.integers()),
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KEYS), JUNK, min_size=1, max_size=3))
def test_whatever_is_set_the_answer_is_settings_or_a_refusal_of_what_was_set(junk: dict[str, Any]) -> None:
    cfg = BASE.copy()
    for key, value in junk.items():
        OmegaConf.update(cfg, key, value, merge=False)
    try:
        check(cfg, "passk")
    except UsageError as refused:
        for line in str(refused).splitlines():
            told = line.partition(":")[0]
            related = any(told.startswith(key.rpartition(".")[0]) or key.startswith(told) for key in junk)
            assert related or told in ("passk.k", "model.min_pixels"), line


def test_a_value_with_line_ends_and_escapes_stays_on_its_line() -> None:
    cfg = BASE.copy()
    OmegaConf.update(cfg, "model.path", "\r\n\x1b[2J")
    with pytest.raises(UsageError) as refused:
        check(cfg, "passk")
    assert str(refused.value).startswith(r"model.path: \r\n\x1b[2J: no such folder")


BASE = OmegaConf.create(OmegaConf.to_container(composed("passk"), resolve=True))


def test_the_page_of_settings_is_what_the_dataclasses_and_conf_say() -> None:
    assert DOCUMENT.read_text() == page(DOCUMENT.read_text()), "stale: run make docs"


def test_every_setting_has_a_meaning_and_every_key_of_conf_is_a_setting() -> None:
    known = {name for name, _ in keys(Settings)}
    assert all(attributes(owner)[name.rpartition(".")[2]] for name, owner in keys(Settings))
    for command in COMMANDS:
        for key, _ in leaves(OmegaConf.to_container(composed(command))):
            listed = re.sub(r"\.\d+\.", ".0.", key)
            assert listed in known or re.match(r"task\.|external\.each\.params|model\.lora\.targets", listed), key


def test_the_values_of_conf_are_the_defaults_of_the_dataclasses() -> None:
    """A library user who leaves a value out gets what a command gets."""
    result = check(composed("train"), "train")
    assert replace(result.objective, max_tokens=256) == Objective()
    assert result.selection == Selection()
    assert result.external == replace(result.external, each=Each())
