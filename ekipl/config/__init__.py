"""Settings: what the YAML under ``conf/`` may say, typed and checked as a whole before anything is loaded."""

from ekipl.config.checking import check, no_such_setting
from ekipl.config.settings import Command, Settings
from ekipl.config.stages import first_stage

__all__ = ["Command", "Settings", "check", "first_stage", "no_such_setting"]
