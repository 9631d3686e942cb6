"""From a composed config to typed settings, or to one UsageError that names every problem."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from ekipl.config.rules import Values, broken_rules, shown
from ekipl.config.settings import OWN_KEYS, Command, Settings
from ekipl.config.stages import first_stage
from ekipl.errors import UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pydantic_core import ErrorDetails

OPEN = re.compile(r"(task|first_stage|external\.models\.\d+\.params)\.")  # sections that take keys of the user's own

# pydantic's error type -> our words, from the bounds it names.
REASONS = {
    "bool_type": "neither true nor false",
    "dict_type": "not a mapping; write {{key: value}}",
    "finite_number": "not a finite number",
    "float_type": "not a number",
    "greater_than": "too small; must be above {gt:g}",
    "greater_than_equal": "too small; must be {ge:g} or more",
    "int_from_float": "not a whole number",
    "int_type": "not a whole number",
    "less_than": "too large; must be below {lt:g}",
    "less_than_equal": "too large; must be {le:g} or less",
    "literal_error": "unknown; known are {expected}",
    "model_type": "not a section; its keys are set one by one",
    "string_too_short": "empty",
    "string_type": "not text; quote it to make it text",
    "too_short": "empty; at least {min_length} needed",
    "tuple_type": "not a list; write [a, b]",
}


def check(cfg: DictConfig, command: Command) -> Settings:
    """The settings of ``command``, typed.

    Args:
        cfg: what Hydra composed, with or without its own ``hydra`` section.
        command: whose settings these are.

    Raises:
        UsageError: with one line for each problem: key, value, reason, way out.
    """
    values = _plain(cfg)
    own = OWN_KEYS[command]
    strangers = sorted(key for keys in OWN_KEYS.values() for key in keys - own if key in values)
    problems = {key: f"{key}: not a setting of {command}; leave it out" for key in strangers}
    problems |= {key: f"{key}: missing" for key in sorted(own - values.keys())}
    if values.get("command") != command:
        problems["command"] = f"command: {shown(values.get('command'))}: this is {command}; leave it as it is"
    settings = None
    try:
        # By way of JSON: strict about types, yet a list may become a tuple.
        settings = Settings.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        for details in _innermost(error.errors(include_url=False)):
            problems.setdefault(_key(details), _told(details))
    lines = [*problems.values(), *broken_rules(Values(values, problems.keys()), command)]
    if not lines and settings is not None and settings.first_stage is not None:
        lines = _of_first_stage(cfg, command)
    if settings is None or lines:
        raise UsageError("\n".join(map(_one_line, lines)))
    return settings


def _one_line(text: str) -> str:
    """Whatever a value holds: it could end the line, or steer the terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _of_first_stage(cfg: DictConfig, command: Command) -> list[str]:
    """What is wrong with the settings of the stage before."""
    from omegaconf.errors import OmegaConfBaseException

    try:
        stage = first_stage(cfg)
        assert stage is not None
        check(stage, command)
    except UsageError as refused:
        return [f"first_stage.{line}" for line in str(refused).splitlines()]
    except OmegaConfBaseException as error:
        return [f"first_stage.{error.full_key}: {str(error).splitlines()[0]}"]
    return []


def no_such_setting(key: str) -> str:
    """The line for an unknown key, with the known key most like it."""
    key = re.sub(r"\[(\d+)\]", r".\1", key)  # as overrides spell it
    if OPEN.match(key):
        return f"{key}: new here; put a + before it: +{key}=VALUE"
    others = [known for known in _known_keys(Settings) if known != key]  # a key of another command is none of this one
    name = key.rpartition(".")[2]
    meant = [known for known in others if known.rpartition(".")[2] == name]
    meant = meant or [known for known in others if known.casefold() == key.casefold()]
    meant = meant or get_close_matches(key, others, n=1)
    return f"{shown(key)}: no such setting; " + (
        f"did you mean {' or '.join(meant)}?" if meant else "docs/configuration.md has them all"
    )


def _plain(cfg: DictConfig) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    keys = [str(key) for key in cfg if key != "hydra"]
    try:
        values = OmegaConf.to_container(OmegaConf.masked_copy(cfg, keys), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UsageError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _key(details: ErrorDetails) -> str:
    return ".".join(str(part) for part in details["loc"])


def _innermost(errors: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Without what pydantic says of a list because of what it says of an item."""
    keys = [_key(details) for details in errors]
    return (details for details in errors if not any(key.startswith(f"{_key(details)}.") for key in keys))


def _told(details: ErrorDetails) -> str:
    key = _key(details)
    if details["type"] == "missing":
        return f"{key}: missing"
    if details["type"] == "extra_forbidden":
        return no_such_setting(key)
    bounds: Mapping[str, Any] = details.get("ctx", {})
    reason = REASONS.get(details["type"], details["msg"])
    reason = reason.format(**bounds).replace("'", "")
    return f"{key}: {shown(details['input'])}: {reason}"


def _known_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        for inner, part in [("", field.annotation), *((".0", part) for part in get_args(field.annotation))]:
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _known_keys(part, f"{prefix}{name}{inner}.")
