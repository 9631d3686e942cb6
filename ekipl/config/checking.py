"""From a composed config to typed settings, or to one UsageError that names every error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from pydantic import Tag, ValidationError

from ekipl.algorithm.objective import Objective
from ekipl.config.rules import broken_rules
from ekipl.config.settings import ADAPTER, OWN_KEYS, Command, Settings
from ekipl.config.stages import first_stage
from ekipl.config.values import shown, without
from ekipl.errors import UsageError
from ekipl.importing import Named
from ekipl.masking import masked

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pydantic_core import ErrorDetails

HINTS = get_type_hints(Settings, include_extras=True)
DERIVED = {f"objective.{field.name}": field.metadata["home"] for field in fields(Objective) if field.metadata}
OPEN = re.compile(
    r"(task|first_stage|\w+\.args|(judge|external\.(each|models\.\d+))\.params)\."
)  # keys of the user's own
MEMBER = re.compile(r"constrained-|\w+\[")  # pydantic's name for a type

# pydantic's error type -> our words, from the bounds it names.
REASONS = {
    "bool_type": "neither true nor false",
    "dataclass_type": "not a section; its keys are set one by one",
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
    "mapping_type": "not a mapping; write {{key: value}}",
    "string_too_short": "empty",
    "string_type": "not text; quote it to make it text",
    "too_short": "empty; at least {min_length} needed",
    "tuple_type": "not a list; write [a, b]",
}


def check(cfg: DictConfig, command: Command) -> Settings:
    """The settings of ``command``, typed.

    Args:
        cfg: as Hydra composed it, with or without its own ``hydra`` section.
        command: whose settings these are.

    Raises:
        UsageError: with one line for each error: key, value, reason, way out.
    """
    values = _plain(cfg)
    own = OWN_KEYS[command]
    strangers = sorted(key for keys in OWN_KEYS.values() for key in keys - own if key in values)
    errors = _complete(values)
    errors |= {key: f"{key}: not a setting of {command}; leave it out" for key in strangers}
    errors |= {key: f"{key}: missing" for key in sorted(own - values.keys())}
    if values.get("command") != command:
        errors["command"] = f"command: {shown(values.get('command'))}: this is {command}; leave it as it is"
    settings = None
    try:
        # By way of JSON: strict about types, yet a list may become a tuple.
        settings = ADAPTER.validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        for details in _innermost(error.errors(include_url=False)):
            errors.setdefault(_key(details), _line(details))
    errors = {key: line for key, line in errors.items() if _home(key) == key or _home(key) not in errors}
    if settings is not None:
        errors |= {key: line for key, line in _unknown_names(settings) if key not in errors}
    lines = [*errors.values(), *broken_rules(without(errors.keys(), values), command)]
    if not lines and settings is not None and settings.first_stage is not None:
        lines = _of_first_stage(cfg, command)
    if settings is None or lines:
        raise UsageError("\n".join(map(_one_line, lines)))
    return settings


def _home(key: str) -> str:
    """The key that gives this one its value, and where an error is therefore shown."""
    return DERIVED.get(key) or re.sub(r"^external\.models\.\d+\.", "external.each.", key)


def _complete(values: dict[str, Any]) -> dict[str, str]:
    """Fill in what conf/ says once for several places; returns an error for each such place that has its own value.

    The entries of ``external.models`` are completed by ``external.each``.
    """
    errors = {}
    objective, external = values.get("objective"), values.get("external")
    if isinstance(objective, dict):
        errors = {key: f"{key}: set {home} instead" for key, home in DERIVED.items() if key.split(".")[1] in objective}
        for key, home in DERIVED.items():
            section, _, name = home.rpartition(".")
            source = values.get(section) if section else values
            if isinstance(source, dict) and name in source:
                objective[key.split(".")[1]] = source[name]
    if isinstance(external, dict) and isinstance(each := external.get("each"), dict):
        models = external.get("models")
        if isinstance(models, list):
            external["models"] = [each | model if isinstance(model, dict) else model for model in models]
    return errors


def _one_line(text: str) -> str:
    """The text with control characters spelled out: they could end the line, or steer the terminal."""
    text = masked(text)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _of_first_stage(cfg: DictConfig, command: Command) -> list[str]:
    """The errors in the settings of the stage before."""
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
    if kinds := _kinds_with(key):
        chosen, having = key.partition(".")[0], " or ".join(kinds)
        return f"{shown(key)}: the chosen {chosen}= does not read it, kind {having} does; choose that, or leave it out"
    if f"evaluation.{key}" in (others := [known for known, _ in keys(Settings) if known != key]):
        return f"{shown(key)}: no such setting here; did you mean evaluation.{key}, which train evaluates by?"
    name = key.rpartition(".")[2]
    meant = [known for known in others if known.rpartition(".")[2] == name]
    meant = meant or [known for known in others if known.casefold() == key.casefold()]
    meant = meant or get_close_matches(key, others, n=1)
    return f"{shown(key)}: no such setting; " + (
        f"did you mean {' or '.join(meant)}?" if meant else "docs/configuration.md has them all"
    )


def _kinds_with(key: str) -> list[str]:
    """The kinds of a section that have this setting, where the section has several kinds."""
    section, _, name = key.partition(".")
    members = [get_args(member) for part in get_args(HINTS.get(section)) for member in get_args(part)]
    kinds = [(member[0], note.tag) for member in members for note in member[1:] if isinstance(note, Tag)]
    return [
        "MODULE:CLASS" if kind == "own" else str(kind)
        for part, kind in kinds
        if name in {field.name for field in fields(part)}
    ]


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The values as plain dicts and lists."""
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
    """The dotted key, without the tags and types by which pydantic names the member of a union."""
    loc = details["loc"]
    tags = tags_of(HINTS.get(str(loc[0])))
    parts = [str(part) for place, part in enumerate(loc) if place != 1 or part not in tags]
    return ".".join(part for part in parts if not MEMBER.match(part))


