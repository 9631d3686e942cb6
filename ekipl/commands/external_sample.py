"""``ekipl external-sample``: actions of the external models, scored, as actions.jsonl (for ``external=recorded``)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.commands.scoring import Drawn
    from ekipl.evaluate import Evaluation
    from ekipl.tables import Table


def run(cfg: DictConfig) -> None:
    """Ask, score, write, and show how good the models are and how often they are right together."""
    from ekipl.commands import build
    from ekipl.commands.scoring import Drawn, write_scored
    from ekipl.evaluate import chunks
    from ekipl.log import progress
    from ekipl.scores import accuracy_table
    from ekipl.tables import show_all

    settings, directory = build.begin(cfg, "external_sample")
    task = build.build_task(cfg)
    problems = build.open_problems(settings, task)
    pool = build.build_pool(settings)
    sampling = build.external_sampling(settings)
    samples = settings.samples or settings.N
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
        with progress(build.count(problems), "external-sample") as advance:
            evaluations = write_scored(directory / "actions.jsonl", task, drawn(), settings.seed)
    finally:
        pool.close()
    notes = [f"no action: {count} x {reason}" for reason, count in failed.most_common()]
    notes += [f"{name}: no action at all" for name in pool.names if name not in evaluations]
    title = f"{task.name}: up to {samples} actions a problem"
    show_all([accuracy_table(title, evaluations, notes), *agreement(evaluations)])
    print(directory / "actions.jsonl")


def agreement(evaluations: Mapping[str, Evaluation]) -> list[Table]:
    """How often an action of one model and an action of another are right together; none with fewer than two models."""
    from ekipl.passk import tally
    from ekipl.tables import Table, percent

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
