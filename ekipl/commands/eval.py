"""``ekipl eval``: accuracy on a task's splits, of models, of recorded actions or of a file of completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from omegaconf import DictConfig

    from ekipl.algorithm.seams import Grader, Task
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
    from ekipl.run.rewards import build_graders

    settings, directory = build.begin(cfg, "eval")
    task = build.build_task(settings)
    grade, also = build_graders(settings, task, directory)
    if settings.predictions is not None:
        show_all([evaluate_predictions(settings, task, grade, directory)])
        print(directory / "table.md")
        return
    problems = build.open_problems(settings, task)
    found = regrade(settings.records, task, problems, grade, also)
    paths = describe.policies(settings)
    refuse_mixed(found, paths)
    found |= _sampled(settings, task, problems, grade, also, paths, directory)
    names = describe.labels(list(found))
    evaluations = {names[model]: evaluation for model, evaluation in found.items()}
    name = ", ".join(settings.rewards)
    published = published_tables(task.name, evaluations, name) if settings.data.kind == "reason_rft" else []
    absent = [split for split in settings.splits or task.splits if split not in problems]
    notes = [f"{split}: its file is missing, and it was not evaluated (missing_split=skip)" for split in absent]
    title = f"{task.name}: accuracy by {name}"
    spent = describe.spending(directory)
    further = [*published, *([spent] if spent else [])]
    show_all(write_scores(directory, title, evaluations, describe.meta(settings), further, notes))
    print(directory / "table.md")
    if settings.inspect:
        from ekipl.report.inspect_log import write_inspect_logs

        meta = describe.meta(settings)
        print(write_inspect_logs(directory, task.name, problems, evaluations, name, meta))


def _sampled(
    settings: Settings,
    task: Task,
    problems: Problems,
    grade: Grader,
    also: Graders,
    paths: Sequence[str],
    directory: Path,
) -> dict[str, Evaluation]:
    """The models at ``paths``, and all external models, by name. A model is unloaded before the next one loads."""
    from ekipl.progress import progress
    from ekipl.run import build, describe
    from ekipl.run.actions_io import regrade
    from ekipl.run.hub import check_models
    from ekipl.run.kept import sample_models
    from ekipl.run.sampling import evaluate_pool

    own = [path for path in paths if path != EXTERNAL]
    found: dict[str, dict[str, Evaluation]] = {}
    if own:
        check_models(settings, own)
        decoding, samples = settings.decoding, settings.samples
        with progress(len(own) * describe.count(problems), "eval") as advance:
            file = sample_models(settings, directory, own, decoding, problems, samples, grade, advance)
        graded = regrade([str(file)], task, problems, grade, also)
        found = {path: {path: graded[path]} for path in own if path in graded}
    if EXTERNAL in paths:
        with progress(describe.count(problems), f"eval {EXTERNAL}") as advance:
            pool = build.build_pool(settings, directory)
            found[EXTERNAL] = evaluate_pool(pool, grade, problems.values(), settings.samples, advance, also)
    return {name: evaluation for path in paths for name, evaluation in found.get(path, {}).items()}
