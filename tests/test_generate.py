"""Evaluation of models that are not the policy's family, as small as can be."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from ekipl.algorithm.seams import Decoding
from ekipl.algorithm.types import Problem
from ekipl.errors import UsageError
from ekipl.policy.generate import GenerateSampler, evaluated_only
from ekipl.policy.model import TINY
from tests.command import ekipl
from tests.families import EVALUATED, TRAINED, WITH_TORCHVISION, pixtral, save
from tests.float64 import in_float64

HAS_TORCHVISION = find_spec("torchvision") is not None


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each family."""
    families = EVALUATED | TRAINED | (WITH_TORCHVISION if HAS_TORCHVISION else {})
    return {name: save(make(), tmp_path_factory.mktemp("families") / name) for name, make in families.items()}


@pytest.fixture(scope="module")
def llava(folders: dict[str, Path]) -> Path:
    return folders["llava"]


def problem(name: str, shade: int = 0) -> Problem:
    image = Image.new("RGB", (28, 28), (shade, shade, shade))
    return Problem(name, "counting", "id", (image,), "How many?", "How many?", "3", "number")


def test_families_that_are_trained_are_known_by_their_config(folders: dict[str, Path]) -> None:
    assert {name for name, folder in folders.items() if not evaluated_only(str(folder))} == set(TRAINED)
    assert not evaluated_only(str(TINY))
    assert not evaluated_only("/nowhere")


def test_samples_are_complete_reproducible_and_in_order(llava: Path) -> None:
    sampler = GenerateSampler(str(llava), Decoding(1.0, 1.0, 0, 5), batch_size=4, dtype="float32")
    problems = [problem(f"p{i}", 80 * i) for i in range(3)]
    first, again = (sampler.sample(problems, 2, seed=1) for _ in range(2))
    assert first == again
    assert first != sampler.sample(problems, 2, seed=2)
    assert [[(a.problem_id, a.index) for a in actions] for actions in first] == [
        [(f"p{i}", 0), (f"p{i}", 1)] for i in range(3)
    ]
    for action in (a for actions in first for a in actions):
        assert action.tokens is not None
        assert (action.finish == "length") == (len(action.tokens) == 5 and action.tokens[-1] not in sampler._ends())


@in_float64()
def test_padding_changes_no_greedy_answer(llava: Path) -> None:
    sampler = GenerateSampler(str(llava), Decoding(0.0, 1.0, 0, 5), batch_size=8, dtype="float64")
    long = problem("long", 200)
    long = Problem(**{**long.__dict__, "prompt": "How many red things are left, if all spheres go away?"})
    together = sampler.sample([problem("p", 40), long], 1, seed=0)
    assert together[0] == sampler.sample([problem("p", 40)], 1, seed=0)[0]
    assert together[1] == sampler.sample([long], 1, seed=0)[0]


@pytest.mark.slow
def test_one_command_evaluates_models_of_all_families(folders: dict[str, Path], tmp_path: Path) -> None:
    first, *others = map(str, folders.values())
    few = ["splits=[id]", "limit=3", "samples=2", "decoding.max_tokens=5", "model.dtype=float32"]
    line = ["eval", f"model.path={first}", f"models=[{','.join(others)}]", *few, f"hydra.run.dir={tmp_path}"]
    done = ekipl(*line)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [(s["model"], s["problems"], s["samples"], s["errors"]) for s in scores["splits"]] == [
        (name, 3, 6, 0) for name in (first, *others)
    ]
    assert all(0 < s["length"] <= 5 for s in scores["splits"])
    assert [difference["model"] for difference in scores["differences"]] == others


@pytest.mark.parametrize("family", [*EVALUATED, *WITH_TORCHVISION])
def test_problems_of_several_images_and_sizes(family: str, folders: dict[str, Path]) -> None:
    if family not in folders:
        pytest.skip("its processor needs torchvision")
    images = [Image.new("RGB", (40 + 30 * i, 60), (80 * i, 9, 9)) for i in range(3)]
    pairs = [(images[0],), (images[1], images[2])]
    problems = [
        Problem(f"p{i}", "spatial", "id", pair, "What?", "What?", "3", "number") for i, pair in enumerate(pairs)
    ]
    sampler = GenerateSampler(str(folders[family]), Decoding(1.0, 1.0, 0, 5), batch_size=8, dtype="float32")
    sampled = sampler.sample(problems, 2, seed=0)
    assert [[a.problem_id for a in actions] for actions in sampled] == [["p0", "p0"], ["p1", "p1"]]
    assert all(a.tokens and len(a.tokens) <= 5 for actions in sampled for a in actions)


@pytest.mark.skipif(HAS_TORCHVISION, reason="torchvision is there")
def test_a_library_that_a_family_needs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match="Torchvision"):
        pixtral()
    (tmp_path / "processor_config.json").write_text('{"processor_class": "PixtralProcessor"}')
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(UsageError) as refused:
        GenerateSampler(str(tmp_path), Decoding(1.0, 1.0, 0, 5))
    assert str(refused.value) == (
        f"model.path: {tmp_path}: PixtralProcessor requires the Torchvision library but it was not found in your "
        "environment; install it"
    )