def _innermost(errors: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Without the errors that pydantic reports for a list because of an error in one of its items."""
    keys = [_key(details) for details in errors]
    return (details for details in errors if not any(key.startswith(f"{_key(details)}.") for key in keys))


def _line(details: ErrorDetails) -> str:
    key = _key(details)
    if details["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{key}: missing"
    if details["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return no_such_setting(key)
    bounds: Mapping[str, Any] = details.get("ctx", {})
    reason = REASONS.get(details["type"], details["msg"])
    reason = reason.format(**bounds).replace("'", "")
    return f"{key}: {shown(details['input'])}: {reason}"


def _unknown_names(section: Any) -> Iterator[tuple[str, str]]:
    """Key and line of every value that is neither a known name nor an import path that can be imported."""
    for key, value, known in names_in(section):
        if line := known.error(key, value):
            yield key, line


def names_in(section: Any, prefix: str = "") -> Iterator[tuple[str, str, Named]]:
    """Key and value of every setting that is a name or an import path, and what it may be."""
    for name, hint in get_type_hints(type(section), include_extras=True).items():
        value, key = getattr(section, name), prefix + name
        if is_dataclass(value):
            yield from names_in(value, f"{key}.")
        for known in _named(hint):
            for place, one in enumerate(value if isinstance(value, tuple) else [value]):
                if one is not None:
                    yield f"{key}.{place}" if isinstance(value, tuple) else key, one, known


def _named(hint: Any) -> set[Named]:
    """Those at any depth of a type."""
    parts = get_args(hint)
    return {part for part in parts if isinstance(part, Named)}.union(*map(_named, parts))


def keys(section: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Dotted key and dataclass of each setting, in the order of the fields; of a union, those of all its classes.

    An item of a list is ``.0``.
    """
    hints = get_type_hints(section, include_extras=True)
    for field in fields(section):
        if "home" in field.metadata:  # the setting stands elsewhere
            continue
        parts = list(parts_of(hints[field.name]))
        if not parts or type(None) in get_args(hints[field.name]):
            yield prefix + field.name, section
        for inner, part in parts:
            yield from keys(part, f"{prefix}{field.name}{inner}.")


def parts_of(hint: Any) -> Iterator[tuple[str, type]]:
    """The dataclasses that a setting of this type may be; that of a list's item has ``.0`` in front."""
    if isinstance(hint, type) and is_dataclass(hint):
        yield "", hint
        return
    is_list = getattr(hint, "__origin__", None) is tuple
    for part in get_args(hint):
        yield from (((".0" if is_list else ""), found) for _, found in parts_of(part))


def tags_of(hint: Any) -> set[str]:
    """The names by which pydantic tells the classes of a union apart."""
    notes = (note for part in get_args(hint) for member in get_args(part) for note in get_args(member)[1:])
    return {note.tag for note in notes if isinstance(note, Tag)}
