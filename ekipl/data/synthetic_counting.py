"""Built-in counting problems: CLEVR-Math questions over rendered scenes; out of distribution, other kinds of things.

``metadata["scene"]`` is ``{"objects": [{"id", "shape", "size", "color", "material", "position": [x, y]}, ...]}`` in the
order of the chain of thought, left to right in the picture.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ekipl.actions import Row
from ekipl.data.scenes import COLORS, MATERIALS, OTHER_SHAPES, SHAPES, SIZES, Thing, record, render

FAMILIES = ("count", "subtract", "subtract_two", "add", "add_dozen")
WEIGHTS = (0.3, 0.25, 0.1, 0.2, 0.15)
HELD_OUT_FAMILIES = ("add_dozen",)  # "Add 12 ...": the only answers above 9; no training of model=tiny has seen them
SLOTS = 7  # columns across the ground; a scene fills some of them, one thing each
SLOT_WIDTH = 0.44


@dataclass(frozen=True)
class Kind:
    """What a question speaks of: a colour, a shape, both, or (neither) any object."""

    color: str | None = None
    shape: str | None = None

    def words(self, number: int = 2) -> str:
        """``red cubes``, or ``red cube`` for one."""
        noun = self.shape or "object"
        return f"{self.color + ' ' if self.color else ''}{noun}{'' if number == 1 else 's'}"

    def holds(self, thing: Thing) -> bool:
        """Whether ``thing`` is of this kind."""
        return self.color in (None, thing.color) and self.shape in (None, thing.shape)


@dataclass(frozen=True)
class Query:
    """A question with its meaning: the answer is ``plus`` and the number of things that count."""

    text: str
    counts: Callable[[Thing], bool]
    plus: int = 0


def generate(split: str, index: int, seed: int, image_size: int) -> Row:
    """Problem ``index`` of a split (``train``, ``id`` or ``ood``); a pure function of its arguments.

    Raises:
        ValueError: the split is none of the three.
    """
    if split not in ("train", "id", "ood"):
        raise ValueError(f"split {split!r}: counting has train, id and ood")
    rng = random.Random(f"counting/{split}/{seed}/{index}")
    shapes = OTHER_SHAPES if split == "ood" else SHAPES
    family = rng.choices(FAMILIES, WEIGHTS)[0]
    things = _scene(rng, shapes)
    query = _query(rng, family, things, shapes)
    answer = query.plus + sum(map(query.counts, things))
    metadata = {"family": family, "cot": cot(things, query.counts, query.plus), "scene": {"objects": record(things)}}
    image = render(things, image_size)
    return Row(f"counting-{split}-{index}", (image,), query.text, str(answer), "number", metadata)


def cot(things: list[Thing], counts: Callable[[Thing], bool], plus: int) -> str:
    """Every thing from left to right with its column and the count so far: ``Seen: a red cube 1. Total 1``."""
    seen, total = [], 0
    for thing in things:
        total += counts(thing)
        column = "abcdefg"[round(thing.x / SLOT_WIDTH + (SLOTS - 1) / 2)]
        seen.append(f"{column} {thing.color} {thing.shape} {total}")
    return f"Seen: {', '.join(seen)}. Total {total}" + (f" + {plus} = {total + plus}" if plus else "")


def _scene(rng: random.Random, shapes: tuple[str, ...]) -> list[Thing]:
    """2 to 6 things from left to right, with few colours and shapes, so that most questions count more than one."""
    colors = rng.sample(COLORS, rng.choice((2, 3, 3, 4)))
    columns = sorted(rng.sample(range(SLOTS), rng.randint(2, 6)))
    things: list[Thing] = []
    for column in columns:
        x = (column - (SLOTS - 1) / 2) * SLOT_WIDTH + rng.uniform(-0.06, 0.06)
        y = rng.uniform(-1.3, 1.3)
        while any(abs(t.x - x) < 0.7 and abs(t.y - y) < 0.85 for t in things[-1:]):
            y = rng.uniform(-1.3, 1.3)
        look = (rng.choice(shapes), rng.choice(SIZES), rng.choice(colors), rng.choice(MATERIALS))
        things.append(Thing(*look, round(x, 3), round(y, 3), round(rng.uniform(0, 1.57), 3)))
    return things


def _query(rng: random.Random, family: str, things: list[Thing], shapes: tuple[str, ...]) -> Query:
    kind = _kind(rng, things, shapes)
    if family == "count":
        return Query(f"How many {kind.words()} are there?", kind.holds)
    if family in ("add", "add_dozen"):
        number = 12 if family == "add_dozen" else rng.randint(1, 3)
        whole = rng.choice((kind, Kind(shape=kind.shape), Kind(color=kind.color)))
        text = f"Add {number} {kind.words(number)}. How many {whole.words()} {rng.choice(('are there', 'exist'))}?"
        return Query(text, whole.holds, number)
    if family == "subtract":
        whole = rng.choice((Kind(), Kind(), Kind(shape=kind.shape), Kind(color=kind.color)))
        text = f"Subtract all {kind.words()}. How many {whole.words()} are left?"
        return Query(text, lambda t: whole.holds(t) and not kind.holds(t))
    other = kind
    while other == kind:
        other = _kind(rng, things, shapes)
    text = f"Subtract all {kind.words()}. Subtract all {other.words()}. How many objects are left?"
    return Query(text, lambda t: not kind.holds(t) and not other.holds(t))


def _kind(rng: random.Random, things: list[Thing], shapes: tuple[str, ...]) -> Kind:
    """Mostly after a thing that is there; now and then anything."""
    model = rng.choice(things)
    color, shape = model.color, model.shape
    if rng.random() < 0.1:
        color, shape = rng.choice(COLORS), rng.choice(shapes)
    return rng.choice((Kind(color=color), Kind(shape=shape), Kind(color, shape)))
