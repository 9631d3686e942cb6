"""``ekipl rollout``: actions of the policy, graded, as actions.jsonl."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    """Sample, grade and write; print the accuracy."""
    from ekipl.progress import progress
    from ekipl.report.scores import accuracy_table
    from ekipl.run import build, describe
    from ekipl.run.actions_io import draw_models, write_graded
    from ekipl.run.rewards import build_grader

    settings, directory = build.begin(cfg, "rollout")
    task = build.build_task(settings)
    grade = build_grader(settings, task, directory)
    problems = build.open_problems(settings, task)
    samples = settings.samples or settings.N
    with progress(describe.count(problems), "rollout") as advance:
        decoding = settings.rollout
        drawn = draw_models(settings, [settings.model.path], decoding, problems.values(), samples, advance)
        evaluations = write_graded(directory / "actions.jsonl", grade, drawn, settings.seed)
    title = f"{task.name}: {samples} action{'' if samples == 1 else 's'} a problem"
    accuracy_table(title, evaluations).show()
    print(directory / "actions.jsonl")
