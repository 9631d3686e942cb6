"""``ekipl rollout``: actions of the policy, scored, as actions.jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.run.actions_io import Drawn


def run(cfg: DictConfig) -> None:
    """Sample, score, write, and show how good the actions are."""
    from ekipl.report.evaluate import draw
    from ekipl.report.scores import accuracy_table
    from ekipl.run import build
    from ekipl.run.actions_io import Drawn, write_scored
    from ekipl.run.log import progress

    settings, directory = build.begin(cfg, "rollout")
    task = build.build_task(cfg)
    grade = build.build_grader(settings, task)
    problems = build.open_problems(settings, task)
    path, decoding = settings.model.path, build.decoding_of(settings.rollout)
    sampler = build.build_sampler(settings, decoding)
    sampling = build.policy_sampling(path, decoding)
    samples = settings.samples or settings.N

    def drawn() -> Iterator[Drawn]:
        for of_split in problems.values():
            for problem, actions in draw(sampler, of_split, samples, settings.seed):
                yield Drawn(path, sampling, problem, actions)
                advance(1)

    with progress(build.count(problems), "rollout") as advance:
        evaluations = write_scored(directory / "actions.jsonl", grade, drawn(), settings.seed)
    title = f"{task.name}: {samples} action{'' if samples == 1 else 's'} a problem"
    accuracy_table(title, evaluations).show()
    print(directory / "actions.jsonl")
