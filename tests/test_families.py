"""Each family in ``ekipl/policy/family.py`` trains, and what has been trained is sampled, evaluated and measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ekipl.errors import UsageError
from ekipl.policy import vllm
from ekipl.policy.family import FAMILIES, built_as, family_of
from ekipl.policy.model import freeze, load_model, outline
from tests.command import ekipl
from tests.families import EVALUATED, TRAINED, save
from tests.float64 import ROUNDING

NAMES = ["tiny", *TRAINED]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("trained")
    return {"tiny": "tiny", **{name: str(save(make(), folder / name)) for name, make in TRAINED.items()}}


def test_every_family_has_a_small_model_that_is_tested(folders: dict[str, str]) -> None:
    configs = [outline(path).config for path in folders.values()]
    assert [config.model_type for config in configs] == list(FAMILIES)
    assert [family_of(config) for config in configs] == list(FAMILIES.values())
    assert family_of(EVALUATED["llava"]()[0]) is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("vision", "projector"), [(True, False), (False, True), (True, True)])
def test_frozen_parts_stay(vision: bool, projector: bool, name: str, folders: dict[str, str]) -> None:
    model = outline(folders[name])
    freeze(model, vision=vision, projector=projector)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    everything = {name for name, _ in model.named_parameters() if "visual." in name}
    mergers = {name for name in everything if "merger" in name}
    assert frozen == (everything - mergers if vision else set()) | (mergers if projector else set())


def test_the_projectors_of_qwen3_vl_are_three(folders: dict[str, str]) -> None:
    model = outline(folders["qwen3_vl"])
    freeze(model, vision=False, projector=True)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    parts = {name.removeprefix("model.visual.").partition(".norm")[0] for name in frozen if ".norm" in name}
    assert parts == {"merger", "deepstack_merger_list.0", "deepstack_merger_list.1"}


@pytest.mark.parametrize(("name", "pixels"), [("tiny", 16**2), ("qwen25_vl", 16**2), ("qwen3_vl", 32**2)])
def test_what_the_dry_run_reads(name: str, pixels: int, folders: dict[str, str]) -> None:
    model = outline(folders[name])
    family, config = built_as(model), model.config
    assert family.pixels_per_token(config) == pixels
    assert family.patches_per_token(config) == 4
    width, layers = family.vision_shape(config)
    embedding = model.model.get_submodule(family.patch_embedding)
    assert embedding.weight.shape[0] == width
    assert len(model.model.get_submodule(family.vision_layers)) == layers


def test_vllm_is_refused_where_it_has_not_been_tried(folders: dict[str, str]) -> None:
    vlm = load_model(folders["qwen3_vl"], device="cpu")
    with pytest.raises(UsageError, match=r"^rollout.kind: vllm: qwen3_vl: not tried with vLLM yet; set rollout=hf$"):
        vllm.start(vlm, dtype="float32", batch_size=4, cache_gib=1.0, processes=1)


def done(directory: Path, *words: str) -> Path:
    """A command's run directory, when it has ended well."""
    ended = ekipl(*words, f"hydra.run.dir={directory}")
    assert ended.returncode == 0, ended.stderr
    return directory


def trained(folder: str, run: Path, *words: str) -> set[str]:
    """Names of the weights that one update by ``ekipl train`` has changed."""
    quick = ["B=1", "problems_per_step=2", "engine.learning_rate=1e-3", "evaluation.every=0", "checkpoint.every=0"]
    done(run, "train", f"model.path={folder}", *quick, *words)
    (row,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert row["loss/grad_norm"] > 0
    assert row["loss/sampler_gap"] < ROUNDING
    before, after = (load_model(str(path), device="cpu").model.state_dict() for path in (folder, run / "model"))
    return {key for key, tensor in after.items() if not torch.equal(tensor, before[key])}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_was_trained_is_sampled_evaluated_and_measured(name: str, folders: dict[str, str], tmp_path: Path) -> None:
    changed = trained(folders[name], tmp_path / "train", "engine.gradient_checkpointing=true")
    projectors = {key for key, _ in outline(folders[name]).named_parameters() if "merger" in key}
    assert {"model.visual.patch_embed.proj.weight", "model.language_model.norm.weight", *projectors} < changed

    few = [f"model.path={tmp_path / 'train' / 'model'}", "splits=[id]", "limit=2"]
    rollout = done(tmp_path / "rollout", "rollout", *few, "samples=2", "rollout.max_tokens=4")
    assert len((rollout / "actions.jsonl").read_text().splitlines()) == 4
    scores = done(tmp_path / "eval", "eval", *few, "decoding.max_tokens=4") / "scores.json"
    assert json.loads(scores.read_text())["splits"][0]["problems"] == 2
    curves = done(tmp_path / "passk", "passk", *few, "--k", "1,2", "passk.samples=2", "decoding.max_tokens=4")
    assert json.loads((curves / "passk.json").read_text())["splits"]["id"][0]["samples"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_adapters_are_trained(name: str, folders: dict[str, str], tmp_path: Path) -> None:
    lora = ["model.lora.rank=4", "model.lora.targets=[q_proj,down_proj]"]
    changed = trained(folders[name], tmp_path, *lora)
    assert {key.split(".")[-2] for key in changed} == {"q_proj", "down_proj"}
