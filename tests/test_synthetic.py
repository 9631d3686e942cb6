"""The built-in problems: reproducible, distinct, and their gold answers follow from the scene."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ekipl.algorithm.types import Example
from ekipl.data.synthetic import counting as synthetic_counting
from ekipl.data.synthetic import spatial as synthetic_spatial
from ekipl.data.synthetic import structure as synthetic_structure
from ekipl.data.synthetic.scenes import COLORS, MATERIALS, OTHER_SHAPES, SHAPES, SIZES, Thing, render
from ekipl.data.synthetic.source import SyntheticData
from ekipl.errors import UsageError
from ekipl.tasks.counting import Counting
from ekipl.tasks.spatial import Spatial
from ekipl.tasks.structure import Structure

SPLITS = {
    synthetic_counting: ("train", "id", "ood"),
    synthetic_structure: ("train", "id", "ood"),
    synthetic_spatial: ("train", "id", "ood_left", "ood_right"),
}
MODULES = pytest.mark.parametrize("module", SPLITS, ids=lambda m: m.__name__.rpartition(".")[2])
EACH = [(module, split) for module, splits in SPLITS.items() for split in splits]
ROWS = 150


def rows(module: ModuleType, split: str, number: int = ROWS, seed: int = 3) -> list[Example]:
    return [module.generate(split, index, seed, 32) for index in range(number)]


def digest(row: Example) -> str:
    pixels = b"".join(image.tobytes() for image in row.images)
    return hashlib.sha256(pixels + repr((row.question, row.answer, row.metadata)).encode()).hexdigest()


@MODULES
def test_same_arguments_give_the_same_row_in_any_process(module: ModuleType) -> None:
    code = (
        f"from tests.test_synthetic import digest\nfrom {module.__name__} import generate\n"
        "print(digest(generate('train', 7, 5, 96)))"
    )
    here = digest(module.generate("train", 7, 5, 96))
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command, root = [sys.executable, "-c", code], Path(__file__).parents[1]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root)
        assert run.stdout.strip() == here


@MODULES
def test_rows_differ_by_index_seed_and_split(module: ModuleType) -> None:
    made = [row for split in SPLITS[module] for seed in (0, 1) for row in rows(module, split, 60, seed)]
    assert len({digest(row) for row in made}) >= 0.99 * len(made)  # figures of few angles can agree to the pixel
    assert len({row.id for row in rows(module, "train")}) == ROWS


@MODULES
def test_images_have_the_asked_size_and_are_not_empty(module: ModuleType) -> None:
    for side in (32, 96, 200):
        for image in module.generate("id", 1, 0, side).images:
            assert image.size == (side, side)
            assert image.mode == "RGB"
            assert np.asarray(image).std() > 5


def test_every_family_appears_and_held_out_families_make_about_5_percent() -> None:
    families = {
        synthetic_counting: synthetic_counting.FAMILIES,
        synthetic_structure: (*synthetic_structure.ID_FAMILIES, *synthetic_structure.HELD_OUT_FAMILIES),
        synthetic_spatial: synthetic_spatial.FAMILIES,
    }
    for module, expected in families.items():
        seen = Counter(row.metadata["family"] for row in rows(module, "id", 500))
        assert set(seen) == set(expected)
        share = sum(seen[family] for family in module.HELD_OUT_FAMILIES) / 500
        assert 0.02 < share < 0.09  # 0.05, standard deviation 0.0097
    ood = {row.metadata["family"] for row in rows(synthetic_structure, "ood")}
    assert ood == set(synthetic_structure.OOD_FAMILIES)


@pytest.mark.parametrize(("module", "split"), EACH)
def test_a_skill_is_needed_where_one_is_named_and_reasoning_agrees_with_its_answer(
    module: ModuleType, split: str
) -> None:
    for row in rows(module, split):
        told = row.metadata
        right = [told["cot"], *told["variants"]]
        assert len(set(right)) == len(right) > 1 or (module is synthetic_counting and len(set(right)) == len(right))
        for reasoning, answer in told["mistakes"]:
            assert answer != row.answer
            assert reasoning not in right
        if "skill" not in told:
            continue
        uses = [any(mark in reasoning for mark in told["skill"]) for reasoning in right]
        reasoning, answer = told["without_skill"]
        assert all(uses)
        assert not any(mark in reasoning for mark in told["skill"])
        assert answer != row.answer


@MODULES
def test_about_half_of_the_training_problems_need_a_skill(module: ModuleType) -> None:
    needed = sum("skill" in row.metadata for row in rows(module, "train", 500)) / 500
    assert 0.4 < needed < 0.7  # 0.475 (structure) to 0.6, standard deviation 0.022


def test_no_wrong_rule_of_counting_is_right_by_chance() -> None:
    for split in SPLITS[synthetic_counting]:
        for row in rows(synthetic_counting, split):
            number = len(row.metadata["scene"]["objects"])
            added = int(found[1]) if (found := re.search(r"Add (\d+)", row.question)) else 0
            assert int(row.answer) not in (number, number + added)  # everything counts
            assert int(row.answer) > added  # nothing counts


def kind_of(words: str) -> tuple[str | None, str | None]:
    """Colour and shape of "red cubes", "objects"... read from the words alone."""
    parts = words.split()
    color = parts[0] if parts[0] in COLORS else None
    noun = parts[-1].removesuffix("s")
    return color, None if noun == "object" else noun


def is_of(thing: dict[str, str], kind: tuple[str | None, str | None]) -> bool:
    return kind[0] in (None, thing["color"]) and kind[1] in (None, thing["shape"])


@pytest.mark.parametrize("split", SPLITS[synthetic_counting])
def test_counting_answers_follow_from_the_words_and_the_scene(split: str) -> None:
    for row in rows(synthetic_counting, split):
        things = row.metadata["scene"]["objects"]
        asked = re.search(r"How many ([a-z ]+?) (?:are|exist)", row.question)
        assert asked
        gone = [kind_of(words) for words in re.findall(r"Subtract all ([a-z ]+)\.", row.question)]
        left = [t for t in things if not any(is_of(t, kind) for kind in gone)]
        answer = sum(is_of(t, kind_of(asked[1])) for t in left)
        for number in re.findall(r"Add (\d+) ", row.question):  # what is added is always of the kind asked for
            answer += int(number)
        assert row.answer == str(answer)
        assert row.metadata["cot"].endswith(f" {answer}")
        assert 2 <= len(things) <= 6
        assert {t["shape"] for t in things} <= set(OTHER_SHAPES if split == "ood" else SHAPES)


def test_only_the_held_out_counting_family_has_answers_above_9() -> None:
    for row in rows(synthetic_counting, "train", 400):
        assert (int(row.answer) > 9) == (row.metadata["family"] == "add_dozen")


RELATIONS = {  # what each figure says, written down a second time
    "vertical": lambda a: a,
    "linear_pair": lambda a: 180 - a,
    "complementary": lambda a: 90 - a,
    "corresponding": lambda a: a,
    "co_interior": lambda a: 180 - a,
    "triangle_third": lambda a, b: 180 - a - b,
    "triangle_exterior": lambda a, b: a + b,
    "isosceles_apex": lambda a: (180 - a) / 2,
    "isosceles_base": lambda a: 180 - 2 * a,
    "inscribed": lambda a: a / 2,
    "alternate": lambda a: a,
    "opposite": lambda a: a,
    "adjacent": lambda a: 180 - a,
    "right_triangle": lambda a: 90 - a,
    "semicircle": lambda a: 90 - a,
}


@pytest.mark.parametrize("split", SPLITS[synthetic_structure])
def test_structure_answers_follow_from_the_relation_and_the_text(split: str) -> None:
    for row in rows(synthetic_structure, split, 300):
        family, scene = row.metadata["family"], row.metadata["scene"]
        told = [int(number) for number in re.findall(r"angle \d = (\d+)", row.question)]
        assert told == scene["given"]
        value = 180 * (scene["sides"] - 2) if family == "polygon_sum" else RELATIONS[family](*told)
        options = dict(re.findall(r"\(([A-D])\) (\d+)", row.question))
        assert row.kind == ("choice" if options else "number")
        assert int(options.get(row.answer, row.answer if not options else "-1")) == value
        assert len(set(options.values())) in (0, 4)


def things_of(records: list[dict]) -> tuple[Thing, ...]:
    return tuple(
        Thing(r["shape"], r["size"], r["color"], r["material"], r["position"][0], r["position"][1]) for r in records
    )


@pytest.mark.parametrize("split", SPLITS[synthetic_spatial])
def test_spatial_answers_turn_the_initial_state_into_the_final_one(split: str) -> None:
    steps = {"front": (0, -1), "behind": (0, 1), "left": (-1, 0), "right": (1, 0)}
    for row in rows(synthetic_spatial, split):
        scene = row.metadata["scene"]
        state = [dict(record) for record in scene["objects"]]
        functions = re.findall(r"change_(\w+)\((\d), (\w+)\)", row.answer)
        assert ", ".join(f"change_{what}({i}, {value})" for what, i, value in functions) == row.answer
        assert len(functions) == (2 if row.metadata["family"] == "two_changes" else 1)
        for what, i, value in functions:
            thing = state[int(i)]
            if what == "position":
                moves = [steps[part] for part in value.split("_")]
                thing["position"] = [sum(axis) for axis in zip(thing["position"], *moves, strict=True)]
            else:
                assert thing[what] != value
                thing[what] = value
        assert state == scene["final"]
        for records in (scene["objects"], scene["final"]):
            places = {tuple(record["position"]) for record in records}
            assert len(places) == len(records)
            assert all(-1 <= axis <= 1 for place in places for axis in place)


def test_spatial_pictures_are_the_scene_seen_by_the_split_s_camera() -> None:
    for split, camera in (("id", "center"), ("ood_left", "left"), ("ood_right", "right")):
        row = synthetic_spatial.generate(split, 4, 0, 64)
        initial, final = (things_of(row.metadata["scene"][key]) for key in ("objects", "final"))
        assert row.images[0].tobytes() == render(initial, 64).tobytes()
        assert row.images[1].tobytes() == render(final, 64, camera).tobytes()


def test_spatial_tuples_name_the_initial_objects() -> None:
    row = synthetic_spatial.generate("id", 0, 0, 32)
    told = re.findall(r"\((\d), (\w+), (\w+), (\w+), (\w+)\)", row.question)
    assert told == [
        (str(t["id"]), t["shape"], t["size"], t["color"], t["material"]) for t in row.metadata["scene"]["objects"]
    ]


def picture(**changes: object) -> np.ndarray:
    look: dict = {"shape": "cube", "size": "large", "color": "red", "material": "rubber", "x": 0, "y": 0} | changes
    return np.asarray(render([Thing(**look)], 96), dtype=float)


def test_every_look_of_a_thing_shows() -> None:
    for name, values in (("shape", SHAPES + OTHER_SHAPES), ("color", COLORS), ("material", MATERIALS)):
        seen = [picture(**{name: value}) for value in values]
        for i, one in enumerate(seen):
            for other in seen[:i]:
                assert (np.abs(one - other).max(axis=-1) > 30).sum() > 20  # pixels that clearly differ
    empty = np.asarray(render([], 96), dtype=float)
    small, medium, large = ((np.abs(picture(size=size) - empty).max(axis=-1) > 30).sum() for size in SIZES)
    assert small * 1.5 < medium < large / 1.3


def test_cameras_put_things_where_they_belong() -> None:
    def centre(x: float, y: float, camera: str) -> tuple[float, float]:
        empty = np.asarray(render([], 96, camera), dtype=float)
        thing = np.asarray(render([Thing("sphere", "small", "red", "rubber", x, y)], 96, camera), dtype=float)
        rows_, columns = np.nonzero(np.abs(thing - empty).max(axis=-1) > 60)
        return columns.mean(), rows_.mean()

    assert centre(-1, 0, "center")[0] < centre(1, 0, "center")[0]
    assert centre(0, 1, "center")[1] < centre(0, -1, "center")[1]  # behind is higher in the picture
    assert centre(-1, 0, "left")[1] > centre(1, 0, "left")[1]  # what is on the left is nearer to the left camera
    assert centre(1, 0, "right")[1] > centre(-1, 0, "right")[1]


@pytest.mark.parametrize("task", [Counting(), Structure(), Spatial()], ids=lambda t: t.name)
def test_synthetic_data_is_lazy_and_worded_by_the_task(task: Counting | Structure | Spatial) -> None:
    data = SyntheticData(seed=2, image_size=40, train_size=10**9, test_size=5)
    train = data.problems(task, "train")
    assert len(train) == 10**9
    problem = train[10**9 - 1]
    assert problem.id == f"{task.name}-train-{10**9 - 1}"
    assert problem.question in problem.prompt
    assert len(data.problems(task, "id")) == 5
    assert [p.id for p in data.problems(task, "id", limit=2)] == [f"{task.name}-id-0", f"{task.name}-id-1"]
    with pytest.raises(UsageError, match="splits: elsewhere: .* has train, id"):
        data.problems(task, "elsewhere")
