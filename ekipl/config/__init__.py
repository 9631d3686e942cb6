"""Settings: the keys of the YAML under ``conf/``, typed and checked as a whole before anything is loaded."""

from ekipl.config.checking import check, no_such_setting
from ekipl.config.settings import Command, Settings, as_dict, setting_names
from ekipl.config.stages import first_stage

__all__ = ["Command", "Settings", "as_dict", "check", "first_stage", "no_such_setting", "setting_names"]
