"""Built-in spatial problems: two images of a few things on a 3 x 3 grid; the answer turns the first into the second.

``metadata["scene"]`` is the input of ``ekipl.reward.simulate``::

    {"objects": [{"id", "shape", "size", "color", "material", "position": [x, y]}, ...],  # initial; id = list index
     "final": [...the same, after the answer...],
     "grid": {"x": [-1, 1], "y": [-1, 1], "step": 1}}  # inclusive limits, whole numbers

x grows to the right and y away from the centre camera, so ``behind`` is y + step. No two things share a position.
``source.py`` explains the other keys.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from ekipl.algorithm.types import Example
from ekipl.data.synthetic.scenes import COLORS, LOOKS, MATERIALS, SHAPES, SIZES, Camera, Thing, cell, record, render
from ekipl.reward.simulate import DIRECTIONS

FAMILIES = ("change_color", "change_size", "change_shape", "change_position", "two_changes", "change_material")
WEIGHTS = (0.15, 0.12, 0.13, 0.4, 0.15, 0.05)
HELD_OUT_FAMILIES = ("change_material",)  # not in the training data of model=tiny
CELLS = tuple((x, y) for y in (-1, 0, 1) for x in (-1, 0, 1))
CAMERAS: dict[str, Camera] = {"train": "center", "id": "center", "ood_left": "left", "ood_right": "right"}
QUESTION = "What is the transformation that changes the initial state to the final state?"

State = tuple[Thing, ...]


@dataclass(frozen=True)
class Change:
    """One function of the answer: ``change_{what}(id, value)``."""

    id: int
    what: str
    value: str

    def __str__(self) -> str:
        """The function as an answer writes it."""
        return f"change_{self.what}({self.id}, {self.value})"

    def apply(self, state: State) -> State:
        """The state after this change."""
        thing = state[self.id]
        if self.what == "position":
            dx, dy = DIRECTIONS[self.value]
            moved = replace(thing, x=thing.x + dx, y=thing.y + dy)
        else:
            moved = Thing(**(asdict(thing) | {self.what: self.value}))
        return (*state[: self.id], moved, *state[self.id + 1 :])


def generate(split: str, index: int, seed: int, image_size: int) -> Example:
    """Problem ``index`` of a split (``train``, ``id``, ``ood_left``, ``ood_right``). Pure."""
    rng = random.Random(f"spatial/{split}/{seed}/{index}")
    family = rng.choices(FAMILIES, WEIGHTS)[0]
    initial = scene(rng)
    return row(f"spatial-{split}-{index}", family, initial, _changes(rng, family, initial), CAMERAS[split], image_size)


def row(name: str, family: str, initial: State, changes: Sequence[Change], camera: Camera, image_size: int) -> Example:
    """The example whose answer is ``changes``; ``camera`` takes the final image."""
    final = after(initial, changes)
    images = (render(initial, image_size), render(final, image_size, camera))
    tuples = ", ".join(f"({i}, {t.shape}, {t.size}, {t.color}, {t.material})" for i, t in enumerate(initial))
    metadata = {
        "family": family,
        "cot": _cot(initial, final),
        "variants": [_cot(initial, final, backwards=True)],
        "mistakes": [_solution(initial, wrong) for wrong in _mistakes(initial, changes)],
        "scene": {
            "objects": record(initial),
            "final": record(final),
            "grid": {"x": [-1, 1], "y": [-1, 1], "step": 1},
        },
    }
    if any(change.what == "position" for change in changes):
        metadata["skill"] = [f" {way} " for way in DIRECTIONS]
        metadata["without_skill"] = _solution(initial, [_taken_for_size(initial, change) for change in changes])
    question = f"The attributes of the initial objects are: {tuples}. {QUESTION}"
    return Example(name, images, question, ", ".join(map(str, changes)), "functions", metadata)


def after(initial: State, changes: Sequence[Change]) -> State:
    """The state after all changes."""
    for change in changes:
        initial = change.apply(initial)
    return initial


def scene(rng: random.Random) -> State:
    """2 or 3 things on different cells, with different colours and different pairs of shape and size."""
    number = rng.choice((2, 3))
    while True:
        state = tuple(
            Thing(rng.choice(SHAPES), rng.choice(SIZES), color, rng.choice(MATERIALS), x, y)
            for color, (x, y) in zip(rng.sample(COLORS, number), rng.sample(CELLS, number), strict=True)
        )
        if len({(t.shape, t.size) for t in state}) == number:
            return state


def _changes(rng: random.Random, family: str, initial: State) -> tuple[Change, ...]:
    """One change of the family's kind, or a move and a new colour or shape; moves end on free cells of the grid."""
    kinds = ("color", "shape", "position")
    two = [rng.choice(("color", "shape")), "position"]
    chosen = two if family == "two_changes" else [family.removeprefix("change_")]
    while True:
        state, changes = initial, []
        for what in chosen:
            possible = options(state, rng.randrange(len(state)), what)
            if possible:
                changes.append(rng.choice(possible))
                state = changes[-1].apply(state)
        if len(changes) == len(chosen):
            return tuple(sorted(changes, key=lambda c: (c.id, kinds.index(c.what) if c.what in kinds else 0)))


def options(state: State, index: int, what: str) -> list[Change]:
    """Every allowed change of one attribute (or the position) of one thing."""
    thing = state[index]
    if what != "position":
        taken = {t.color for t in state} if what == "color" else {getattr(thing, what)}
        return [Change(index, what, value) for value in LOOKS[what] if value not in taken]
    free = set(CELLS) - {(t.x, t.y) for t in state}
    return [Change(index, what, way) for way, (dx, dy) in DIRECTIONS.items() if (thing.x + dx, thing.y + dy) in free]


def _mistakes(initial: State, changes: Sequence[Change]) -> list[list[Change]]:
    """The changes with another value for one of them, or where there is none, of a thing that does not change."""
    still = sorted({*range(len(initial))} - {change.id for change in changes})
    wrong = []
    for i, change in enumerate(changes):
        here = [other for other in options(initial, change.id, change.what) if other != change]
        there = (other for thing in still for other in options(initial, thing, change.what))
        wrong += [[*changes[:i], other, *changes[i + 1 :]] for other in here or there]
    return wrong


def _taken_for_size(initial: State, change: Change) -> Change:
    """A move taken for a change to the next size; other changes as they are."""
    if change.what != "position":
        return change
    return Change(change.id, "size", SIZES[(SIZES.index(initial[change.id].size) + 1) % len(SIZES)])


def _solution(initial: State, changes: Sequence[Change]) -> tuple[str, str]:
    """Reasoning and the answer that follows from it."""
    return _cot(initial, after(initial, changes)), ", ".join(map(str, changes))


def _cot(initial: State, final: State, backwards: bool = False) -> str:
    """Cell, shape, size and colour of every thing, before and after: ``0 b2 b3 behind cube cube small large size``.

    The things are in the order of the question's tuples, or backwards. A pair that differs is followed by the attribute
    that changed, or by the direction of the move. The material is named only where it changed.
    """
    lines = []
    for i, (before, after) in enumerate(zip(initial, final, strict=True)):
        words = [str(i), cell(before), cell(after)]
        if cell(before) != cell(after):
            words.append(_WAYS[int(after.x - before.x), int(after.y - before.y)])
        for what in ("shape", "size", "color", "material"):
            was, now = getattr(before, what), getattr(after, what)
            if what != "material" or now != was:
                words += [was, now] if now == was else [was, now, what]
        lines.append(" ".join(words))
    return ", ".join(lines[::-1] if backwards else lines)


_WAYS = {step: name for name, step in DIRECTIONS.items()}
