"""The work and the memory that ``--dry-run`` prints: by hand, and against the peak of real runs."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from ekipl.config import Settings, check
from ekipl.engine.lora import add_adapters
from ekipl.policy.model import TINY, load_model
from ekipl.policy.prefix import CHUNK_ELEMENTS_CPU, CHUNK_ELEMENTS_GPU
from ekipl.policy.settings import Lora
from ekipl.run.build import build_task
from ekipl.run.dry_run import prompt_of, work_table
from ekipl.run.memory import (
    Outline,
    Part,
    Prompt,
    memory_of,
    micro_batch_of,
    outline_of,
    parts_of,
    peak,
    state_parts,
    step_parts,
)
from tests.command import ekipl
from tests.test_config import _keys, composed

__all__ = ["_keys"]
SPATIAL_7B = ["task=spatial", "model=qwen2vl_7b", "B=4286"]
PROMPT = Prompt(700 * 4, (480_000, 480_000))  # characters; pixels of two images


def settings(*overrides: str) -> Settings:
    return check(composed("train", *overrides), "train")


def model_of(*overrides: str) -> Outline:
    outline = outline_of(settings(*overrides).model)
    assert outline is not None
    return outline


def named(parts: list[Part]) -> dict[str, float]:
    return {part.name: part.gpu for part in parts}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [  # as in the index of the published weight files, bytes / 2
        ("qwen2vl_2b", 2_208_985_600),
        ("qwen2vl_7b", 8_291_375_616),
        ("qwen25vl_3b", 3_754_622_976),
        ("qwen25vl_7b", 8_292_166_656),
    ],
)
def test_published_models_have_their_published_sizes(model: str, parameters: int) -> None:
    found = model_of(f"model={model}")
    assert (found.parameters, found.trained) == (parameters, parameters)
    assert found.keys == {"2b": 256, "3b": 256, "7b": 512}[model[-2:]]  # 2 or 4 key-value heads of 128


def test_only_trained_parameters_are_counted_as_trained() -> None:
    # a layer: q and o 1536 + 1536, k and v 1536 + 256, gate, up and down 1536 + 8960; 28 layers of rank 16
    adapters = 28 * 16 * (2 * 3072 + 2 * 1792 + 3 * 10496)
    assert model_of("model=qwen2vl_2b", "model.lora.rank=16").trained == adapters == 18_464_768
    frozen = model_of("model=qwen2vl_2b", "model.freeze_vision=true", "model.freeze_projector=true")
    assert frozen.parameters - frozen.trained == 665_271_296  # tower and projector
    assert frozen.vision is None


def test_a_folder_is_measured_as_it_is_trained() -> None:
    policy = load_model("tiny", device="cpu").model
    adapted = copy.deepcopy(policy)
    targets = ("q_proj", "down_proj")
    add_adapters(adapted, Lora(4, 8.0, targets), seed=0)
    found = model_of("model.lora.rank=4", f"model.lora.targets=[{','.join(targets)}]")
    assert found.parameters == sum(p.numel() for p in policy.parameters())
    assert found.trained == sum(p.numel() for name, p in adapted.named_parameters() if ".lora_" in name)
    assert outline_of(settings("model=qwen2vl_7b", "model.path=nobody/nothing").model) is None


def test_weights_gradients_and_state_by_hand() -> None:
    whole = 8_291_375_616
    assert named(state_parts(model_of(*SPATIAL_7B), settings(*SPATIAL_7B))) == {  # bfloat16, ZeRO-3, 7 GPUs
        "weights": whole * 2 / 7,
        "gradients": whole * 2 / 7,
        "AdamW, float32": whole * 12 / 7,  # weights and two moments
        "reference": whole * 2 / 7,
        "copy that samples": whole * 2,
        "gathered at once": 2e9,
        "bucket of gradients": 1e9,
    }
    tiny = model_of()
    assert named(state_parts(tiny, settings("engine.num_processes=2"))) == {  # float32, ZeRO-0
        "weights": tiny.parameters * 4,
        "gradients": tiny.parameters * 4,
        "AdamW, float32": tiny.parameters * 8,  # two moments
        "reference": tiny.parameters * 4,
    }
    assert "reference" not in named(state_parts(tiny, settings("beta=0")))
    vllm = named(state_parts(tiny, settings("rollout=vllm", "rollout.cache_gib=0.5")))
    assert vllm["copy that samples"] == tiny.parameters * 4
    assert vllm["keys and values of vLLM"] == 0.5 * 2**30


def test_the_optimizer_holds_the_gradients_again_and_the_larger_moment_counts() -> None:
    one = ["model=qwen2vl_2b", "engine=zero2", "engine.num_processes=1"]
    trained = model_of(*one).trained
    assert named(step_parts(model_of(*one), settings(*one))) == {"gradients in the optimizer": trained * 4}  # float32
    first = [*one, "engine.zero_stage=0"]  # ZeRO-1 in bfloat16
    assert named(step_parts(model_of(*one), settings(*first))) == {"gradients in the optimizer": trained * (4 + 2)}
    assert step_parts(model_of(*one), settings(*one, "engine.offload_optimizer=true")) == []
    assert step_parts(model_of(), settings()) == []  # float32: no copy
    moments = [Part("a", 5.0, ""), Part("b", 2.0, "", when="passes"), Part("c", 3.0, "", when="step")]
    assert peak(moments) == 5 + 3
    assert peak(moments[:2]) == 5 + 2


def test_offloaded_parts_are_on_the_cpu() -> None:
    mine = [*SPATIAL_7B, "engine.offload_optimizer=true", "engine.offload_parameters=true", "model.lora.rank=16"]
    # a layer: q and o 3584 + 3584, k and v 3584 + 512, gate, up and down 3584 + 18944; 28 layers of rank 16
    adapters = 28 * 16 * (2 * 7168 + 2 * 4096 + 3 * 22528)
    parts = {part.name: part for part in state_parts(model_of(*mine), settings(*mine))}
    assert "reference" not in parts  # it is the model without its adapters
    assert {name: part.cpu for name, part in parts.items() if part.cpu} == {
        "weights": 8_291_375_616 * 2 / 7,
        "gradients": adapters * 2 / 7,
        "AdamW, float32": adapters * 12 / 7,
    }
    assert sum(part.gpu for part in parts.values()) == 8_291_375_616 * 2 + 2e9 + 1e9


def test_activations_by_hand() -> None:
    def of(*overrides: str) -> dict[str, float]:
        mine = settings(*SPATIAL_7B, *overrides)
        outline = outline_of(mine.model)
        assert outline is not None
        return named(parts_of(mine, outline, PROMPT, CHUNK_ELEMENTS_GPU))

    # two images of 612 tokens of 28 x 28 pixels, 700 tokens of text, 20 of the chat template
    assert PROMPT.tokens(28 * 28) == 2 * 612 + 700 + 20 == 1944
    assert micro_batch_of(settings(*SPATIAL_7B), 1944) == (1, 16)  # one problem, G = 16 of 8 x 3 candidates
    plain, again = of("engine.gradient_checkpointing=false"), of()
    tokens, layer = 1944 + 16 * 512, 22 * 3584 + 8 * 18944
    assert plain["activations"] == tokens * 28 * layer
    assert plain["activations, tower"] == 2 * 2448 * 32 * 46 * 1280
    length = 1944 + 16 * (1944 + 512)
    assert plain["keys and values"] == length * 2 * 3584 * 28 * 2
    assert plain["logits, float32"] == (4 + 2) * 2**26 * 4  # 16 x 512 x 152,064 of them in all
    assert again["activations"] == tokens * (28 * 3584 * 2 + layer)  # the inputs of all layers, the inside of one
    assert again["activations, tower"] == 2 * 2448 * (32 * 1280 * 2 + 46 * 1280)
    assert again["keys and values"] == length * 2 * (512 * 28 + 3584) * 2


@pytest.mark.parametrize(
    ("overrides", "prompts", "actions"),
    [
        ("", 4, 64),  # of 12 problems, 16 actions each
        ("M=0", 4, 32),  # only 8 candidates
        ("engine.num_processes=6", 2, 32),  # 2 problems a process
        ("engine.accumulation=6", 2, 32),  # 12 in 6 passes
        ("method=ans_sft", 4, 4),  # a demonstration each
        # prompts of 131 tokens, answers of 96
        ("engine.micro_batch_tokens=1000", 1, 9),  # 131 + 9 x 96 = 995
        ("engine.micro_batch_tokens=600", 1, 4),  # 131 + 4 x 96 = 515
        ("engine.micro_batch_tokens=10", 1, 1),  # a prompt with one action is never split
    ],
)
def test_a_micro_batch_is_bounded_by_problems_and_tokens(overrides: str, prompts: int, actions: int) -> None:
    assert micro_batch_of(settings(*overrides.split()), 131) == (prompts, actions)


def test_work_by_hand() -> None:
    table = work_table(settings(*SPATIAL_7B), 1944)
    number = {row[0]: row[1] for row in table.rows}
    # 4,286 steps of 14 problems; 8 samples each of the policy and of two others; the 16 best are trained on
    assert number["problems"] == f"{4286 * 14:,}" == "60,004"
    assert number["policy samples"] == f"{60_004 * 8:,}"
    assert number["external samples"] == f"{60_004 * 16:,}"
    assert number["actions trained on"] == f"{60_004 * 16:,}"
    assert number["prompt tokens"] == f"{60_004 * 1944:,}"
    assert number["tokens sampled"] == f"{60_004 * 8 * 512:,}"
    assert settings("method=cot_sft").candidates == (0, 1)


def test_a_prompt_is_that_of_the_first_problems_or_of_the_template() -> None:
    def prompt(*overrides: str) -> Prompt:
        mine = settings(*overrides)
        return prompt_of(mine, build_task(mine))

    assert prompt("task=counting").pixels == (96 * 96,)
    drawn = prompt("task=spatial")
    assert drawn.pixels == (96 * 96, 96 * 96)
    published = prompt(*SPATIAL_7B)  # not here: two images of the largest size, the template without a question
    assert published.pixels == (480_000, 480_000)
    assert 500 < published.characters < drawn.characters


def test_a_model_of_unknown_size_is_reported() -> None:
    unknown = memory_of(settings("model=qwen2vl_7b", "model.path=nobody/nothing"), None, PROMPT)
    assert (list(unknown.rows), list(unknown.notes)) == (
        [],
        [
            "nobody/nothing: its size is not known without a download",
            "for 7 GPUs (one machine with engine.num_processes=7)",
        ],
    )
    mine = settings(*SPATIAL_7B)
    known = memory_of(mine, outline_of(mine.model), PROMPT)
    assert known.rows[-1][0] == "sum"
    assert known.rows[-2][0] == "gradients in the optimizer"  # less than the passes, so not in the sum
    assert float(known.rows[-1][1]) == pytest.approx(sum(float(row[1]) for row in known.rows[:-2]), abs=0.06)


def test_simulated_models_cost_a_line(tmp_path: Path) -> None:
    done = ekipl("train", "--dry-run", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.strip().splitlines()
    assert last == "external models: expert_a, expert_b: simulated; nothing is requested or paid"


def test_bad_rows_are_told_after_the_sizes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "whole.png")
    (tmp_path / "images" / "cut.png").write_bytes((tmp_path / "images" / "whole.png").read_bytes()[:60])
    rows = [{"id": n, "image": f"images/{n}.png", "problem": "?", "solution": "3"} for n in ("whole", "cut")]
    for split in ("train", "id-test-2"):
        (tmp_path / f"Visual-Counting-{split}.json").write_text(json.dumps(rows))
    line = [
        "train",
        "--dry-run",
        "data=reason_rft",
        f"data.root={tmp_path}",
        "data.cache=null",
        "evaluation.splits=[id]",
    ]
    done = ekipl(*line, "problems_per_step=1")
    assert done.returncode == 2
    assert "ekipl: what is done" in done.stdout
    assert done.stderr.count("row 2 (id 'cut'): image: 'images/cut.png': cannot be read: ") == 2  # of both files
    skipped = ekipl(*line, "problems_per_step=1", "data.bad_rows=skip")
    assert skipped.returncode == 0, skipped.stderr
    assert "1 of 2 rows are skipped" in skipped.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-VL with random weights, 18 M parameters, whose update needs more memory than the imports."""
    folder = tmp_path_factory.mktemp("model")
    config = AutoConfig.from_pretrained(TINY)
    text = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6}
    for key, value in text.items():
        setattr(config.text_config, key, value)
    config.text_config.layer_types = ["full_attention"] * 6
    config.text_config.rope_parameters = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]}
    config.vision_config.hidden_size = 384
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    for name in ("preprocessor_config.json", "generation_config.json"):
        (folder / name).write_text((TINY / name).read_text())
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("recompute", ["false", "true"])
def test_the_sum_is_the_peak_of_a_real_run(recompute: str, folder: Path, tmp_path: Path) -> None:
    off = ["evaluation.every=0", "checkpoint.every=0", "external=none", "N=8", "G=8", "B=2", "problems_per_step=2"]
    mine = [*off, f"model.path={folder}", "rollout.max_tokens=64", f"engine.gradient_checkpointing={recompute}"]
    for name, overrides in (("run", mine), ("tiny", [*off, "B=1", "rollout.max_tokens=8"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(OmegaConf.to_yaml(composed("train", *overrides), resolve=True))
    done = subprocess.run(
        [sys.executable, "-m", "tests.memory", str(tmp_path / "run/config.yaml"), str(tmp_path / "tiny/config.yaml")],
        capture_output=True,
        text=True,
        # freed tensors go back to the system at once, so that the peak is that of living tensors
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    measured = int(done.stdout.split()[-1])
    wanted = settings(*mine)
    outline = outline_of(wanted.model)
    assert outline is not None
    parts = parts_of(wanted, outline, prompt_of(wanted, build_task(wanted)), CHUNK_ELEMENTS_CPU)
    print({part.name: round(part.gpu / 2**20) for part in parts}, "measured", round(measured / 2**20))
    assert peak(parts) == pytest.approx(measured, rel=0.25)
