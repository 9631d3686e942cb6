"""Run directories for the page: which folder is what, what a run is called, and the page of a training at its end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekipl.errors import UsageError
from ekipl.external.ledger import read_spending
from ekipl.files import parse_line, write_text
from ekipl.masking import masked, masked_values
from ekipl.report.html.compare import sweep_csv
from ekipl.report.html.numbers import best_step, evaluated
from ekipl.report.html.page import MB, data_of, page
from ekipl.report.html.parts import Read, Run
from ekipl.report.spending import Spent
from ekipl.run import shown
from ekipl.run.describe import labels
from ekipl.run.records import actions_file
from ekipl.run.saved import load_saved

if TYPE_CHECKING:
    from omegaconf import DictConfig

PAGE = "report.html"
CONFIG, METRICS = "config.yaml", "metrics.jsonl"
HUB = "HF_HOME", "~/.cache/huggingface"


def write_page(cfg: DictConfig, directory: Path) -> None:
    """Write the page of a training. It must not fail the run: an error is one line."""
    report = cfg.get("report")
    if not report or not report.html:
        return
    try:
        write_view([directory], round(report.max_mb * MB))
    except Exception as error:  # whatever it is, the run is done
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(masked(f"ekipl train: {directory / PAGE}: not written ({reason})"), file=sys.stderr)


def runs_at(paths: Sequence[Path]) -> tuple[list[Run], bool]:
    """The runs in these folders, and whether they are those of a sweep: a folder of runs.

    Raises:
        UsageError: a folder is neither a run nor a folder of runs; it says what it is instead.
    """
    if len(paths) == 1 and not (paths[0] / CONFIG).exists() and (folders := runs_below(paths[0])):
        swept = swept_settings(folders)
        runs = [read_run(folder) for folder in folders]
        pairs = zip(runs, swept, strict=True)
        told = [{key: _value(run, key, text) for key, text in said.items()} for run, said in pairs]
        return _named([replace(run, swept=said) for run, said in zip(runs, told, strict=True)], folders), True
    for path in paths:
        refuse_no_run(path)
    return _named([read_run(path) for path in paths], paths), False


def refuse_no_run(path: Path) -> None:
    """Raises UsageError unless the folder is that of a run."""
    if (path / CONFIG).is_file():
        return
    what, way_out = "no such folder", "give the folder of a run, such as runs/train/2026-01-31_12-00-00-000000"
    if path.is_file():
        what = "a file, not a run"
    elif path.is_dir() and (path / "config.json").exists():
        what, way_out = "a model, not a run", f"its run may be {path.parent}"
    elif path.is_dir() and path.parent.name == "checkpoints":
        what, way_out = "a checkpoint, not a run", f"its run is {path.parent.parent}"
    elif path.is_dir() and runs_below(path):
        what, way_out = "a folder of runs", "give it alone to see all of them"
    elif path.is_dir():
        what = f"no run: it has no {CONFIG}" + ("" if any(path.iterdir()) else " (it is empty)")
    raise UsageError(f"ekipl view: {path}: {what}; {way_out}")


def runs_below(path: Path) -> list[Path]:
    """The runs in a folder, one or two levels down, in the order of their names; numbers count as such."""
    if not path.is_dir():
        return []
    found = [file.parent for pattern in ("*", "*/*") for file in path.glob(f"{pattern}/{CONFIG}")]
    runs = [folder for folder in found if folder.name != "first_stage" and folder.parent not in found]
    return sorted(runs, key=lambda run: [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in run.parts])


def swept_settings(folders: Sequence[Path]) -> list[dict[str, str]]:
    """The settings by which the runs of a sweep differ, from the command lines that Hydra keeps."""
    given = [_overrides(folder / ".hydra" / "overrides.yaml") for folder in folders]
    keys = dict.fromkeys(key for one in given for key in one if not key.startswith("hydra."))
    differing = [key for key in keys if len({one.get(key) for one in given}) > 1]
    return [{key: one.get(key, "") for key in differing} for one in given]


def _value(run: Run, key: str, given: str) -> str:
    """A setting that was swept: as the command line gave it, else as the run has it."""
    places = (key, *(f"{key}.{name}" for name in ("name", "kind", "rule")))
    return given or next((str(run.settings[place]) for place in places if place in run.settings), "-")


def _overrides(path: Path) -> dict[str, str]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        listed = OmegaConf.to_container(OmegaConf.load(path), resolve=False) if path.exists() else []
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return {}
    words = [masked(word) for word in listed if isinstance(word, str)] if isinstance(listed, list) else []
    return {key.lstrip("+~"): value for key, _, value in (word.partition("=") for word in words)}


def _named(runs: Sequence[Run], folders: Sequence[Path]) -> list[Run]:
    """The runs with names of their own: what was swept, else the method, else with the folder."""
    names = [" ".join(f"{key}={value}" for key, value in run.swept.items()) or run.name for run in runs]
    found = []
    for run, name, folder in zip(runs, names, folders, strict=True):
        found.append(replace(run, name=name if names.count(name) == 1 else f"{name} ({folder.name})"))
    return found


def read_run(directory: Path) -> Run:
    """The run in a folder; its files are read when they are needed. Raises UsageError."""
    cfg = load_saved(directory / CONFIG)
    settings = dict(_flat("", _plain(cfg)))
    command = str(cfg.command)
    is_training = command == "train"
    rows = _metrics(directory / METRICS) if is_training else []
    last = rows[-1]["step"] if rows else 0
    scores, passk = _json(directory / "scores.json"), _json(directory / "passk.json")
    records = [actions_file(str(path)) for path in cfg.get("records") or ()]
    roots = [*map(Path, filter(None, [settings.get("data.root")])), Path(os.environ.get(HUB[0], HUB[1]))]
    return Run(
        name=_label(settings, command, directory),
        command=command,
        folder=str(directory),
        settings=settings,
        image=shown.images_of(directory, [*roots, *(file.parent for file in records)]),
        rows=rows,
        steps=_steps(directory, last) if is_training else {},
        points=_evaluations(directory, rows) if is_training else _models(directory, records),
        splits=scores.get("splits", ()),
        differences=scores.get("differences", ()),
        passk=passk.get("splits", {}),
        spending=_spending(directory),
        written=_written(directory),
        wanted=cfg.I * cfg.B if is_training and cfg.B is not None else None,
    )


def _spending(directory: Path) -> Sequence[Spent]:
    """What the external models cost; nothing where the ledger cannot be opened, as in a folder of somebody else."""
    try:
        return read_spending(directory).models
    except UsageError:
        return ()


def _label(settings: Mapping[str, Any], command: str, directory: Path) -> str:
    return str(settings.get("method.name") or directory.name) if command == "train" else f"{command} {directory.name}"


def _plain(cfg: DictConfig) -> Any:
    from omegaconf import OmegaConf

    return masked_values(OmegaConf.to_container(cfg, resolve=False))


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Settings by dotted key; a list is one value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}" if key else str(name), inner)
    else:
        yield key, value


def _metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of the metrics, less one that is being written. Raises UsageError."""
    rows = []
    try:
        content = path.read_bytes() if path.exists() else b""
        for line in content.splitlines(keepends=True):
            if line.endswith(b"\n"):
                row = parse_line(line)
                rows.append({"step": int(row.pop("step")), **row})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: {error}: not the metrics of a training run") from error
    return rows


