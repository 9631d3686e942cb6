"""``ekipl train``: Algorithm 1, or one of the baselines."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


# Settings that may differ on resume: they affect cost or speed, not the result (up to rounding).
MAY_CHANGE = (
    *("budget_usd:", "on_exhausted:", "prefetch:", "image_tokens:", "choices:", "concurrency:"),
    *("requests_per_minute:", "tokens_per_minute:", "keep:"),
    *("num_nodes:", "num_processes:", "zero_stage:", "micro_batch:", "micro_batch_tokens:", "accumulation:"),
    *("gradient_checkpointing:", "offload_optimizer:", "offload_parameters:"),
)
KILLED = 128  # a status above it is 128 plus the number of the signal that killed the process


def run(cfg: DictConfig) -> None:
    """Check the settings, write them to the run directory, and train each stage in processes of its own."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from ekipl.config import check, first_stage
    from ekipl.files import write_text
    from ekipl.run.launch import launch, meeting_point
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
    resolved = {folder / "config.yaml": OmegaConf.to_yaml(stage, resolve=True) for folder, stage in stages}
    for config, text in resolved.items():
        _refuse_another_run(config, text)
    for config, text in resolved.items():
        write_text(config, text)
    for folder, stage in stages:
        status = launch(folder / "config.yaml", stage.engine.num_processes, stage.engine.num_nodes)
        if KILLED < status < KILLED + signal.NSIG:
            ended = f"ekipl train: ended by a signal ({signal.strsignal(status - KILLED)})"
            print(f"{ended}; the same command with hydra.run.dir={directory} goes on", file=sys.stderr)
        if status:
            sys.exit(status)


def _refuse_another_run(config: Path, resolved: str) -> None:
    """Raises UsageError if the directory holds a run with other settings. With the same settings it is resumed."""
    from ekipl.errors import UsageError

    if not config.exists():
        return
    before, now = (
        [line for line in text.splitlines() if not line.strip().startswith(MAY_CHANGE)]
        for text in (config.read_text(), resolved)
    )
    if before == now:
        return
    changed = [line.strip() for line in now if line not in before][:5]
    raise UsageError(
        f"hydra.run.dir: {config.parent}: holds a run with other settings (now: {', '.join(changed) or 'fewer keys'}); "
        "give the same settings to go on with it, or another directory"
    )
