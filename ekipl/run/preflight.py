"""Refuses settings before Hydra makes a run directory for them. Named by ``hydra.callbacks`` in conf/base.yaml."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ekipl.config import check
from ekipl.config.effects import without_effect
from ekipl.config.values import without
from ekipl.errors import UsageError
from ekipl.masking import masked
from ekipl.run.hub import check_hub_models
from ekipl.run.saved import mask_files


def refuse_idle(config: DictConfig) -> None:
    """Raises UsageError for what the command line sets without effect."""
    values = without(
        set(), OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    )
    if lines := without_effect(values, config.command, list(config.hydra.overrides.task)):
        raise UsageError("\n".join(lines))


class Preflight(Callback):  # type: ignore[misc, unused-ignore]
    """Checks the settings of a single run. The jobs of a sweep check their own as they start."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Takes the secrets out of what Hydra has just written about this job, and about its sweep."""
        output = Path(config.hydra.runtime.output_dir)
        mask_files(output / str(config.hydra.output_subdir))
        if config.hydra.mode == RunMode.MULTIRUN:
            mask_files(Path(config.hydra.sweep.dir))

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exits with 2 on refused settings; Hydra would turn an exception into a warning."""
        try:
            settings = check(config, config.command)
            refuse_idle(config)
            check_hub_models(settings)
        except UsageError as error:
            print(masked(str(error)), file=sys.stderr)
            sys.exit(2)
