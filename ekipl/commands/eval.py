"""``ekipl eval``: accuracy on a task's splits, of models, of recorded actions or of a file of completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from omegaconf import DictConfig

    from ekipl.algorithm.seams import Grader
    from ekipl.algorithm.types import Problem
    from ekipl.config import Settings
    from ekipl.report.evaluate import Evaluation
    from ekipl.run.sampling import Graders

    Problems = Mapping[str, Sequence[Problem]]  # by split

EXTERNAL = "external"  # as a model's path: the first M external models


def run(cfg: DictConfig) -> None:
    """Grade, write scores.json, scores.jsonl and table.md, and print the tables."""
    from ekipl.report.published import published_tables
    from ekipl.report.scores import write_scores
    from ekipl.report.tables import show_all
    from ekipl.run import build, describe
    from ekipl.run.actions_io import refuse_mixed, regrade
    from ekipl.run.predictions import evaluate_predictions

    settings, directory = build.begin(cfg, "eval")
    task = build.build_task(settings)
    grade, also = build.build_grader(settings, task), build.further_graders(settings, task)
    if settings.predictions is not None:
        show_all([evaluate_predictions(settings, task, grade, directory)])
        print(directory / "table.md")
        return
    problems = build.open_problems(settings, task)
    found = regrade(settings.records, task, problems, grade, also)
    paths = describe.policies(settings)
    refuse_mixed(found, paths)
    for path in paths:
        found |= _sampled(settings, problems, grade, also, path, directory)
    names = describe.labels(list(found))
    evaluations = {names[model]: evaluation for model, evaluation in found.items()}
    published = published_tables(task.name, evaluations, settings.reward) if settings.data.kind == "reason_rft" else []
    absent = [split for split in settings.splits or task.splits if split not in problems]
    notes = [f"{split}: its file is missing, and it was not evaluated (missing_split=skip)" for split in absent]
    title = f"{task.name}: accuracy by {settings.reward}"
    show_all(write_scores(directory, title, evaluations, describe.meta(settings), published, notes))
    print(directory / "table.md")


def _sampled(
    settings: Settings, problems: Problems, grade: Grader, also: Graders, path: str, directory: Path
) -> dict[str, Evaluation]:
    """The model at ``path``, or all external models, by name. A model is unloaded on return."""
    from ekipl.run import build, describe
    from ekipl.run.progress import progress
    from ekipl.run.sampling import evaluate, evaluate_pool

    with progress(describe.count(problems), f"eval {path}") as advance:
        if path == EXTERNAL:
            pool = build.build_pool(settings, directory)
            return evaluate_pool(pool, grade, problems.values(), settings.samples, advance, also)
        sampler = build.build_sampler(settings, settings.decoding, path)
        return {path: evaluate(sampler, grade, problems.values(), settings.samples, settings.seed, advance, also)}
