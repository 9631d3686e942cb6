"""What functions do to a scene: whether a transformation leads from its initial to its final state, step by step.

Several answers can be right, and their order can matter: nothing can move onto another thing or off the grid, not even
on the way. A scene is plain data, as ``ekipl.data.synthetic.spatial`` writes it; its ``grid`` may also have ``steps``
(a move is one of these many, where the answer does not say how many: TRANCE has [1, 2]) and ``directions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ekipl.reward.parse import Function

Scene = Mapping[str, Any]
State = dict[str, dict[str, Any]]  # things by id

VALUES = {
    "size": ("small", "medium", "large"),
    "color": ("yellow", "gray", "cyan", "blue", "brown", "green", "red", "purple"),
    "material": ("glass", "metal", "rubber"),
    "shape": ("cube", "sphere", "cylinder"),
}
DIRECTIONS = {  # in steps along the two axes of a position: to the right, and away from the centre camera
    "front": (0, -1),
    "behind": (0, 1),
    "left": (-1, 0),
    "right": (1, 0),
    "front_left": (-1, -1),
    "front_right": (1, -1),
    "behind_left": (-1, 1),
    "behind_right": (1, 1),
}
ANSWERS = 4096  # states that are followed at once; only scenes with several ``steps`` ever have more than one


def reaches(scene: Scene, functions: Sequence[Function]) -> bool:
    """Whether the functions, done one after another, are all possible and end in the scene's final state.

    Args:
        scene: ``objects`` and ``final`` (things with ``id``, looks and ``position``) and ``grid`` (inclusive limits
            ``x`` and ``y`` of the two coordinates, and the length of a ``step``).
        functions: as ``ekipl.reward.parse.functions`` reads them, in the order of the answer.
    """
    states = [_state(scene["objects"])]
    for function in functions:
        states = [after for state in states for after in _after(state, function, scene["grid"])][:ANSWERS]
    return _state(scene["final"]) in states


def _state(things: Iterable[Mapping[str, Any]]) -> State:
    return {
        str(thing["id"]): {**thing, "id": str(thing["id"]), "position": list(thing["position"])} for thing in things
    }


def _after(state: State, function: Function, grid: Mapping[str, Any]) -> Iterator[State]:
    """The states that the function can lead to; none where it is not possible."""
    thing = state.get(function.object)
    if thing is None or not function.name.startswith("change_"):
        return
    what, value = function.name.removeprefix("change_"), function.value
    if value in VALUES.get(what, ()):
        yield {**state, function.object: {**thing, what: value}}
    directions = grid.get("directions", DIRECTIONS)
    if what == "position" and value in directions:
        for steps in grid.get("steps", (1,)):
            way = (grid["step"] * steps * along for along in directions[value])
            place = [at + by for at, by in zip(thing["position"], way, strict=True)]
            limits = zip(place, (grid["x"], grid["y"]), strict=True)
            taken = any(other["position"] == place for other in state.values())
            if not taken and all(low <= at <= high for at, (low, high) in limits):
                yield {**state, function.object: {**thing, "position": place}}
