"""Models are checked before the first one loads; the hub is asked for its own with a deadline.

transformers asks for several files, each with retries: a hub that refuses or says nothing would keep it for minutes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.data.hub import contact
from ekipl.errors import UsageError
from ekipl.policy.folders import content

if TYPE_CHECKING:
    from ekipl.config import Settings


def check_hub(named: Mapping[str, str]) -> None:
    """Raises UsageError for each model, by setting, that is neither here nor to be had from the hub.

    Where only the hub's cache has them, the hub is not asked any more.
    """
    names = {key: path for key, path in named.items() if is_hub_name(path)}
    if not names:
        return
    from huggingface_hub import constants, try_to_load_from_cache

    faults = []
    for key, path in names.items():
        is_cached = isinstance(try_to_load_from_cache(path, "config.json"), str)
        fault = fault_of(path)
        if fault and is_cached:
            if not constants.HF_HUB_OFFLINE:
                print(f"ekipl: {key}: {path}: the hub {fault}; the copy in its cache is used", file=sys.stderr)
                constants.HF_HUB_OFFLINE = True
                os.environ["HF_HUB_OFFLINE"] = "1"  # for the training processes
        elif fault:
            faults.append(
                f"{key}: {path}: no such folder here, and the hub {constants.ENDPOINT} {fault}; name a folder, or a "
                "model that the hub has (HF_TOKEN for one behind a login, HF_ENDPOINT for another hub)"
            )
    if faults:
        raise UsageError("\n".join(faults))


def check_hub_models(settings: Settings) -> None:
    """The same for the models that a command will load."""
    if settings.command == "external_sample" or settings.predictions or settings.dry_run or settings.export:
        return
    from ekipl.run import describe

    named = {"model.path": settings.model.path, **{f"models.{n}": path for n, path in enumerate(settings.models or ())}}
    alone = settings.command in ("train", "rollout")
    used = {settings.model.path} if alone else set(describe.policies(settings))
    check_hub({key: path for key, path in named.items() if path in used})


def check_models(settings: Settings, paths: Sequence[str]) -> None:
    """Raises UsageError for every one of several models that cannot be loaded, before the first one is.

    A single model is checked as it loads, one of the hub was asked for when the command began.
    """
    from ekipl.policy.model import check_folder
    from ekipl.run.export import as_model

    faults = []
    for path in paths if len(paths) > 1 else ():
        try:
            if not is_hub_name(path):
                check_folder(path, Path(as_model(path)), settings.model.trust_remote_code)
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise UsageError("\n".join(faults))


def is_hub_name(path: str) -> bool:
    """Whether the rules of the settings have let this pass as a name on the hub."""
    return path not in ("tiny", "external") and content(Path(path).expanduser()) == "nothing"


def fault_of(name: str) -> str | None:
    """What is wrong with the hub's answer about a model, or None. Ends within the deadline of ``contact``."""
    return contact(f"{name}/resolve/main/config.json", "model")
