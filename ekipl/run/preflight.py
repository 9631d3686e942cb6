"""Refuses settings before Hydra makes a run directory for them. Named by ``hydra.callbacks`` in conf/base.yaml."""

from __future__ import annotations

import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ekipl.config import check
from ekipl.errors import UsageError


class Preflight(Callback):  # type: ignore[misc, unused-ignore]
    """Checks the settings of a single run. The jobs of a sweep check their own as they start."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exits with 2 on refused settings; Hydra would turn an exception into a warning."""
        try:
            check(config, config.command)
        except UsageError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
