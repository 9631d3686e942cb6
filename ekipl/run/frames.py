"""A run as pandas data frames, for notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekipl.run.records import Record, stream_actions
from ekipl.run.shown import model_of, rows_in
from ekipl.run.viewing import METRICS, refuse_no_run

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Frames:
    """The tables of a run; each is empty where the run has none.

    Attributes:
        metrics: a row a step, as in docs/metrics.md.
        actions: a row a candidate of training, or an answer of ``rollout``, ``external-sample``, ``eval`` or ``passk``.
        evaluations: a row an answer at an evaluation of training, with its ``step``, or of ``eval``.
    """

    metrics: DataFrame
    actions: DataFrame
    evaluations: DataFrame


def load(run: str | Path) -> Frames:
    """The run in a folder as data frames.

    Raises:
        ImportError: pandas is not installed.
        UsageError: the folder is no run, or a file in it cannot be read.
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise ImportError("ekipl.load: pandas is missing: pip install 'ekipl[frames]'") from error
    directory = Path(run).expanduser()
    refuse_no_run(directory)
    metrics, scores = directory / METRICS, directory / "scores.jsonl"
    return Frames(
        DataFrame(rows_in(metrics) if metrics.is_file() else ()),
        DataFrame([*_of_steps(directory / "actions"), *_of_file(directory / "actions.jsonl")]),
        DataFrame([*_of_steps(directory / "evaluations"), *(rows_in(scores) if scores.is_file() else ())]),
    )


def _of_steps(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("step-*.jsonl")):
        step = int(file.stem.removeprefix("step-"))
        for record in stream_actions(file):
            yield {"step": step, **_row(record)}


def _of_file(file: Path) -> Iterator[dict[str, Any]]:
    return map(_row, stream_actions(file) if file.is_file() else ())


def _row(record: Record) -> dict[str, Any]:
    action, reward, said = record.action, record.action.reward, record.statement
    return {
        "problem": action.problem_id,
        "split": record.split,
        "family": said and said.family,
        "question": said and said.question,
        "answer": said and said.answer,
        "source": action.source,
        "model": model_of(record),
        "index": action.index,
        "text": action.text,
        "finish": action.finish,
        "length": None if action.tokens is None else len(action.tokens),
        "reward": reward and reward.total,
        "format": reward and reward.format,
        "accuracy": reward and reward.accuracy,
        "kept": record.kept,
        "advantage": record.advantage,
        **{f"detail/{name}": value for name, value in (reward.detail if reward else {}).items()},
    }
