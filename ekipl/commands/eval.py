"""``ekipl eval``: accuracy on a task's splits, of models, of recorded actions or of a file of completions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.algorithm.seams import Grader, Task
    from ekipl.algorithm.types import Action, Problem
    from ekipl.config import Settings
    from ekipl.report.evaluate import Evaluation, GradedAction
    from ekipl.report.tables import Table

    Problems = Mapping[str, Sequence[Problem]]  # by split
    Graders = Mapping[str, Grader]  # further ones, by name


EXTERNAL = "external"  # as a model's path: the first M external models


def run(cfg: DictConfig) -> None:
    """Grade, write scores.json, scores.jsonl and table.md, and show the tables."""
    from ekipl.report.published import published_tables
    from ekipl.report.scores import write_scores
    from ekipl.report.tables import show_all
    from ekipl.run import build
    from ekipl.run.actions_io import refuse_mixed

    settings, directory = build.begin(cfg, "eval")
    task = build.build_task(cfg)
    grade, also = build.build_grader(settings, task), build.further_graders(settings, task)
    if settings.predictions is not None:
        show_all(_predictions(settings, task, grade, directory))
        print(directory / "table.md")
        return
    problems = build.open_problems(settings, task)
    found = _recorded(settings, task, problems, grade, also)
    paths = build.policies(settings)
    refuse_mixed(found, paths)
    for path in paths:
        found |= (
            _asked(settings, problems, grade, also, directory)
            if path == EXTERNAL
            else {path: _sampled(settings, problems, grade, also, path)}
        )
    names = build.labels(list(found))
    evaluations = {names[model]: evaluation for model, evaluation in found.items()}
    among = published_tables(task.name, evaluations, settings.reward) if settings.data.kind == "reason_rft" else []
    absent = [split for split in settings.splits or task.splits if split not in problems]
    notes = [f"{split}: its file is missing, and it was not evaluated (missing_split=skip)" for split in absent]
    title = f"{task.name}: accuracy by {settings.reward}"
    show_all(write_scores(directory, title, evaluations, build.meta(settings), among, notes))
    print(directory / "table.md")


def _sampled(settings: Settings, problems: Problems, grade: Grader, also: Graders, path: str) -> Evaluation:
    """The model at ``path``; it is unloaded on return."""
    from ekipl.report.evaluate import evaluate, summarize
    from ekipl.run import build
    from ekipl.run.log import progress

    sampler = build.build_sampler(settings, build.decoding_of(settings.decoding), path)
    scores: list[GradedAction] = []
    with progress(build.count(problems), f"eval {path}") as advance:
        for of_split in problems.values():
            scores += evaluate(sampler, grade, of_split, settings.samples or 1, settings.seed, advance, also).scores
    return summarize(scores)


def _asked(
    settings: Settings, problems: Problems, grade: Grader, also: Graders, directory: Path
) -> dict[str, Evaluation]:
    """The external models, each by its name. What failed in the end is an error, in no mean."""
    from ekipl.report.evaluate import chunks, failed, grade_action, summarize
    from ekipl.run import build
    from ekipl.run.log import progress

    pool = build.build_pool(settings, directory)
    scores: dict[str, list[GradedAction]] = {name: [] for name in pool.names}
    number = settings.samples or 1
    try:
        with progress(build.count(problems), "eval external") as advance:
            for chunk in (chunk for split in problems.values() for chunk in chunks(split, number)):
                for problem, answer in zip(chunk, pool.sample(chunk, number), strict=True):
                    for action in answer.actions:
                        scores[action.source].append(grade_action(grade, problem, action, also))
                    for name, own in scores.items():
                        got = sum(action.source == name for action in answer.actions)
                        own += failed(problem, range(got, number), answer.failed)
                    advance(1)
    finally:
        pool.close()
    return {name: summarize(own) for name, own in scores.items()}


def _recorded(
    settings: Settings, task: Task, problems: Problems, grade: Grader, also: Graders
) -> dict[str, Evaluation]:
    """Recorded actions by model, graded anew. Raises UsageError where there are none."""
    from ekipl.errors import UsageError
    from ekipl.report.evaluate import grade_action, summarize
    from ekipl.run.actions_io import replay

    actions: dict[tuple[str, str], list[tuple[str, Action]]] = {}  # of a problem, with their models
    for model, split, action in replay(settings.records or (), task, lambda m, r: (m, r.split, r.action)):
        actions.setdefault((split, action.problem_id), []).append((model, action))
    scores: dict[str, list[GradedAction]] = {}
    for split, of_split in problems.items():
        for problem in of_split if actions else ():
            for model, action in actions.get((split, problem.id), ()):
                scores.setdefault(model, []).append(grade_action(grade, problem, action, also))
    if settings.records and not scores:
        there = ", ".join(sorted({split for split, _ in actions})) or "none"
        raise UsageError(
            f"records: {', '.join(settings.records)}: no action of a problem of {', '.join(problems)}; "
            f"the splits there are {there}: set splits, or the data they come from"
        )
    return {model: summarize(own) for model, own in scores.items()}


def _predictions(settings: Settings, task: Task, grade: Grader, directory: Path) -> list[Table]:
    """A file of completions: no model, no data set. ``scores.jsonl`` is in the file's order."""
    from ekipl.data.problems import gold_as_it_stands, gold_of
    from ekipl.files import read_jsonl, write_json, write_text
    from ekipl.report.predictions import score_predictions
    from ekipl.report.stats import cluster_interval
    from ekipl.report.tables import Table, percent, percent_interval
    from ekipl.reward.graders import PUBLISHED
    from ekipl.run import build

    assert settings.predictions is not None
    path = Path(settings.predictions).expanduser()
    gold = partial(gold_as_it_stands if settings.reward in PUBLISHED else gold_of, task=task)
    summary = score_predictions(path, task.name, gold, grade, directory)
    graded = [row for row in read_jsonl(directory / "scores.jsonl") if row["error"] is None]
    ids = [json.dumps(row["id"]) for row in graded]  # 1 and "1" are two problems
    accuracy = cluster_interval([row["accuracy"] for row in graded], ids)
    split = {"split": "predictions", **summary, "problems": len(set(ids)), "accuracy": accuracy._asdict()}
    write_json(directory / "scores.json", {"splits": [split], "meta": build.meta(settings)})
    details = [key for key in summary if key not in ("rows", "errors", "format", "accuracy", "kinds")]
    header = ["file", "rows", "problems", "accuracy %", "format %", *(f"{key} %" for key in details), "errors"]
    shares = [math.nan if summary[key] is None else summary[key] for key in ("format", *details)]
    row = [path.name, str(summary["rows"]), str(len(set(ids))), percent_interval(accuracy), *map(percent, shares)]
    kinds = summary["kinds"] if len(summary["kinds"]) > 1 else {}
    notes = [f"{kind}: {percent(part['accuracy'])} % of {part['rows']} rows" for kind, part in kinds.items()]
    if summary["errors"]:
        notes.append(f"{summary['errors']} rows could not be graded and are in no mean: scores.jsonl says why")
    table = Table(f"{task.name}: accuracy (95 % interval)", header, [[*row, str(summary["errors"])]], notes)
    write_text(directory / "table.md", table.markdown())
    return [table]
