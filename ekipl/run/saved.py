"""``config.yaml``: the settings as a run directory keeps them, without secrets.

What comes from the environment stays a reference to it. A password or key inside an address becomes such a reference,
to a variable that this process sets; its child processes and the same command find it again.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekipl.errors import UsageError
from ekipl.files import write_text
from ekipl.masking import OWN, SHORTEST, masked, replaced

if TYPE_CHECKING:
    from omegaconf import DictConfig

FROM_ENVIRONMENT = "${oc.env:"


def saved_text(cfg: DictConfig) -> str:
    """The settings as YAML. Sets the environment variables that it refers to, so that messages mask their values."""
    from omegaconf import OmegaConf

    def reference(key: str, secret: str) -> str:
        name = OWN + re.sub(r"\W", "_", key).upper()
        while os.environ.setdefault(name, secret) != secret and name in used:  # a second secret under one key
            name += "_"
        used.add(name)
        os.environ[name] = secret
        return f"{FROM_ENVIRONMENT}{name}}}"

    def walk(key: str, source: Any, value: Any) -> Any:
        if isinstance(value, dict):
            named = source if isinstance(source, dict) else {}
            return {name: walk(f"{key}_{name}", named.get(name), item) for name, item in value.items()}
        if isinstance(value, list):
            below = source if isinstance(source, list) else [None] * len(value)
            return [walk(f"{key}_{n}", part, item) for n, (part, item) in enumerate(zip(below, value, strict=True))]
        if isinstance(source, str) and FROM_ENVIRONMENT in source:
            if isinstance(value, str) and is_private(value):
                reference(key, value)
            return source
        return replaced(value, partial(reference, key)) if isinstance(value, str) else value

    used: set[str] = set()
    raw, resolved = (OmegaConf.to_container(cfg, resolve=resolve) for resolve in (False, True))
    return OmegaConf.to_yaml(OmegaConf.create(walk("", raw, resolved)))


def is_private(value: str) -> bool:
    """Whether a value from the environment may be a key: neither short, nor a path, nor an address."""
    return len(value) >= SHORTEST and not set("/~") & set(value)


def load_saved(path: Path) -> DictConfig:
    """The settings in a ``config.yaml``. Raises UsageError when it is not to be read."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        cfg = OmegaConf.load(path)
        if not isinstance(cfg, DictConfig) or "command" not in cfg:
            raise ValueError("no settings in it")
    except (OSError, YAMLError, ValueError, OmegaConfBaseException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: not the settings of a run ({reason}); give another run directory") from error
    return cfg


def mask_files(folder: Path) -> None:
    """Take the secrets out of the YAML files of a folder."""
    for path in folder.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        if (without := masked(text)) != text:
            write_text(path, without)
