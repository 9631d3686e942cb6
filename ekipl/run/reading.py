"""What a run reads: whether the model can read it, and rows that fail although they were sound when the run began."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Problem
from ekipl.data.problems import Fits, say
from ekipl.errors import BadRow, UsageError

if TYPE_CHECKING:
    from ekipl.config import Settings
    from ekipl.engine.collectives import Processes

Told = Callable[[int, Sequence[BadRow]], None]
LOST = 3  # steps in a row without a row that can be read: the data is gone


def readable(
    problems: Sequence[Problem], indices: Iterable[int], fits: Fits | None = None
) -> tuple[list[Problem], list[BadRow]]:
    """The problems that can be read, and the errors of the others; ``fits`` says why a model cannot read one."""
    read: list[Problem] = []
    bad: list[BadRow] = []
    for index in indices:
        try:
            problem = problems[index]
            sizes = [image.size for image in problem.images]
            if fits and (reasons := list(fits(problem.prompt, sizes))):
                raise BadRow(f"data: row id {problem.id!r}: {'; '.join(reasons)}", skip=False)
        except BadRow as error:
            bad.append(error)
        else:
            read.append(problem)
    return read, bad


def settled(problems: Sequence[Problem], indices: Iterable[int]) -> list[Problem]:
    """The problems that can be read. Raises BadRow for another unless the setting is to go on without it."""
    read, bad = readable(problems, indices)
    for error in bad:
        if not error.skip:
            raise error
        say(f"ekipl: warning: {error} (skipped: data.bad_rows=skip)", ())
    return read


def batches(
    problems: Sequence[Problem],
    order: Iterable[Sequence[int]],
    first_step: int,
    processes: Processes,
    told: Told,
    fits: Fits | None = None,
) -> Iterator[list[Problem]]:
    """This rank's problems of each step. A collective: each rank asks for the same steps.

    Args:
        problems: the training problems.
        order: the indices of each step, over all ranks.
        first_step: 0-based, of ``order``.
        processes: the ranks.
        told: called on all ranks, with the number of steps done and the rows that cannot be read, if there are any.
        fits: why the model cannot read a problem.

    Raises:
        UsageError: no row of ``LOST`` steps in a row can be read.
    """
    lost = 0
    for step, indices in enumerate(order, first_step):
        read, bad = readable(problems, processes.mine(indices), fits)
        parts = processes.gather((len(read), [(str(error), error.skip) for error in bad]))
        errors = [BadRow(text, skip=skip) for _, part in parts for text, skip in part]
        if errors:
            told(step, errors)
        lost = 0 if any(count for count, _ in parts) else lost + 1
        if lost == LOST:
            raise UsageError(f"step {step + 1}: no row of the last {LOST} steps can be read; is the data still there?")
        yield read


def opened(settings: Settings, task: Task) -> tuple[Sequence[Problem], list[Sequence[Problem]]]:
    """The training problems, and those of each evaluation split; no split when nothing is evaluated.

    Raises:
        UsageError: there is no such split, or rows cannot be read: the faults of all files, before anything runs.
    """
    evaluation, data = settings.evaluation, settings.data
    splits = (evaluation.splits or task.splits) if evaluation.every else ()
    best = [split for split in [settings.checkpoint.best] if split is not None]
    if wrong := [split for split in [*splits, *best] if split not in task.splits]:
        raise UsageError(f"evaluation.splits: {', '.join(wrong)}: {task.name} has {', '.join(task.splits)}")
    found: list[Sequence[Problem]] = []
    faults: list[str] = []
    wanted = [("train", data.train_limit, reader_of_training(settings))]
    judged = reader_of(settings, [settings.model.path], "evaluation") if splits else None
    for split, limit, fits in [*wanted, *((split, evaluation.limit, judged) for split in splits)]:
        try:
            found.append(data.problems(task, split, limit, fits))
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise UsageError("\n".join(faults))
    return found[0], found[1:]


def reader_of(settings: Settings, paths: Iterable[str], section: str) -> Fits | None:
    """Why one of these models cannot read a prompt and give it an answer of ``section.max_tokens`` tokens."""
    if not (paths := list(paths)):
        return None
    from ekipl.policy.fits import reader

    model, answer = settings.model, getattr(settings, section).max_tokens
    limits = {"min_pixels": model.min_pixels, "max_pixels": model.max_pixels}
    options = {**limits, "trust_remote_code": model.trust_remote_code, "answer": answer}
    readers = [one for path in paths if (one := reader(path, **options, key=f"{section}.max_tokens"))]
    return lambda prompt, sizes: (reason for one in readers for reason in one(prompt, sizes))


def reader_of_training(settings: Settings) -> Fits | None:
    """Why a run cannot train on a prompt: also for want of an image, where ranks wait for each other's vision tower."""
    fits, engine = reader_of(settings, [settings.model.path], "rollout"), settings.engine
    if engine.world_size == 1 or engine.zero_stage == 0:
        return fits

    def reasons(prompt: str, sizes: Sequence[tuple[int, int]]) -> Iterator[str]:
        if not sizes:
            yield (
                f"no image: every row needs one with ZeRO-{engine.zero_stage} on {engine.world_size} ranks, which wait "
                "for each other's vision tower; leave the row out, or set engine=zero0"
            )
        yield from fits(prompt, sizes) if fits else ()

    return reasons


def reader_of_command(settings: Settings) -> Fits | None:
    """Why a model that the command samples from cannot read a prompt."""
    from ekipl.run.describe import policies

    if settings.command == "external_sample":
        return None
    if settings.command in ("rollout", "show"):
        return reader_of(settings, [settings.model.path], "rollout")
    return reader_of(settings, [path for path in policies(settings) if path != "external"], "decoding")
