"""Methods of two stages: the settings of the first are those of the run with those of ``first_stage`` on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from omegaconf import DictConfig


def first_stage(cfg: DictConfig) -> DictConfig | None:
    """The whole config of the first stage, or None where there is none.

    Sections are merged and lists replaced. A section of another ``kind`` replaces that of the run, whose keys it lacks.
    """
    from omegaconf import DictConfig, OmegaConf

    if cfg.get("first_stage") is None:
        return None
    rest = cfg.copy()
    OmegaConf.set_struct(rest, False)
    for name, section in cfg.first_stage.items():
        if isinstance(section, DictConfig) and section.get("kind", rest[name].get("kind")) != rest[name].get("kind"):
            rest[name] = {}
    merged = OmegaConf.merge(rest, cfg.first_stage)
    merged.first_stage = None
    return cast("DictConfig", merged)
