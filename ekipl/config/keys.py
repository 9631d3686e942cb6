"""The keys of the settings, read from the types of the dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import Tag


def keys(section: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Dotted key and dataclass of each setting, in the order of the fields; of a union, those of all its classes.

    An item of a list is ``.0``.
    """
    hints = get_type_hints(section, include_extras=True)
    for field in fields(section):
        if "home" in field.metadata:  # the setting stands elsewhere
            continue
        parts = list(parts_of(hints[field.name]))
        if not parts or type(None) in get_args(hints[field.name]):
            yield prefix + field.name, section
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
