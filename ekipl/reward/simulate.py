"""The vocabulary of spatial scenes, and a simulator: whether functions lead from the initial to the final state.

Several answers can be right, and their order can matter: no object may leave the grid or enter an occupied cell, at
any step. A scene is plain data, as ``ekipl.data.synthetic.spatial`` writes it. Its ``grid`` may also have
``directions``, and ``steps``: the possible lengths of a move, where the answer does not state the length (TRANCE has
[1, 2]).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ekipl.reward.parse import Function

Scene = Mapping[str, Any]
State = dict[str, dict[str, Any]]  # objects by id

VALUES = {  # of the attributes, in the order of the prompts
    "size": ("small", "medium", "large"),
    "color": ("yellow", "gray", "cyan", "blue", "brown", "green", "red", "purple"),
    "material": ("glass", "metal", "rubber"),
    "shape": ("cube", "sphere", "cylinder"),
}
DIRECTIONS = {  # steps along the axes x (to the right) and y (away from the centre camera)
    "front": (0, -1),
    "behind": (0, 1),
    "left": (-1, 0),
    "right": (1, 0),
    "front_left": (-1, -1),
    "front_right": (1, -1),
    "behind_left": (-1, 1),
    "behind_right": (1, 1),
}
MOST_STATES = 4096  # states followed at once; a scene with one length of a move has one


def reaches(scene: Scene, functions: Sequence[Function]) -> bool:
    """Whether every function is possible in its turn, and the last one ends in the scene's final state.

    Args:
        scene: ``objects`` and ``final`` (lists of objects with ``id``, attributes and ``position``) and ``grid``
            (inclusive limits ``x`` and ``y`` of the coordinates, and the length of a ``step``).
        functions: the functions of the answer, in its order, from ``ekipl.reward.parse.functions``.
    """
    states = [_state(scene["objects"])]
    for function in functions:
        states = [after for state in states for after in _after(state, function, scene["grid"])][:MOST_STATES]
    return _state(scene["final"]) in states


def _state(things: Iterable[Mapping[str, Any]]) -> State:
    return {
        str(thing["id"]): {**thing, "id": str(thing["id"]), "position": list(thing["position"])} for thing in things
    }


def _after(state: State, function: Function, grid: Mapping[str, Any]) -> Iterator[State]:
    """The possible states after the function; none if it is not possible."""
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
