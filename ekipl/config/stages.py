"""Methods of two stages: the settings of the first are those of the run with what ``first_stage`` says instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from omegaconf import DictConfig


def first_stage(cfg: DictConfig) -> DictConfig | None:
    """The whole config of the stage before, or None where there is none; lists are replaced, sections merged."""
    from omegaconf import OmegaConf

    if cfg.get("first_stage") is None:
        return None
    merged = OmegaConf.merge(cfg, cfg.first_stage)
    merged.first_stage = None
    return cast("DictConfig", merged)
