"""``ekipl train``: Algorithm 1, or one of the baselines."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


# Settings that may differ on resume, by section: they affect cost or speed, not the result (up to rounding).
MAY_CHANGE = {
    "external": {
        *("budget_usd", "on_exhausted", "prefetch", "image_tokens", "max_body_mb", "choices", "concurrency"),
        *("requests_per_minute", "tokens_per_minute"),
    },
    "checkpoint": {"keep"},
    "engine": {
        *("num_nodes", "num_processes", "zero_stage", "micro_batch", "micro_batch_tokens", "accumulation"),
        *("gradient_checkpointing", "offload_optimizer", "offload_parameters"),
    },
}
KILLED = 128  # a status above it is 128 plus the number of the signal that killed the process


def run(cfg: DictConfig) -> None:
    """Check the settings, write them to the run directory, and train each stage in processes of its own."""
    from hydra.core.hydra_config import HydraConfig

    from ekipl.config import check, first_stage
    from ekipl.files import write_text
    from ekipl.run.launch import launch, meeting_point
    from ekipl.run.saved import saved_text
    from ekipl.run.training import FIRST_STAGE

    settings = check(cfg, "train")
    before = first_stage(cfg)
    if settings.dry_run:
        from ekipl.run import dry_run

        dry_run.of_training([stage for stage in (before, cfg) if stage is not None])
        return
    meeting_point(settings.engine.num_nodes, os.environ)  # raises UsageError if the machines cannot meet
    directory = Path(HydraConfig.get().runtime.output_dir)
    stages = [(directory, cfg)] if before is None else [(directory / FIRST_STAGE, before), (directory, cfg)]
    resolved = {folder / "config.yaml": saved_text(stage) for folder, stage in stages}
    for config, text in resolved.items():
        refuse_another_run(config, text)
    for config, text in resolved.items():
        write_text(config, text)
    for folder, stage in stages:
        status = launch(folder / "config.yaml", stage.engine.num_processes, stage.engine.num_nodes)
        if KILLED < status < KILLED + signal.NSIG:
            ended = f"ekipl train: ended by a signal ({signal.strsignal(status - KILLED)})"
            print(f"{ended}; the same command with hydra.run.dir={directory} goes on", file=sys.stderr)
        if status:
            sys.exit(status)


def refuse_another_run(config: Path, resolved: str) -> None:
    """Raises UsageError if the directory holds a run with other settings. With the same settings it is resumed."""
    from yaml import YAMLError

    from ekipl.config.rules import shown
    from ekipl.errors import UsageError

    if not config.exists():
        return
    try:
        before, now = _fixed(config.read_text()), _fixed(resolved)
    except (YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{config}: not the settings of a run ({reason}); give another directory") from error
    changed = [f"{key}: {shown(now[key])}" for key in now if key not in before or before[key] != now[key]]
    changed += [f"no {key}" for key in before if key not in now]
    if changed:
        raise UsageError(
            f"hydra.run.dir: {config.parent}: holds a run with other settings (now: {', '.join(changed[:5])}); "
            "give the same settings to go on with it, or another directory"
        )


def _fixed(text: str) -> dict[str, object]:
    """The settings of a ``config.yaml`` that a resumed run must share, by dotted key."""
    from omegaconf import OmegaConf

    keys: dict[str, object] = {}

    def walk(key: str, value: object) -> None:
        if isinstance(value, dict | list) and value:
            for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
                walk(f"{key}.{name}" if key else str(name), inner)
        elif ".params." in key or key.rpartition(".")[2] not in MAY_CHANGE.get(key.partition(".")[0], ()):
            keys[key] = value

    walk("", OmegaConf.to_container(OmegaConf.create(text)))
    return keys
