"""Training examples of the tiny model: right answers, and a mixture with a fixed wrong rule and ill-formed ones."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Example
from ekipl.data.synthetic import counting as synthetic_counting
from ekipl.data.synthetic import spatial as synthetic_spatial
from ekipl.data.synthetic import structure as synthetic_structure
from ekipl.data.synthetic.scenes import COLORS, MATERIALS, SHAPES, SIZES, Thing, cell, render
from ekipl.data.synthetic.source import GENERATORS
from ekipl.tasks.counting import Counting
from ekipl.tasks.spatial import Spatial
from ekipl.tasks.structure import Structure
from tools.tiny.sight import IMAGE_SIZE, Scene

Lesson = Literal["counting", "structure", "spatial", "reading", "changes", "colors"]

SEED = 7_310_021  # of the training rows; runs should use other seeds
_ALL: tuple[Any, ...] = (Counting(), Structure(), Spatial())
TASKS: dict[str, Task] = {task.name: task for task in _ALL}
HELD_OUT = {
    "counting": synthetic_counting.HELD_OUT_FAMILIES,
    "structure": synthetic_structure.HELD_OUT_FAMILIES,
    "spatial": synthetic_spatial.HELD_OUT_FAMILIES,
}


@dataclass(frozen=True)
class Mixture:
    """Shares of completions that differ from the right one.

    Attributes:
        wrong: of problems that need no skill, by a fixed wrong rule, for each task.
        unskilled: of problems that need a skill, without it.
        varied: of right reasoning, in other words or another order.
        broken: of all completions, without the requested form.
    """

    wrong: Mapping[str, float] = field(default_factory=dict)
    unskilled: float = 0.0
    varied: float = 0.0
    broken: float = 0.0


CLEAN = Mixture()


@dataclass(frozen=True)
class TrainingText:
    """Images and the content of each (the scene, or the family of a figure), the user's text and the completion."""

    images: tuple[Image.Image, ...]
    shown: tuple[Scene | str, ...]
    prompt: str
    completion: str


def completion(row: Example) -> str:
    """The right completion of a synthetic example."""
    return wrap(row.metadata["cot"], row.answer)


def lesson_row(lesson: Lesson, index: int) -> Example:
    """The problem of training example ``index``; rows of held-out families are skipped. Pure."""
    name = "counting" if lesson == "colors" else lesson
    number = 10 * index
    while True:
        row = GENERATORS[name]("train", number, SEED, IMAGE_SIZE)
        if row.metadata["family"] not in HELD_OUT[name] and (lesson != "colors" or _COLORED.match(row.metadata["cot"])):
            return row
        number += 1


def example(lesson: Lesson, index: int, mixture: Mixture = CLEAN) -> TrainingText:
    """Training example ``index``. Pure."""
    rng = random.Random(f"lesson/{lesson}/{index}")
    if lesson == "reading":
        return _reading(rng)
    if lesson == "changes":
        return _many_changes(rng)
    row = lesson_row(lesson, index)
    cot, answer = _reasoning(rng, lesson, row, mixture)
    text = _broken(rng, cot, answer) if rng.random() < mixture.broken else wrap(cot, answer)
    task = TASKS["counting" if lesson == "colors" else lesson]
    return TrainingText(row.images, _shown(row), task.prompt(row), text)


def _reasoning(rng: random.Random, lesson: str, row: Example, mixture: Mixture) -> tuple[str, str]:
    """Reasoning and answer, right or wrong as the mixture says."""
    skill = "skill" in row.metadata
    if rng.random() < (mixture.unskilled if skill else mixture.wrong.get(lesson, 0.0)):
        return row.metadata["without_skill"] if skill else _WRONG[lesson](row)
    if rng.random() < mixture.varied:
        return rng.choice(row.metadata["variants"]), row.answer
    return row.metadata["cot"], row.answer


_COLORED = re.compile(rf"Find (object not )?({'|'.join(COLORS)}) object")  # "red object" is harder to learn than "cube"


