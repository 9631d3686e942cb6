"""Loggers of metrics. docs/metrics.md lists the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ekipl.algorithm.seams import Logger
from ekipl.config import Settings, as_dict
from ekipl.errors import UsageError
from ekipl.files import atomic_write, dump_line, finite, parse_line
from ekipl.masking import masked_values

Mode = Literal["offline", "online"]


class JsonlLogger:
    """``metrics.jsonl``: a row per call, ``{"step": 3, "loss/policy": 0.1, ...}``; a value that is not finite is null.

    A row is passed to the operating system in one write before ``log`` returns, so a killed run loses at most the row
    that was being written.
    """

    def __init__(self, path: Path, last_step: int | None = None) -> None:
        """Open ``path`` for appending; create it when it does not exist.

        Args:
            path: the file.
            last_step: on resume, the step of the checkpoint: later rows are removed, since their steps run again. None
                keeps every complete row. A row that was cut off is always removed.

        Raises:
            UsageError: the file has rows that are no metrics.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _trim(path, last_step)
        self._file = path.open("ab", buffering=0)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._file.write(dump_line(finite({"step": step, **metrics})))

    def close(self) -> None:
        self._file.close()


def _trim(path: Path, last_step: int | None) -> None:
    """Remove the rows after ``last_step`` and a cut-off last line; rewrite the file only if there are any."""
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    if last_step is not None:
        try:
            lines = [line for line in lines if parse_line(line)["step"] <= last_step]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: {error}: not the metrics of a training run; move it out of the way") from error
    kept = b"".join(lines)
    if kept != content:
        with atomic_write(path) as file:
            file.write(kept)


def last_step(path: Path) -> int | None:
    """The step of the last complete row; None where there is none."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
        return int(parse_line([line for line in lines if line.endswith(b"\n")][-1])["step"])
    except (OSError, LookupError, ValueError, TypeError):
        return None


class WandbLogger:
    """Weights & Biases: sends the metrics and settings given here, nothing about the environment, user or code."""

    def __init__(
        self, directory: Path, project: str, name: str, mode: Mode = "offline", config: Mapping[str, Any] | None = None
    ) -> None:
        """Open a run.

        Args:
            directory: the folder of ``wandb/``; ``wandb sync`` uploads an offline run from there.
            project: the project's name on the server.
            name: the run's name.
            mode: ``offline`` or ``online``.
            config: the settings shown with the run.

        Raises:
            UsageError: wandb is not installed, or the server cannot be used.
        """
        try:
            import wandb
        except ImportError as error:
            raise UsageError("logger.wandb: true: wandb is missing: pip install wandb or logger.wandb=false") from error
        directory.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            host="",
            silent=True,
            username="",
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        try:
            self._run = wandb.init(
                dir=directory, project=project, name=name, mode=mode, config=dict(config or {}), settings=settings
            )
        except wandb.Error as error:
            raise UsageError(f"logger.mode: {mode}: {error}; run wandb login, or logger.mode=offline") from error

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class Loggers:
    """Several loggers as one."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        """Every call goes to each logger, in this order."""
        self._loggers = loggers

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for logger in self._loggers:
            logger.log(step, metrics)

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()


def open_logger(settings: Settings, directory: Path, last_step: int | None = None) -> Logger:
    """``metrics.jsonl``, and Weights & Biases if the settings say so.

    ``last_step`` is that of the resumed checkpoint; None starts anew and removes the rows of an earlier start.
    """
    loggers: list[Logger] = [JsonlLogger(directory / "metrics.jsonl", -1 if last_step is None else last_step)]
    if settings.logger.wandb:
        name = settings.logger.name or directory.name
        config: dict[str, Any] = masked_values(as_dict(settings))
        loggers.append(WandbLogger(directory, settings.logger.project, name, settings.logger.mode, config))
    return Loggers(loggers)
