"""Methods of two stages: the settings of the first are those of the run with what ``stage1`` says instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from omegaconf import DictConfig


def first_stage(cfg: DictConfig) -> DictConfig | None:
    """The whole config of the stage before, or None where there is none; lists are replaced, sections merged."""
    from omegaconf import OmegaConf

    if cfg.get("stage1") is None:
        return None
    merged = OmegaConf.merge(cfg, cfg.stage1)
    merged.stage1 = None
    return cast("DictConfig", merged)
