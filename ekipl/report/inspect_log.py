"""Graded completions as logs of Inspect (``inspect view``), written by its own library: one a model and split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

from ekipl.algorithm.types import PATH, Problem
from ekipl.report.evaluate import Evaluation, GradedAction

FOLDER = "inspect"  # in the run directory
FORMAT, ACCURACY = "format", "accuracy"


def write_inspect_logs(
    directory: Path,
    task: str,
    problems: Mapping[str, Sequence[Problem]],
    evaluations: Mapping[str, Evaluation],
    reward: str,
    meta: Mapping[str, Any],
) -> Path:
    """Write a log for each model and split; return their folder.

    A sample is a completion: its problem is the id, its number the epoch. Images are references to their files.

    Args:
        directory: the run directory.
        task: the task's name.
        problems: by split; each is read once more.
        evaluations: by model.
        reward: the grader of ``accuracy``.
        meta: what the results depend on.
    """
    from inspect_ai.log import write_eval_log

    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for split, of_split in problems.items():
        asked = {problem.id: _asked(problem) for problem in of_split}
        for number, (model, evaluation) in enumerate(evaluations.items()):
            rows = [row for row in evaluation.scores if row.split == split]
            if rows:
                log = _log(task, split, model, rows, asked, reward, meta)
                name = re.sub(r"[^\w.-]+", "_", model).strip("._")[-80:] or "model"
                write_eval_log(log, str(folder / f"{split}_{number + 1}_{name}.eval"), format="eval")
    return folder


def _asked(problem: Problem) -> tuple[list[Any], str, dict[str, Any]]:
    """What Inspect shows of a problem: its message, its gold answer and its metadata; no pixels."""
    from inspect_ai.model import ChatMessageUser, ContentImage, ContentText

    content: list[Any] = []
    for part in problem.parts:
        if isinstance(part, str):
            content.append(ContentText(text=part))
        elif path := part.info.get(PATH):
            content.append(ContentImage(image=path))
        else:
            content.append(ContentText(text=f"[an image of {part.width} x {part.height} pixels, of no file]"))
    notes = {"kind": problem.kind, "question": problem.question}
    return [ChatMessageUser(content=content)], problem.answer, notes


def _log(
    task: str,
    split: str,
    model: str,
    rows: Sequence[GradedAction],
    asked: Mapping[str, tuple[list[Any], str, dict[str, Any]]],
    reward: str,
    meta: Mapping[str, Any],
) -> Any:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalResults, EvalSpec

    epochs = 1 + max(row.sample for row in rows)
    ids = list(dict.fromkeys(row.problem_id for row in rows))
    decoding = {key: value for key, value in dict(meta.get("decoding") or {}).items() if value is not None}
    spec = EvalSpec(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        task=f"{task}_{split}",
        task_args={"task": task, "split": split},
        dataset=EvalDataset(name=f"{task}/{split}", samples=len(ids), sample_ids=list(ids)),
        model=model,
        model_args=decoding,
        config=EvalConfig(epochs=epochs),
        packages={key: str(value) for key, value in dict(meta.get("versions") or {}).items()},
        metadata={"split": split, "reward": reward, "seed": meta.get("seed")},
    )
    total = len(ids) * epochs
    results = EvalResults(total_samples=total, completed_samples=len(rows), scores=_means(rows, reward))
    samples = [_sample(model, row, *asked[row.problem_id]) for row in rows]
    return EvalLog(status="success", eval=spec, results=results, samples=samples)


def _sample(model: str, row: GradedAction, messages: list[Any], target: str, notes: dict[str, Any]) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant, ModelOutput
    from inspect_ai.scorer import Score

    stop = "max_tokens" if row.finish == "length" else "stop"
    scores = {name: Score(value=value, answer=row.text) for name, value in _values(row).items()}
    return EvalSample(
        id=row.problem_id,
        epoch=row.sample + 1,
        input=messages,
        target=target,
        messages=[*messages, ChatMessageAssistant(content=row.text)],
        output=ModelOutput.from_content(model, row.text, stop_reason=stop),
        scores=scores,
        metadata={"split": row.split, "family": row.family, **notes, "ungraded": row.error, **_why(row)},
    )


def _why(row: GradedAction) -> dict[str, str]:
    """The reason of each further grader that failed."""
    return {f"ungraded_{name}": reason for name, reason in row.ungraded.items()}


def _values(row: GradedAction) -> dict[str, float]:
    """All scores by name; a completion without a reward has no accuracy."""
    form = {} if row.reward is None else {FORMAT: row.reward.format}
    values = row.values
    return {**{name: values[name] for name in values if name == ACCURACY}, **form, **values}


def _means(rows: Sequence[GradedAction], reward: str) -> list[Any]:
    """For each score the mean over problems of each problem's mean, as in ``scores.json``."""
    from inspect_ai.log import EvalMetric, EvalScore

    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for name, value in _values(row).items():
            found.setdefault(name, {}).setdefault(row.problem_id, []).append(value)
    return [
        EvalScore(
            name=name,
            scorer=reward if name in (ACCURACY, FORMAT) else name,
            scored_samples=(scored := sum(map(len, of_problem.values()))),
            unscored_samples=len(rows) - scored,
            metrics={"mean": EvalMetric(name="mean", value=fmean(map(fmean, of_problem.values())))},
        )
        for name, of_problem in found.items()
    ]
