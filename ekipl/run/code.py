"""Digests of the user's own code that settings name, so that no run goes on with other code than it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.config.checking import names_in
from ekipl.errors import UsageError
from ekipl.files import write_json
from ekipl.importing import file_of, is_import_path
from ekipl.reward.graders import JUDGE
from ekipl.run.resume import has_begun

if TYPE_CHECKING:
    from ekipl.config import Settings

FILE = "code.json"  # in the run directory


def digests(settings: Settings) -> dict[str, str]:
    """SHA-256 of each file of the user's own that the settings name, by ``setting: value``.

    These are the files of import paths, and the template of a judge that is asked; not what they import themselves.
    """
    found = {}
    for key, value in _named(settings):
        file = file_of(value) if is_import_path(value) else Path(value).expanduser()
        if file is not None and file.is_file():
            found[f"{key}: {value}"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def asks_judge(settings: Settings) -> bool:
    """Whether the settings name the judge."""
    return JUDGE in (*settings.rewards, *(settings.also_grade_with or ()))


def _named(settings: Settings) -> Iterator[tuple[str, str]]:
    yield from ((key, value) for key, value, _ in names_in(settings) if is_import_path(value))
    if ":" in (task := str(settings.task.get("_target_", ""))):
        yield "task._target_", task
    if settings.judge.template is not None and asks_judge(settings):
        yield "judge.template", settings.judge.template


def refuse_other_code(directory: Path, now: Mapping[str, str]) -> None:
    """Raises UsageError when the run in ``directory`` has results of other code."""
    if not has_begun(directory):
        return
    try:
        before = json.loads((directory / FILE).read_text())
    except (OSError, ValueError):  # of an earlier version
        return
    if changed := [name for name in now if name in before and before[name] != now[name]]:
        raise UsageError(
            f"hydra.run.dir: {directory}: {'; '.join(changed)}: the file has changed since the run began, and its "
            f"results would be of two kinds; restore the file, or give another directory (with model.path={directory} "
            "it begins from this model)"
        )


def keep(directory: Path, now: Mapping[str, str]) -> None:
    """Write the digests into the run directory, where there are any."""
    if now:
        write_json(directory / FILE, dict(now))
