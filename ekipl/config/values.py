"""The composed values as rules read them, and as messages show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any


class Values(dict[str, Any]):
    """A section without the values that have an error of their own. Keys may be dotted; a missing one is a KeyError."""

    def __missing__(self, key: str) -> Any:
        first, dot, rest = key.partition(".")
        if not dot:
            raise KeyError(key)
        return self[first][rest]


def without(refused: Set[str], value: Any, path: str = "") -> Any:
    """The values without those whose dotted keys are ``refused``, and without lists that hold one of them."""
    if isinstance(value, list):
        return [without(refused, item, f"{path}{number}.") for number, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    listed = {key: range(len(item)) if isinstance(item, list) else () for key, item in value.items()}
    errors = {key for key in value if refused & {f"{path}{key}", *(f"{path}{key}.{n}" for n in listed[key])}}
    return Values({key: without(refused, item, f"{path}{key}.") for key, item in value.items() if key not in errors})


Rule = Callable[[Values], Iterator[str]]


def shown(value: object) -> str:
    """A value as a message shows it."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value) or "''"
    text = text if text.isprintable() else repr(text)  # one line each
    return text if len(text) <= 80 else text[:77] + "..."
