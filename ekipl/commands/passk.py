"""``ekipl passk``: pass@k curves of models, or of recorded actions, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.algorithm.seams import Task
    from ekipl.config import Settings
    from ekipl.report.passk import Curve
    from ekipl.report.tables import Table
    from ekipl.run.actions_io import Drawn


class Outcome(NamedTuple):
    """One sample; ``right`` is None where it could not be graded."""

    model: str
    split: str
    problem: str
    right: bool | None


def run(cfg: DictConfig) -> None:
    """Sample or read actions, write passk.json and passk.png, and show the table."""
    from ekipl.files import write_json, write_text
    from ekipl.report import plots
    from ekipl.report.tables import show_all
    from ekipl.run import build
    from ekipl.run.actions_io import refuse_mixed

    settings, directory = build.begin(cfg, "passk")
    task = build.build_task(cfg)
    outcomes = _recorded(settings, task)
    paths = build.policies(settings)
    refuse_mixed({outcome.model for outcome in outcomes}, paths)
    if paths:
        outcomes += _sampled(settings, task, paths, directory)
    curves = _curves(settings, task, outcomes)
    entries = {split: [_entry(c) for c in of_split] for split, of_split in curves.items()}
    meta = build.meta(settings)
    write_json(directory / "passk.json", {"splits": entries, "differences": _differences(curves), "meta": meta})
    plots.passk(directory / "passk.png", entries)
    tables = _tables(task, curves)
    write_text(directory / "table.md", "\n".join(table.markdown() for table in tables))
    show_all(tables)
    print(directory / "passk.png")


def _ks(settings: Settings) -> list[int]:
    assert settings.passk is not None  # a rule of the settings
    return sorted(set(settings.passk.k))


def _recorded(settings: Settings, task: Task) -> list[Outcome]:
    """The recorded samples, of ``limit`` problems a split, with the rewards that they were written with."""
    from ekipl.run.actions_io import replay
    from ekipl.run.records import Record

    def outcome(model: str, record: Record) -> Outcome:
        reward = record.action.reward
        return Outcome(model, record.split, record.action.problem_id, None if reward is None else reward.accuracy == 1)

    found = replay(settings.records or (), task, outcome)
    problems: dict[str, dict[str, None]] = {}  # by split, in the order of the files
    for one in found:
        problems.setdefault(one.split, {})[one.problem] = None
    splits = problems if settings.splits is None else settings.splits
    wanted = {(split, problem) for split in splits for problem in list(problems.get(split, ()))[: settings.limit]}
    return [one for one in found if (one.split, one.problem) in wanted]


def _sampled(settings: Settings, task: Task, paths: Sequence[str], directory: Path) -> list[Outcome]:
    """Samples of the models, one model after another; all of them go to actions.jsonl."""
    from ekipl.report.evaluate import draw
    from ekipl.run import build
    from ekipl.run.actions_io import Drawn, write_scored
    from ekipl.run.log import progress

    problems, grade = build.open_problems(settings, task), build.build_grader(settings, task)
    decoding = build.decoding_of(settings.decoding)
    samples = (settings.passk.samples if settings.passk else None) or max(_ks(settings))

    def of_model(path: str) -> Iterator[Drawn]:  # a function, so that one model is unloaded before the next loads
        sampler = build.build_sampler(settings, decoding, path)
        sampling = build.policy_sampling(path, decoding)
        for of_split in problems.values():
            for problem, actions in draw(sampler, of_split, samples, settings.seed):
                yield Drawn(path, sampling, problem, actions)
                advance(1)

    with progress(len(paths) * build.count(problems), "passk") as advance:
        drawn = (one for path in paths for one in of_model(path))
        evaluations = write_scored(directory / "actions.jsonl", grade, drawn, settings.seed)
    return [
        Outcome(model, score.split, score.problem_id, score.right)
        for model, evaluation in evaluations.items()
        for score in evaluation.scores
    ]


def _curves(settings: Settings, task: Task, outcomes: Sequence[Outcome]) -> dict[str, list[Curve]]:
    """A curve for each model, by split; the task's own splits come first."""
    from ekipl.errors import UsageError
    from ekipl.report.passk import curve, tally
    from ekipl.run.build import labels

    if not outcomes:
        raise UsageError(f"records: {', '.join(settings.records or ())}: no action in them is of the splits asked for")
    seen: dict[str, dict[str, list[tuple[str, bool | None]]]] = {}
    for one in outcomes:
        seen.setdefault(one.split, {}).setdefault(one.model, []).append((one.problem, one.right))
    names = labels(list(dict.fromkeys(one.model for one in outcomes)))
    return {
        split: [
            curve(names[model], tally(own), _ks(settings), seed=settings.seed) for model, own in seen[split].items()
        ]
        for split in dict.fromkeys((*task.splits, *seen))
        if split in seen
    }


def _entry(curve: Curve) -> dict[str, Any]:
    """A curve in ``passk.json``."""
    mean, low, high = zip(*curve.means, strict=True)
    return {
        "model": curve.model,
        "problems": len(curve.problems),
        "samples": curve.samples,
        "left_out": curve.left_out,
        "k": curve.ks,
        "mean": mean,
        "low": low,
        "high": high,
    }


def _differences(curves: Mapping[str, Sequence[Curve]]) -> list[dict[str, Any]]:
    """Each further model - the first of its split, at every k, paired by problem."""
    from ekipl.report.passk import difference

    return [
        {"model": other.model, "against": first.model, "split": split, "k": other.ks, "difference": estimates}
        for split, (first, *others) in curves.items()
        for other in others
        for estimates in [[estimate._asdict() for estimate in difference(first, other)]]
    ]


def _tables(task: Task, curves: Mapping[str, Sequence[Curve]]) -> list[Table]:
    from ekipl.report.stats import Estimate
    from ekipl.report.tables import Table, percent_interval, points

    every = [(split, curve) for split, of_split in curves.items() for curve in of_split]
    at_k = [f"pass@{k} %" for k in every[0][1].ks]
    rows = [
        [curve.model, split, str(len(curve.problems)), str(curve.samples), *map(percent_interval, curve.means)]
        for split, curve in every
    ]
    notes = [
        f"{curve.model}, {split}: {curve.left_out} problems left out, too few of their samples could be graded"
        for split, curve in every
        if curve.left_out
    ]
    tables = [
        Table(f"{task.name}: pass@k (95 % interval)", ["model", "split", "problems", "samples", *at_k], rows, notes)
    ]
    compared = [
        [entry["model"], entry["against"], entry["split"], *(points(Estimate(**e)) for e in entry["difference"])]
        for entry in _differences(curves)
    ]
    if compared:
        header = ["model", "against", "split", *at_k]
        tables.append(Table("Difference in points (paired by problem, 95 % interval)", header, compared))
    return tables