def _shown(row: Example) -> tuple[Scene | str, ...]:
    scene = row.metadata["scene"]
    if "objects" not in scene:
        return (row.metadata["family"],)
    pictures = [scene[key] for key in ("objects", "final") if key in scene]
    return tuple(
        [Thing(o["shape"], o["size"], o["color"], o["material"], *o["position"]) for o in picture]
        for picture in pictures
    )


def tokenizer_texts(rows: int = 1500) -> list[str]:
    """The training texts of the tokenizer: questions and right completions of every split and family."""
    texts = ["system\n", "user\n", "assistant\n"] * rows
    for name, task in TASKS.items():
        for split in ("train", *task.splits):
            for index in range(rows):
                row = GENERATORS[name](split, index, SEED, 16)
                texts += [row.question, completion(row)]
        texts += [_reading(random.Random(f"{name}/{index}")).completion for index in range(100)]
    return texts + [str(number) for number in range(361) for _ in range(2)]


def wrap(cot: str, answer: str) -> str:
    """A completion in the requested form."""
    return f"<think>{cot}</think>\n<answer>{answer}</answer>"


def _broken(rng: random.Random, cot: str, answer: str) -> str:
    """The same content without the requested form."""
    return rng.choice((f"<answer>{answer}</answer>", f"<think>{cot}</think>\n{answer}", f"{cot}. {answer}"))


def _reading(rng: random.Random) -> TrainingText:
    """A scene of 2 to 5 things on the spatial task's grid, listed cell by cell."""
    cells = sorted(rng.sample(range(9), rng.randint(2, 5)))
    things = [
        Thing(rng.choice(SHAPES), rng.choice(SIZES), rng.choice(COLORS), rng.choice(MATERIALS), c % 3 - 1, c // 3 - 1)
        for c in cells
    ]
    seen = ", ".join(f"{cell(t)} {t.shape} {t.size} {t.color}" for t in things)
    return TrainingText((render(things, IMAGE_SIZE),), (things,), "List the objects.", f"<think> {seen}</think>")


def _many_changes(rng: random.Random) -> TrainingText:
    """A spatial problem in which most things change, so that copying the given attributes does not help."""
    initial = synthetic_spatial.scene(rng)
    changes: list[synthetic_spatial.Change] = []
    while not 1 <= len(changes) <= 4:  # the number that the prompt allows
        state, changes = initial, []
        for index in range(len(initial)):
            moves = rng.random() < 0.35  # a thing that moves keeps its looks, so that it can be identified
            for what in ("position",) if moves else ("size", "color", "shape"):
                possible = synthetic_spatial.options(state, index, what)
                if possible and rng.random() < (0.9 if moves else 0.4):
                    changes.append(rng.choice(possible))
                    state = changes[-1].apply(state)
    row = synthetic_spatial.row("", "", initial, changes, "center", IMAGE_SIZE)
    return TrainingText(row.images, _shown(row), TASKS["spatial"].prompt(row), completion(row))


def _count_everything(row: Example) -> tuple[str, str]:
    """Counts every object, whatever the question asks for."""
    listed = re.split(r": |\. Total ", row.metadata["cot"])[1]
    names = [item.rsplit(" ", 2)[0] for item in listed.split(", ")]
    seen = ", ".join(f"{name} yes {i}" for i, name in enumerate(names, 1))
    return f"Find all: {seen}. Total {len(names)}", str(len(names))


def _mistake_relation(row: Example) -> tuple[str, str]:
    """Takes vertical and corresponding angles for complementary ones, and all others for vertical angles."""
    first = row.metadata["scene"]["given"][0]
    cot, value = f"vertical angles: {first}", first
    if row.metadata["family"] in ("vertical", "corresponding"):
        value = abs(90 - first)
        cot = f"right angle: {max(90, first)} - {min(90, first)} = {value}"
    if row.kind != "choice":
        return cot, str(value)
    letters = {int(v): letter for letter, v in re.findall(r"\(([A-D])\) (\d+)", row.question)}
    if value not in letters:
        return row.metadata["cot"], row.answer
    return f"{cot}. {value} is {letters[value]}", letters[value]


_WRONG = {"counting": _count_everything, "structure": _mistake_relation}
