"""Problems and answers as JSON values: each text, problem and image once, named by its place in a list.

A page must stay small whatever the run. ``Store`` counts the bytes as they come and says when there is no room left;
``groups`` and ``answers`` then take evenly spaced steps and problems instead, and tell what was left out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ekipl.algorithm.types import Action
from ekipl.report.html.parts import Read, Shown
from ekipl.report.html.why import reasons
from ekipl.report.statement import Statement

T = TypeVar("T")
Why = Callable[[Shown], Sequence[str]]
Image = Callable[[str], bytes | None]

LONGEST = 8_000  # characters of a text that are shown; a longer one loses its middle, for answers come at the end
TAIL = 2_000
NUMBER = 8  # bytes of a number in a row, about


class Full(Exception):
    """There is no room left."""


class Store:
    """Lists of texts, images and problems, each once."""

    def __init__(self, room: int, image: Image) -> None:
        """``room`` in bytes; ``image`` gives the WebP file of a name."""
        self.texts: list[str] = []
        self.images: list[str | None] = []
        self.problems: list[list[Any]] = []
        self._places: dict[tuple[str, object], int] = {}
        self._left, self._image = room, image

    def take(self, size: int) -> None:
        """Use so many bytes. Raises Full."""
        self._left -= size
        if self._left < 0:
            raise Full

    def _place(self, kind: str, key: object, into: list[Any], make: Callable[[], Any]) -> int:
        place = self._places.get((kind, key))
        if place is None:
            value = make()
            self.take(size_of(value))
            place = self._places[kind, key] = len(into)
            into.append(value)
        return place

    def text(self, text: str) -> int:
        """The place of a text."""
        return self._place("text", text, self.texts, lambda: shortened(text))

    def image(self, name: str) -> int:
        """The place of an image."""
        return self._place("image", name, self.images, lambda: _address(self._image(name)))

    def problem(self, shown: Shown) -> int:
        """The place of a problem: id, split, question, answer, family, images."""
        said = shown.statement or Statement("", "")

        def row() -> list[Any]:
            texts = [shown.id, shown.split, shortened(said.question), shortened(said.answer), said.family]
            return [*texts, [self.image(name) for name in said.images]]

        return self._place("problem", shown.key, self.problems, row)

    def as_dict(self) -> dict[str, Any]:
        """The lists, for the page."""
        return {"texts": self.texts, "images": self.images, "problems": self.problems}


def size_of(value: Any) -> int:
    """Bytes of the value in the page."""
    return len(in_script(value)) + 1


def in_script(value: Any) -> str:
    """The value as JSON that can stand in a script element: no character of it can end the element or a line."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def shortened(text: str) -> str:
    """The text without its middle where it is longer than a page needs."""
    if len(text) <= LONGEST:
        return text
    cut = len(text) - LONGEST
    return f"{text[: LONGEST - TAIL]}\n[... {cut:,} characters are left out here ...]\n{text[-TAIL:]}"


def _address(content: bytes | None) -> str | None:
    return None if content is None else "data:image/webp;base64," + base64.b64encode(content).decode("ascii")


def _row(store: Store, action: Action) -> list[Any]:
    """Source, text, total, format, accuracy, tokens, whether it was cut off, further scores."""
    reward = action.reward
    scores = [None] * 3 if reward is None else [_short(x) for x in (reward.total, reward.format, reward.accuracy)]
    details = ", ".join(f"{name} {value:g}" for name, value in reward.detail.items()) if reward else ""
    return [
        store.text(action.source),
        store.text(action.text),
        *scores,
        None if action.tokens is None else len(action.tokens),
        int(action.finish == "length"),
        store.text(details),
    ]


def _short(value: float) -> float | int:
    rounded = round(value, 4)
    return int(rounded) if rounded == int(rounded) else rounded


def _group(store: Store, shown: Shown, why: Why) -> list[Any]:
    """Problem, refused, and a row for each candidate, with whether it was kept, its advantage and why."""
    rows = []
    for action, kept, gain, reason in zip(shown.actions, shown.kept, shown.advantages, why(shown), strict=True):
        chosen = [None if kept is None else int(kept), None if gain is None else _short(gain), store.text(reason)]
        rows.append(_row(store, action) + chosen)
    group = [store.problem(shown), dict(shown.refused), rows]
    store.take(size_of(group))
    return group


def spaced(items: Sequence[T], count: int) -> list[T]:
    """So many of the items, evenly spaced, the first and the last among them."""
    if count >= len(items):
        return list(items)
    if count <= 1:
        return list(items[-1:])
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def groups(steps: Mapping[int, Read], room: int, image: Image, rule: str, drops: bool) -> dict[str, Any]:
    """The groups of as many evenly spaced steps as fit into ``room`` bytes; at least what fits of the last step."""
    numbers = sorted(steps)
    why: Why = lambda shown: reasons(shown, rule, drops)  # noqa: E731 - a line
    count = len(numbers)
    while True:
        chosen, store, found = spaced(numbers, count), Store(room, image), list[list[Any]]()
        try:
            for number in chosen:
                told: list[list[Any]] = []
                found.append([number, told])
                told += (_group(store, shown, why) for shown in steps[number]())
        except Full:
            if count > 1:
                done = max(len(found) - 1, 0)
                count = max(1, min(count - 1, int(done * 0.97)))
                continue
        return {**store.as_dict(), "steps": found, "of": len(numbers)}


def answers(points: Mapping[str, Read], room: int, image: Image) -> dict[str, Any]:
    """The answers at each point, of as many evenly spaced problems as fit into ``room`` bytes."""
    keys: dict[tuple[object, ...], None] = {}
    for read in points.values():
        keys |= dict.fromkeys(shown.key for shown in read())
    count = len(keys)
    while count:
        wanted, store = set(spaced(list(keys), count)), Store(room, image)
        rows: dict[str, list[list[Any]]] = {name: [] for name in points}
        seen = 0
        try:
            for name, read in points.items():
                for shown in (one for one in read() if one.key in wanted):
                    answer = [store.problem(shown), [_row(store, action) for action in shown.actions]]
                    store.take(size_of(answer))
                    rows[name].append(answer)
                    seen += 1
        except Full:
            count = min(count - 1, int(count * 0.95 * seen / max(1, count * len(points))))
            continue
        return {**store.as_dict(), "points": list(rows.items()), "of": len(keys), "kept": count}
    return {**Store(room, image).as_dict(), "points": [[name, []] for name in points], "of": len(keys), "kept": 0}


def parts_of(found: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about what is not in the page."""
    if "steps" in found and len(found["steps"]) < found["of"]:
        yield f"groups of {len(found['steps'])} evenly spaced steps of {found['of']}"
    if "points" in found and found["kept"] < found["of"]:
        yield f"answers to {found['kept']} evenly spaced problems of {found['of']}"
