"""Rules of models: a path is first of all a path, and what lies there is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from ekipl.config.values import Values
from ekipl.policy.folders import content, not_merged

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def policy(v: Values) -> Iterator[str]:
    """Errors of ``model.path``."""
    yield from model_path("model.path", v["model.path"])


def compared_models(v: Values) -> Iterator[str]:
    """Errors of ``models``."""
    for number, path in enumerate(v["models"]):
        yield from model_path(f"models.{number}", path)


def model_path(key: str, path: str) -> Iterator[str]:
    """Nothing when ``path`` is the built-in model, the folder of a model, run or checkpoint, or may be a hub's name."""
    if path == "tiny":
        return
    folder = Path(path).expanduser()
    kind = content(folder)
    if kind == "model":
        if not any(folder.glob("*.safetensors")):
            yield f"{key}: {path}: holds no weights in safetensors files; name a folder that does"
    elif kind == "adapter":
        if not (folder / "model" / "config.json").is_file():
            yield f"{key}: {not_merged(path)}"
    elif kind == "nothing":
        if folder.exists():
            yield f"{key}: {path}: no model, for it holds no config.json; name a folder that does"
        elif is_path(path):
            yield (
                f"{key}: {path}: no such folder{_meant(folder)}; name a model folder, ORGANISATION/NAME on the hub, "
                "or tiny"
            )


def is_path(path: str) -> bool:
    """Whether ``path`` cannot be a name on the hub: by its form, or because its parent folder exists."""
    return not HUB_NAME.fullmatch(path) or path[0] in ".~" or Path(path).parent.is_dir()


def _meant(folder: Path) -> str:
    """What stands beside the missing folder and has a name like it."""
    try:
        beside = [each.name for each in folder.parent.iterdir() if each.is_dir()]
    except OSError:
        return ""
    close = get_close_matches(folder.name, beside, n=1)
    return f" (did you mean {folder.parent / close[0]}?)" if close else ""