def _steps(directory: Path, last: int) -> dict[int, Read]:
    """The actions file of each step that the metrics tell of: later ones are of a run that has been set back."""
    found: dict[int, Read] = {}
    for file in sorted((directory / "actions").glob("step-*.jsonl")):
        number = file.stem.removeprefix("step-")
        if number.isdigit() and int(number) <= last:
            found[int(number)] = partial(shown.groups_of, file)
    return found


def _evaluations(directory: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Read]:
    """The completions of the first, the best and the last evaluation."""
    measured, best = evaluated(rows), best_step(rows)
    if not measured or best is None:
        return {}
    found: dict[str, Read] = {}
    for step in dict.fromkeys([measured[0]["step"], best["step"], measured[-1]["step"]]):
        file = directory / "evaluations" / f"step-{step:06d}.jsonl"
        if file.exists():
            found[f"step {step}"] = partial(shown.shown_in, file)
    return found


def _models(directory: Path, records: Sequence[Path]) -> dict[str, Read]:
    """The answers of each model: graded ones from scores.jsonl, else from the actions."""
    files = [file for file in (directory / "actions.jsonl", *records) if file.is_file()]
    scores = directory / "scores.jsonl"
    if scores.is_file():
        statements = {key: said for file in files for key, said in shown.statements_in(file).items()}
        models = dict.fromkeys(str(row.get("model")) for row in shown.rows_in(scores))
        return {model: partial(shown.scored_in, scores, model, statements) for model in models}
    found: dict[str, Read] = {
        model: partial(shown.shown_in, file, model) for file in files for model in shown.models_in(file)
    }
    names = labels(list(found))
    return {names[model]: read for model, read in found.items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}; write the file again") from error
    return value if isinstance(value, dict) else {}


def _written(directory: Path) -> str:
    """When the run last wrote its results."""
    files = [directory / name for name in (METRICS, "scores.json", "passk.json", "actions.jsonl", CONFIG)]
    newest = max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)
    return datetime.fromtimestamp(newest, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def view_data(paths: Sequence[Path], max_bytes: int) -> tuple[dict[str, Any], list[Run], bool]:
    """What the page of these folders shows, the runs in it, and whether they are a sweep. Raises UsageError."""
    runs, is_sweep = runs_at(paths)
    folders = [path.resolve() for path in paths]
    title = folders[0].name if is_sweep or len(runs) == 1 else " / ".join(run.name for run in runs)
    return data_of(runs, max_bytes, title, is_sweep), runs, is_sweep


def write_view(paths: Sequence[Path], max_bytes: int, out: Path | None = None) -> Path:
    """Write the page of these folders, of a sweep also ``sweep.csv``; returns the page. Raises UsageError."""
    data, runs, is_sweep = view_data(paths, max_bytes)
    target = out or paths[0] / PAGE
    try:
        write_text(target, page(data))
        if is_sweep:
            write_text(target.parent / "sweep.csv", sweep_csv(runs))
    except OSError as error:
        raise UsageError(f"ekipl view: {target}: {error.strerror}; --out FILE writes elsewhere") from error
    return target
