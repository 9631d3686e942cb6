"""One question: a problem without a gold answer, and the answers of a policy or of the external models to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Action, AnswerKind, Example, Problem
from ekipl.data import pictures
from ekipl.data.problems import problem_from
from ekipl.data.sources import content_of
from ekipl.errors import UsageError
from ekipl.external.settings import ExternalModel, LiteLLM
from ekipl.reward.letters import lists_options
from ekipl.run import build
from ekipl.run.reading import reader_of

if TYPE_CHECKING:
    from ekipl.config import Settings

EXTERNAL = "external"  # as the model's path: the first M external models
NAME = "ask"  # of the problem and its split


def problem_of(settings: Settings, task: Task) -> Problem:
    """The question of the settings as a problem, worded by ``task``.

    Raises:
        UsageError: no question; images that are no usable pictures, or that the policy cannot read with this question.
    """
    if not (settings.question or "").strip():
        raise UsageError('question: missing; write it in quotes: ekipl ask [IMAGE ...] "QUESTION" [key=value ...]')
    assert settings.question is not None
    images, faults = [], []
    for number, name in enumerate(settings.images):
        try:
            images.append(pictures.decode(content_of(Path(name).expanduser())))
        except pictures.BadPicture as bad:
            faults.append(f"images.{number}: {name}: {bad}; name a file of {', '.join(pictures.FORMATS)}")
    if faults:
        raise UsageError("\n".join(faults))
    example = Example(NAME, tuple(images), settings.question, "", _kind(task, settings.question))
    problem = problem_from(task, example, NAME)
    if settings.model.path != EXTERNAL:
        fits = reader_of(settings, [settings.model.path], "decoding")
        if fits and (reasons := list(fits(problem.prompt, [image.size for image in problem.images]))):
            raise UsageError("\n".join(reasons))
    return problem


def _kind(task: Task, question: str) -> AnswerKind:
    """How the task asks: for a letter where the question lists options, and else not."""
    if "choice" in task.kinds and lists_options(question):
        return "choice"
    return next((kind for kind in task.kinds if kind != "choice"), task.kinds[0])


def answer_of_policy(settings: Settings, problem: Problem, told: Callable[[str], None]) -> Action:
    """The answer of the model at ``model.path``.

    ``told`` gets its text in parts, as its tokens are sampled; of vLLM and of a sampler of one's own, in one part.
    """
    from ekipl.policy.streaming import Streams

    sampler = build.build_sampler(settings, settings.decoding)
    if isinstance(sampler, Streams):
        return sampler.stream(problem, settings.seed, told)
    [[action]] = sampler.sample([problem], 1, settings.seed)
    told(action.text)
    return action


def answers_of_others(settings: Settings, problem: Problem) -> Sequence[Action]:
    """One answer of each external model that gave one. Raises UsageError where none did."""
    external = settings.external
    if isinstance(external, LiteLLM):  # one answer of each, whatever is configured for training
        settings = replace(settings, external=replace(external, models=tuple(map(_once, external.models))))
    pool = build.build_pool(settings, None)
    try:
        [samples] = pool.sample([problem], 1)
    finally:
        pool.close()
    if not samples.actions:
        reasons = ", ".join(sorted(samples.failed)) or "no answer"
        raise UsageError(
            f"external.models: {', '.join(pool.names)}: no answer ({reasons}); ask again, or another model"
        )
    return samples.actions


def _once(model: ExternalModel) -> ExternalModel:
    return replace(model, samples=1)
