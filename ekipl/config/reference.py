"""The meaning of every setting, read from the docstrings of the dataclasses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import Tag


@dataclass(frozen=True)
class Key:
    """One setting.

    Attributes:
        name: dotted; an item of a list is ``.0``.
        meaning: one sentence, with the unit.
        owner: the dataclass that has it.
    """

    name: str
    meaning: str
    owner: type


def keys(section: type, prefix: str = "") -> Iterator[Key]:
    """The settings below a dataclass, in the order of its fields; of a union, those of all its classes."""
    hints, meanings = get_type_hints(section, include_extras=True), attributes(section)
    for field in fields(section):
        if "home" in field.metadata:  # the setting stands elsewhere
            continue
        parts = list(parts_of(hints[field.name]))
        if not parts or type(None) in get_args(hints[field.name]):
            yield Key(prefix + field.name, meanings[field.name], section)
        for inner, part in parts:
            yield from keys(part, f"{prefix}{field.name}{inner}.")


def parts_of(hint: Any) -> Iterator[tuple[str, type]]:
    """The dataclasses that a setting of this type may be; that of a list's item has ``.0`` in front."""
    if isinstance(hint, type) and is_dataclass(hint):
        yield "", hint
        return
    is_list = getattr(hint, "__origin__", None) is tuple
    for part in get_args(hint):
        yield from (((".0" if is_list else ""), found) for _, found in parts_of(part))


def tags_of(hint: Any) -> set[str]:
    """The names by which pydantic tells the classes of a union apart."""
    notes = (note for part in get_args(hint) for member in get_args(part) for note in get_args(member)[1:])
    return {note.tag for note in notes if isinstance(note, Tag)}


def attributes(section: type) -> dict[str, str]:
    """Field -> meaning, from the ``Attributes:`` of the docstrings of a dataclass and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        lines = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", lines, flags=re.MULTILINE):
            found[name] = " ".join(text.split())
    return found
