"""``ekipl passk``: pass@k curves of models, or of recorded actions, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from omegaconf import DictConfig

    from ekipl.algorithm.seams import Task
    from ekipl.config import Settings
    from ekipl.report.passk import Outcome


def run(cfg: DictConfig) -> None:
    """Sample or read actions, write passk.json, passk.png and table.md, and print the tables."""
    from ekipl.errors import UsageError
    from ekipl.report.passk import write_passk
    from ekipl.report.tables import show_all
    from ekipl.run import build, describe
    from ekipl.run.actions_io import recorded_outcomes, refuse_mixed
    from ekipl.run.kept import ACTIONS

    settings, directory = build.begin(cfg, "passk")
    task = build.build_task(settings)
    records = settings.records or ()
    outcomes = recorded_outcomes(records, task, settings.splits, settings.limit)
    paths = describe.policies(settings)
    refuse_mixed({outcome.model for outcome in outcomes}, paths)
    if paths:
        outcomes += _sampled(settings, task, paths, directory)
    if not outcomes:
        raise UsageError(f"records: {', '.join(records)}: no action in them is of the splits asked for")
    names = describe.labels(list(dict.fromkeys(one.model for one in outcomes)))
    outcomes = [one._replace(model=names[one.model]) for one in outcomes]
    meta = describe.meta(settings)
    show_all(write_passk(directory, task, outcomes, sorted(set(settings.passk.k)), settings.seed, meta))
    print(directory / "passk.png")
    if settings.inspect:
        print(_inspected(settings, task, [*records, *([str(directory / ACTIONS)] if paths else [])], directory))


def _inspected(settings: Settings, task: Task, files: Sequence[str], directory: Path) -> Path:
    """The folder with the logs of all actions, drawn and recorded; they are graded again."""
    from ekipl.report.inspect_log import write_inspect_logs
    from ekipl.run import build, describe
    from ekipl.run.actions_io import regrade
    from ekipl.run.rewards import build_grader

    problems = build.open_problems(settings, task)
    found = regrade(files, task, problems, build_grader(settings, task), {})
    names = describe.labels(list(found))
    evaluations = {names[model]: evaluation for model, evaluation in found.items()}
    meta = describe.meta(settings)
    return write_inspect_logs(directory, task.name, problems, evaluations, ", ".join(settings.rewards), meta)


def _sampled(settings: Settings, task: Task, paths: Sequence[str], directory: Path) -> list[Outcome]:
    """Samples of the models, written to actions.jsonl."""
    from ekipl.progress import progress
    from ekipl.run import build, describe
    from ekipl.run.actions_io import recorded_outcomes
    from ekipl.run.hub import check_models
    from ekipl.run.kept import sample_models
    from ekipl.run.rewards import build_grader

    problems, grade = build.open_problems(settings, task), build_grader(settings, task, directory)
    samples = settings.passk.samples or max(settings.passk.k)
    check_models(settings, paths)
    with progress(len(paths) * describe.count(problems), "passk") as advance:
        file = sample_models(settings, directory, paths, settings.decoding, problems, samples, grade, advance)
    outcomes = recorded_outcomes([str(file)], task, None, None)
    return sorted(outcomes, key=lambda one: paths.index(one.model))
