"""Built-in counting problems: CLEVR-Math questions about rendered scenes; the OOD split has other shapes.

``metadata["scene"]`` is ``{"objects": [{"id", "shape", "size", "color", "material", "position": [x, y]}, ...]}`` in the
order of ``metadata["cot"]``, row by row from the front. ``source.py`` explains the other keys.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ekipl.algorithm.types import Example
from ekipl.data.synthetic.scenes import COLORS, MATERIALS, OTHER_SHAPES, SHAPES, SIZES, Thing, cell, record, render

FAMILIES = ("count", "subtract", "subtract_two", "add", "add_dozen")
WEIGHTS = (0.4, 0.25, 0.05, 0.25, 0.05)
HELD_OUT_FAMILIES = ("add_dozen",)  # "Add 12 ...", the only answers above 9; not in the training data of model=tiny


@dataclass(frozen=True)
class Kind:
    """The things that a question names: by colour, by shape, by both, or (both None) any object."""

    color: str | None = None
    shape: str | None = None

    def __str__(self) -> str:
        """``red cube``; for any object ``object``."""
        return self.words(1)

    def words(self, number: int = 2) -> str:
        """``red cubes``, or ``red cube`` for one."""
        noun = self.shape or "object"
        return f"{self.color + ' ' if self.color else ''}{noun}{'' if number == 1 else 's'}"

    def holds(self, thing: Thing) -> bool:
        """Whether ``thing`` is of this kind."""
        return self.color in (None, thing.color) and self.shape in (None, thing.shape)


@dataclass(frozen=True)
class Query:
    """A question. Its answer is ``plus`` and the number of things of kind ``whole`` that are of no kind in ``but``."""

    text: str
    whole: Kind
    but: tuple[Kind, ...] = ()
    plus: int = 0

    def counts(self, thing: Thing) -> bool:
        """Whether ``thing`` counts."""
        return self.whole.holds(thing) and not any(kind.holds(thing) for kind in self.but)

    def answer(self, things: Sequence[Thing]) -> int:
        """The gold answer for this scene."""
        return self.plus + sum(map(self.counts, things))


def generate(split: str, index: int, seed: int, image_size: int) -> Example:
    """Problem ``index`` of a split (``train``, ``id`` or ``ood``). Pure."""
    rng = random.Random(f"counting/{split}/{seed}/{index}")
    shapes = OTHER_SHAPES if split == "ood" else SHAPES
    family = rng.choices(FAMILIES, WEIGHTS)[0]
    while True:
        things = _scene(rng, shapes)
        query = _query(rng, family, things, shapes)
        answer = query.answer(things)
        if answer > query.plus and answer not in _chance_hits(things, query):
            break
    image, metadata = render(things, image_size), _metadata(family, things, query)
    return Example(f"counting-{split}-{index}", (image,), query.text, str(answer), "number", metadata)


def cot(things: Sequence[Thing], query: Query, wrong: Collection[Thing] = ()) -> str:
    """The kind that counts, then every thing in the order given: cell, looks, yes or no, the count so far.

    For instance ``Find object not red cube: a1 red cube no 0, c2 blue cube yes 1. Total 1``. The things in ``wrong``
    are judged wrongly.
    """
    seen, total = [], 0
    for thing in things:
        counts = query.counts(thing) != (thing in wrong)
        total += counts
        seen.append(f"{cell(thing)} {thing.color} {thing.shape} {'yes' if counts else 'no'} {total}")
    what = " not ".join(map(str, (query.whole, *query.but)))
    plus = f" + {query.plus} = {total + query.plus}" if query.plus else ""
    return f"Find {what}: {', '.join(seen)}. Total {total}{plus}"


def _metadata(family: str, things: list[Thing], query: Query) -> dict[str, object]:
    across = sorted(things, key=lambda thing: (round(thing.x), round(thing.y)))
    mistakes = []
    for thing in things:  # one is misjudged, or one that counts is overlooked
        mistakes.append(_solution(things, query, (thing,)))
        if query.counts(thing):
            mistakes.append(_solution([other for other in things if other is not thing], query))
    metadata: dict[str, object] = {
        "family": family,
        "cot": cot(things, query),
        "variants": sorted(
            {cot(order, query) for order in (things[::-1], across, across[::-1])} - {cot(things, query)}
        ),
        "mistakes": mistakes,
        "scene": {"objects": record(things)},
    }
    if query.plus or query.but:
        metadata["skill"] = [" + "] if query.plus else [" not "]
        metadata["without_skill"] = _solution(things, replace(query, but=(), plus=0))
    return metadata


def _solution(things: Sequence[Thing], query: Query, wrong: Collection[Thing] = ()) -> tuple[str, str]:
    """Reasoning and the answer that follows from it."""
    reasoning = cot(things, query, wrong)
    return reasoning, reasoning.rsplit(" ", 1)[1]


def _chance_hits(things: list[Thing], query: Query) -> set[int]:
    """The answers of wrong rules: everything counts, the step of the question is left out, or both."""
    whole, everything = sum(map(query.whole.holds, things)), len(things)
    skipped = {whole} if query.plus or query.but else set()
    return {everything, everything + query.plus} | skipped


def _scene(rng: random.Random, shapes: tuple[str, ...]) -> list[Thing]:
    """2 to 6 things on a 3 x 3 grid, with few colours and shapes, so that most answers are above 1."""
    colors = rng.sample(COLORS, rng.choice((2, 3, 3, 4)))
    things: list[Thing] = []
    for place in sorted(rng.sample(range(9), rng.randint(2, 6))):
        x, y = (k - 1 + rng.uniform(-0.12, 0.12) for k in (place % 3, place // 3))
        look = (rng.choice(shapes), rng.choice(SIZES), rng.choice(colors), rng.choice(MATERIALS))
        things.append(Thing(*look, round(x, 3), round(y, 3), round(rng.uniform(0, 1.57), 3)))
    return things


def _query(rng: random.Random, family: str, things: list[Thing], shapes: tuple[str, ...]) -> Query:
    kind = _kind(rng, things, shapes)
    if family == "count":
        return Query(f"How many {kind.words()} are there?", kind)
    if family in ("add", "add_dozen"):
        number = 12 if family == "add_dozen" else rng.randint(1, 3)
        whole = rng.choice((kind, Kind(shape=kind.shape), Kind(color=kind.color)))
        text = f"Add {number} {kind.words(number)}. How many {whole.words()} {rng.choice(('are there', 'exist'))}?"
        return Query(text, whole, plus=number)
    if family == "subtract":
        whole = rng.choice((Kind(), Kind(), Kind(shape=kind.shape), Kind(color=kind.color)))
        text = f"Subtract all {kind.words()}. How many {whole.words()} are left?"
        return Query(text, whole, (kind,))
    other = kind
    while other == kind:
        other = _kind(rng, things, shapes)
    text = f"Subtract all {kind.words()}. Subtract all {other.words()}. How many objects are left?"
    return Query(text, Kind(), (kind, other))


def _kind(rng: random.Random, things: list[Thing], shapes: tuple[str, ...]) -> Kind:
    """The kind of a random thing of the scene; in one of ten draws a random colour and shape."""
    model = rng.choice(things)
    color, shape = model.color, model.shape
    if rng.random() < 0.1:
        color, shape = rng.choice(COLORS), rng.choice(shapes)
    return rng.choices((Kind(color=color), Kind(shape=shape), Kind(color, shape)), (2, 2, 1))[0]
