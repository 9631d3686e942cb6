"""``ekipl external-sample``: actions of the external models, scored, as actions.jsonl (for ``external=recorded``)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING

from ekipl.errors import UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.report.evaluate import Evaluation
    from ekipl.report.tables import Table
    from ekipl.run.actions_io import Drawn


def run(cfg: DictConfig) -> None:
    """Ask, score, write, and show how good the models are and how often they are right together."""
    from ekipl.report.evaluate import chunks
    from ekipl.report.no_gradient import dead_table
    from ekipl.report.scores import accuracy_table
    from ekipl.report.tables import show_all
    from ekipl.run import build, dry_run
    from ekipl.run.actions_io import Drawn, write_scored
    from ekipl.run.log import progress
    from ekipl.run.spending import spending, spent_so_far

    settings, directory = build.begin(cfg, "external_sample")
    task = build.build_task(cfg)
    grade = build.build_grader(settings, task)
    problems = build.open_problems(settings, task)
    samples = settings.samples or settings.N
    if settings.dry_run:
        dry_run.of_splits(settings, problems.values(), samples)
        return
    pool = build.build_pool(settings, directory)
    sampling = build.external_sampling(settings)
    failed: Counter[str] = Counter()

    def drawn() -> Iterator[Drawn]:
        for of_split in problems.values():
            for chunk in chunks(of_split, samples * len(pool.names)):
                for problem, answer in zip(chunk, pool.sample(chunk, samples), strict=True):
                    failed.update(answer.failed)
                    for name in pool.names:
                        own = [action for action in answer.actions if action.source == name]
                        yield Drawn(name, sampling[name], problem, own)
                    advance(1)

    try:
        with progress(build.count(problems), "external-sample", lambda: spent_so_far(pool)) as advance:
            evaluations = write_scored(directory / "actions.jsonl", grade, drawn(), settings.seed)
    finally:
        pool.close()
    evaluations = {name: evaluations[name] for name in pool.names if name in evaluations}
    notes = [f"no action: {count} x {reason}" for reason, count in failed.most_common()]
    if failed:
        notes.append("the same command again asks for those that were not answered; nothing is paid for twice")
    notes += [f"{name}: no action at all" for name in pool.names if name not in evaluations]
    notes += [f"{name}: {length(evaluation):.0f} characters an action" for name, evaluation in evaluations.items()]
    title = f"{task.name}: up to {samples} actions a problem"
    spent = spending(directory)
    tables = [accuracy_table(title, evaluations, notes), *agreement(evaluations)]
    tables += [dead_table(evaluations, samples)] if evaluations else []
    show_all([*tables, *([spent] if spent else [])])
    if not evaluations:
        raise UsageError("external.models: none of them gave a single action; the reasons stand above")
    print(directory / "actions.jsonl")


def length(evaluation: Evaluation) -> float:
    """Mean characters of an action; tokens are the policy's matter."""
    return fmean(len(score.text) for score in evaluation.scores)


def agreement(evaluations: Mapping[str, Evaluation]) -> list[Table]:
    """How often an action of one model and an action of another are right together; none with fewer than two models."""
    from ekipl.report.passk import tally
    from ekipl.report.tables import Table, percent

    right: dict[str, dict[tuple[str, str], float]] = {}  # model -> problem -> chance that an action is right
    for model, evaluation in evaluations.items():
        tallies = tally(((score.split, score.problem_id), score.right) for score in evaluation.scores)
        right[model] = {problem: t.right / t.graded for problem, t in tallies.items() if t.graded}
    rows = []
    for a, b in combinations(right, 2):
        pairs = [(right[a][problem], right[b][problem]) for problem in right[a] if problem in right[b]]
        both = fmean(p * q for p, q in pairs) if pairs else math.nan
        neither = fmean((1 - p) * (1 - q) for p, q in pairs) if pairs else math.nan
        rows.append([f"{a}, {b}", str(len(pairs)), *map(percent, (both, 1 - both - neither, neither))])
    header = ["models", "problems", "both right %", "one right %", "both wrong %"]
    return [Table("Agreement of an action of each", header, rows)] if rows else []
