"""Import paths: wherever a setting accepts a name, it accepts code of yours (docs/extending.md).

``package.module:name`` is imported; ``FILE.py:name`` is loaded from a file. Settings therefore name code that runs:
take them from people you trust.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ekipl.errors import UsageError

SHOWN = 10  # names in a message
FORM = "write package.module:name or FILE.py:name"


@dataclass(frozen=True, eq=False)
class Named:
    """Annotates a setting that is one of ``names`` or an import path.

    ``misfit`` says why an imported object cannot be what the setting asks for; None where it can.
    """

    names: Collection[str]
    misfit: Callable[[object], str | None] = lambda found: None

    def error(self, key: str, value: str) -> str | None:
        """The line that refuses ``value``, or None. A path is imported to find out."""
        if value in self.names:
            return None
        if not is_import_path(value):
            known = ", ".join(self.names)
            return f"{key}: {value}: unknown; known are {known}; or {FORM}"
        try:
            reason = self.misfit(imported(key, value))
        except UsageError as error:
            return str(error)
        return reason and f"{key}: {value}: {reason}"


def is_import_path(text: str) -> bool:
    """Whether ``text`` has the form package.module:name or FILE.py:name."""
    place, colon, name = text.rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    return bool(colon) and name.isidentifier() and (is_module or place.endswith(".py"))


@cache
def imported(key: str, path: str) -> Any:
    """The object that ``path`` names.

    Args:
        key: the setting, for the message.
        path: package.module:name or FILE.py:name.

    Raises:
        UsageError: no such module, file or name, or an error while it was imported.
    """
    if not is_import_path(path):
        raise UsageError(f"{key}: {path}: no import path; {FORM}")
    place, _, name = path.rpartition(":")
    try:
        module = _load(Path(place).expanduser()) if place.endswith(".py") else importlib.import_module(place)
    except (Exception, SystemExit) as error:  # code of the user's own may fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{key}: {path}: cannot be imported ({reason}); {FORM}") from error
    if not hasattr(module, name):
        raise UsageError(f"{key}: {path}: {place} has no {name}{_those_of(module)}; {FORM}")
    return getattr(module, name)


def _those_of(module: ModuleType) -> str:
    """The functions and classes that a module defines, for a message."""
    own = [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    more = ", ..." if len(own) > SHOWN else ""
    return f" (it has {', '.join(sorted(own)[:SHOWN])}{more})" if own else ""


def file_of(path: str) -> Path | None:
    """The file that holds the code of an import path; None for a module without one, or that was not imported."""
    place = path.rpartition(":")[0]
    if place.endswith(".py"):
        return Path(place).expanduser()
    found = getattr(sys.modules.get(place), "__file__", None)
    return None if found is None else Path(found)


def _load(file: Path) -> ModuleType:
    name = "ekipl_user_" + hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise FileNotFoundError("no such file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
