"""``ekipl train``: Algorithm 1, or one of the baselines."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.run.resume import refuse_another_run, refuse_strange_files

if TYPE_CHECKING:
    from omegaconf import DictConfig

KILLED = 128  # a status above it is 128 plus the number of the signal that killed the process


def run(cfg: DictConfig) -> None:
    """Check the settings, write them to the run directory, and train each stage in processes of its own."""
    from hydra.core.hydra_config import HydraConfig

    from ekipl.config import check, first_stage
    from ekipl.files import write_text
    from ekipl.run import code
    from ekipl.run.export import as_model, export, so_far
    from ekipl.run.hub import check_hub_models
    from ekipl.run.launch import launch, meeting_point
    from ekipl.run.saved import saved_text
    from ekipl.run.training import FIRST_STAGE

    settings = check(cfg, "train")
    if settings.export is not None:
        print(export(settings.export))
        return
    before = first_stage(cfg)
    if settings.dry_run:
        from ekipl.run import dry_run

        dry_run.of_training([stage for stage in (before, cfg) if stage is not None])
        return
    check_hub_models(settings)
    meeting_point(settings.engine.num_nodes, os.environ)  # raises UsageError if the machines cannot meet
    directory = Path(HydraConfig.get().runtime.output_dir)
    stages = [(directory, cfg)] if before is None else [(directory / FIRST_STAGE, before), (directory, cfg)]
    resolved = {folder / "config.yaml": saved_text(stage) for folder, stage in stages}
    code.refuse_other_code(directory, own_code := code.digests(settings))
    for config, text in resolved.items():
        refuse_strange_files(config.parent)
        refuse_another_run(config, text)
    as_model(stages[0][1].model.path)  # a checkpoint is made a model once, and not by each rank
    for config, text in resolved.items():
        write_text(config, text)
    code.keep(directory, own_code)
    for folder, stage in stages:
        status = launch(folder / "config.yaml", stage.engine.num_processes, stage.engine.num_nodes)
        if KILLED < status < KILLED + signal.NSIG:
            ended = f"ekipl train: ended by a signal ({signal.strsignal(status - KILLED)})"
            print(f"{ended}; the same command with hydra.run.dir={directory} goes on{so_far(folder)}", file=sys.stderr)
        if status:
            sys.exit(status)
