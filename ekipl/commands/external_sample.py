"""``ekipl external-sample``: actions of the external models, graded, as actions.jsonl (for ``external=recorded``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ekipl.errors import UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.run.actions_io import Drawn


def run(cfg: DictConfig) -> None:
    """Ask, grade and write; print how good the models are, how often they agree and what they cost."""
    from ekipl.progress import progress
    from ekipl.report.external import external_tables
    from ekipl.report.tables import show_all
    from ekipl.run import build, describe, dry_run
    from ekipl.run.actions_io import Drawn, write_graded
    from ekipl.run.describe import spending, spent_so_far
    from ekipl.run.rewards import build_grader
    from ekipl.run.sampling import ask

    settings, directory = build.begin(cfg, "external_sample")
    task = build.build_task(settings)
    grade = build_grader(settings, task, directory)
    problems = build.open_problems(settings, task)
    samples = settings.samples or settings.N
    if settings.dry_run:
        dry_run.of_splits(settings, problems.values(), samples)
        return
    pool = build.build_pool(settings, directory)
    sampling = describe.external_sampling(settings)
    failed: Counter[str] = Counter()

    def drawn() -> Iterator[Drawn]:
        for problem, answer in (one for split in problems.values() for one in ask(pool, split, samples)):
            failed.update(answer.failed)
            for name in pool.names:
                own = [action for action in answer.actions if action.source == name]
                yield Drawn(name, sampling[name], problem, own)
            advance(1)

    try:
        with progress(describe.count(problems), "external-sample", lambda: spent_so_far(pool)) as advance:
            found = write_graded(directory / "actions.jsonl", grade, drawn(), settings.seed)
    finally:
        pool.close()
    evaluations = {name: found[name] for name in pool.names if name in found}
    spent = spending(directory)
    tables = external_tables(task.name, pool.names, evaluations, samples, dict(failed.most_common()))
    show_all([*tables, *([spent] if spent else [])])
    if not evaluations:
        raise UsageError("external.models: none of them gave a single action; the reasons stand above")
    print(directory / "actions.jsonl")
