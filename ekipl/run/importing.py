"""A part of the user's own, named in the settings by an import path in place of a built-in name."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path
from typing import Any

from ekipl.errors import UsageError

FORM = "write package.module:name or FILE.py:name"


def imported(key: str, value: str) -> Any:
    """The object at ``package.module:name`` or ``FILE.py:name``.

    Args:
        key: the setting, for the message.
        value: the path. A module is found as Python finds it, so ``PYTHONPATH`` must hold its folder.

    Raises:
        UsageError: there is no such module, file or name, or the import fails.
    """
    place, _, name = value.rpartition(":")
    if not place or not name:
        raise UsageError(f"{key}: {value}: no import path; {FORM}")
    try:
        is_file = place.endswith(".py")
        found = runpy.run_path(str(Path(place).expanduser())) if is_file else vars(importlib.import_module(place))
    except Exception as error:  # whatever the user's file raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{key}: {value}: cannot be imported ({reason}); {FORM}") from error
    if name not in found:
        raise UsageError(f"{key}: {value}: {place} has no {name}; {FORM}")
    return found[name]
