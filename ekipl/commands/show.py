"""``ekipl show``: what the policy reads of a few problems, and how their answers are graded; nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    """Read the problems and the model's tokenizer, without weights, and print."""
    from ekipl.config import check, first_stage
    from ekipl.run import build
    from ekipl.run.hub import check_hub_models
    from ekipl.run.showing import grader_of, show

    settings, before = check(cfg, "show"), first_stage(cfg)
    check_hub_models(settings)
    task = build.build_task(settings)
    grade = grader_of(settings, task)
    problems = build.open_problems(settings, task)
    vlm = build.load_policy(settings, weights=False)
    stages = [settings] if before is None else [check(before, "show"), settings]
    for line in show(stages, grade, problems, vlm):
        print(line)
