"""What a run directory must be for a command to go on in it: its own files, and the same settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from ekipl.errors import UsageError

# Settings that may differ on resume, by section: they affect cost, speed or reports, not the result (up to rounding).
MAY_CHANGE = {
    "external": {
        *("budget_usd", "on_exhausted", "prefetch", "image_tokens", "max_body_mb", "choices", "concurrency"),
        *("requests_per_minute", "tokens_per_minute"),
    },
    "judge": {
        *("budget_usd", "image_tokens", "max_body_mb", "choices", "concurrency"),
        *("requests_per_minute", "tokens_per_minute"),
    },
    "checkpoint": {"keep"},
    "stop": {"at", "patience"},
    "data": {"check", "bad_rows", "changed", "cache"},  # the rows themselves are compared with those in the checkpoint
    "logger": {"wandb", "project", "mode", "name"},
    "report": {"html", "max_mb"},
    "engine": {
        *("num_nodes", "num_processes", "zero_stage", "micro_batch", "micro_batch_tokens", "accumulation"),
        *("gradient_checkpointing", "offload_optimizer", "offload_parameters"),
    },
}
FOLDERS = ("actions", "evaluations", "images", "checkpoints", "model", "adapter", "first_stage", ".hydra", "wandb")
FILES = (
    *("config.yaml", "metrics.jsonl", "ledger.sqlite", "summary.md", "actions.jsonl", "actions.jsonl.partial"),
    *("scores.json", "scores.jsonl", "table.md", "passk.json", "passk.png", "curve.png", "provenance.png"),
    *("report.html", "sweep.csv"),
    *("code.json", "ended.json", "judge.sqlite", "ungraded.log"),
)


def refuse_strange_files(directory: Path) -> None:
    """Raises UsageError for a file where a run has a folder, or a folder where it has a file."""
    files, folders = ([directory / name for name in names] for names in (FOLDERS, FILES))
    wrong = [f"{path}: a file, where a run has a folder" for path in files if path.is_file()]
    wrong += [f"{path}: a folder, where a run has a file" for path in folders if path.is_dir()]
    if wrong:
        raise UsageError("\n".join(f"{line}; move it away, or give another hydra.run.dir" for line in wrong))


def refuse_another_run(config: Path, resolved: str) -> None:
    """Raises UsageError if the directory holds a run with other settings. With the same settings it is resumed.

    A run may become longer. A directory in which nothing was trained yet takes any settings.
    """
    from ekipl.config.values import shown

    if not config.exists() or not has_begun(config.parent):
        return
    before, now = read_fixed(config), _fixed(resolved)
    changed = [f"{key}: {shown(now[key])}" for key in now if key not in before or before[key] != now[key]]
    changed += [f"no {key}" for key in before if key not in now]
    if len(changed) == 1 and (longer := _longer(before, now)):
        schedule = now.get("engine.schedule", "constant")
        rate = (
            "and so is the learning rate"
            if schedule == "constant"
            else f"but engine.schedule={schedule} ends with the run: the learning rate is that of the longer run"
        )
        print(f"ekipl train: {config.parent}: goes on with {longer}; AdamW's state is kept, {rate}", file=sys.stderr)
    elif changed:
        raise UsageError(
            f"hydra.run.dir: {config.parent}: holds a run with other settings (now: {', '.join(changed[:5])}); "
            "give the same settings to go on with it, or another directory"
        )


def has_begun(directory: Path) -> bool:
    """Whether a command has left results here, beside its settings."""
    begun = ("metrics.jsonl", "checkpoints", "model", "actions", "actions.jsonl", "actions.jsonl.partial")
    return any((directory / name).exists() for name in begun) or not _is_whole(directory / "config.yaml")


def _longer(before: Mapping[str, object], now: Mapping[str, object]) -> str | None:
    """The one setting that makes the run longer and leaves the steps that are done as they are."""
    for key in ("B", "epochs", "I"):
        old, new = before.get(key), now.get(key)
        if isinstance(old, int | float) and isinstance(new, int | float) and new > old:
            # more steps in each of several iterations would move the points where the reference is refreshed
            return f"{key}={new} in place of {old}" if key == "I" or now.get("I") == 1 else None
    return None


def _is_whole(config: Path) -> bool:
    try:
        read_fixed(config)
    except UsageError:
        return False
    return True


def read_fixed(config: Path) -> dict[str, object]:
    """The settings of a ``config.yaml`` that a resumed run must share. Raises UsageError when it is not to be read."""
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return _fixed(config.read_text(encoding="utf-8"))
    except (OSError, YAMLError, ValueError, AssertionError, OmegaConfBaseException) as error:
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "no mapping")
        raise UsageError(f"{config}: not the settings of a run ({reason}); give another directory") from error


def _fixed(text: str) -> dict[str, object]:
    """The settings that must be the same, by dotted key."""
    from omegaconf import OmegaConf

    keys: dict[str, object] = {}

    def walk(key: str, value: object) -> None:
        if isinstance(value, dict | list) and value:
            for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
                walk(f"{key}.{name}" if key else str(name), inner)
        elif ".params." in key or key.rpartition(".")[2] not in MAY_CHANGE.get(key.partition(".")[0], ()):
            keys[key] = value

    container = OmegaConf.to_container(OmegaConf.create(text))
    if not isinstance(container, dict) or not container:
        raise ValueError("empty, or no mapping")
    walk("", container)
    return keys
