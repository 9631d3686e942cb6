"""``--dry-run``: gather the sizes of a run and of its prompts, and print its steps, memory and costs.

No weight is loaded, no request is sent, and no directory is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Example, Problem
from ekipl.data.problems import first_of
from ekipl.data.reason_rft import ReasonRFTData, published_images
from ekipl.errors import UsageError
from ekipl.report.tables import Table, show_all
from ekipl.reward.graders import JUDGE
from ekipl.run.fitting import fit_of
from ekipl.run.memory import READ, Prompt, memory_of, outline_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.config import Settings

PIXELS_A_TOKEN = 28 * 28  # of Qwen2-VL, for models whose configuration is not here


def of_training(stages: Sequence[DictConfig]) -> None:
    """Print the work, the memory and the costs of each stage of a training run.

    Raises:
        UsageError: rows cannot be read, and the run would refuse them; all else is printed before.
    """
    from ekipl.config import check
    from ekipl.run import build
    from ekipl.run.reading import opened
    from ekipl.run.rewards import build_grader

    bad: list[str] = []
    for cfg in stages:
        settings = check(cfg, "train")
        task = build.build_task(settings)
        settings = _with_length(settings, task)
        build_grader(settings, task)  # refused here as in the run
        outline, prompt = outline_of(settings.model), prompt_of(settings, task)
        tokens = prompt.tokens(outline.pixels_per_token if outline else PIXELS_A_TOKEN)
        show_all([work_table(settings, tokens), memory_of(settings, outline, prompt)])
        if settings.gpu_gib is not None and outline is not None:
            fit_of(settings, outline, prompt, settings.gpu_gib).show()
        asked = settings.external.kind == "litellm" and settings.M > 0
        try:
            show(settings, _asked(settings, task) if asked else (), settings.N)
        except UsageError as error:  # the data cannot be read: the number of requests is known, their cost is not
            requests = settings.steps * settings.problems_per_step * settings.candidates[1]
            print(f"API requests: at most {requests:,}; dollars: not known: {error}")
        if isinstance(settings.data, ReasonRFTData) and settings.data.root is None:
            continue  # a run would download them
        try:
            opened(settings, task)
        except UsageError as error:
            bad.append(str(error))
    if bad:
        raise UsageError("\n".join(dict.fromkeys(bad)))


def _asked(settings: Settings, task: Task) -> Iterable[Problem]:
    from ekipl.algorithm.loop import data_order

    problems = settings.data.problems(task, "train", settings.data.train_limit)
    return (problems[row] for row in chain.from_iterable(data_order(len(problems), settings)))


def _with_length(settings: Settings, task: Task) -> Settings:
    """The settings with B known; without the data, from the number of rows that are published."""
    from ekipl.run import build

    if settings.B is not None:
        return settings
    data = settings.data
    if isinstance(data, ReasonRFTData) and (rows := data.published_rows(task)) is not None:
        return build.with_length(settings, rows)
    return build.with_length(settings, len(data.problems(task, "train", data.train_limit)))


def of_splits(settings: Settings, problems: Iterable[Sequence[Problem]], samples: int) -> None:
    """Print the costs of ``external-sample``."""
    show(settings, chain.from_iterable(problems), samples)


def show(settings: Settings, problems: Iterable[Problem], samples: int) -> None:
    """Print the requests, tokens and US dollars that these problems still take."""
    from ekipl.external.budget import IMAGE_TOKENS
    from ekipl.external.images import MOST_BYTES, MOST_SIDE
    from ekipl.external.pool import LiteLLMPool
    from ekipl.report.spending import remaining_table
    from ekipl.run import build

    pool = build.build_pool(settings, None)
    try:
        if not isinstance(pool, LiteLLMPool):
            print(f"external.kind: {settings.external.kind}, M: {settings.M}: nobody is asked")
            return
        changed: dict[str, None] = {}  # in order, each once
        remaining = pool.remaining_cost(_noting(problems, changed), samples)
        if all(cost.is_simulated for cost in remaining):
            names = ", ".join(cost.model for cost in remaining)
            print(f"external models: {names}: simulated; nothing is requested or paid")
        else:
            remaining_table(remaining, IMAGE_TOKENS).show()
            if changed:
                limit = f"{MOST_BYTES:,} bytes, {MOST_SIDE:,} pixels a side"
                head = f"images above what providers take ({limit}) are sent in another form:"
                print("\n  ".join([head, *first_of(list(changed))]))
    finally:
        pool.close()


def _noting(problems: Iterable[Problem], changed: dict[str, None]) -> Iterator[Problem]:
    """The problems; ``changed`` gets a line for each image that must be sent in another form."""
    from ekipl.external.images import changes

    for problem in problems:
        changed.update(dict.fromkeys(changes(problem)))
        yield problem


def prompt_of(settings: Settings, task: Task) -> Prompt:
    """The longest text and the largest images of the first problems.

    Where the problems cannot be read without a download: the task's template without a question, and as many images as
    the published problems have, of the largest size.
    """
    least, most, data = settings.model.min_pixels, settings.model.max_pixels, settings.data
    problems: Sequence[Problem] = ()
    if not (isinstance(data, ReasonRFTData) and data.root is None):
        with suppress(UsageError):
            problems = data.problems(task, "train", READ)
    if not problems:
        template = task.prompt(Example("", (), "", "", task.kinds[0]))
        return Prompt(len(template), (most,) * published_images(task.name))
    read = [(len(problem.prompt), [width * height for width, height in _sizes(problem)]) for problem in problems]
    images = max((sizes for _, sizes in read), key=sum)
    return Prompt(max(length for length, _ in read), tuple(min(max(size, least), most) for size in images))


def _sizes(problem: Problem) -> list[tuple[int, int]]:
    return [image.size for image in problem.images]


def work_table(settings: Settings, prompt: int) -> Table:
    """Steps, samples and tokens of a stage whose prompts have so many tokens."""
    own, others = settings.candidates
    problems, answer = settings.steps * settings.problems_per_step, settings.rollout.max_tokens
    kept = min(settings.G, own + others)
    demonstrated = settings.external.kind == "demonstrations"
    trained = problems * kept * settings.mu
    each = f"I {settings.I} x B {settings.B}, {settings.mu} updates each"
    rows = [
        ("steps", settings.steps, each),
        ("problems", problems, f"{settings.problems_per_step} a step, repeats counted"),
        ("policy samples", problems * own, f"{own} a problem"),
        ("demonstrations" if demonstrated else "external samples", problems * others, f"{others} a problem"),
        ("actions trained on", trained, f"at most {kept} a problem, {settings.mu} times"),
        ("prompt tokens", problems * prompt, f"about {prompt} a problem, encoded once for all its actions"),
        ("tokens sampled", problems * own * answer, f"at most: rollout.max_tokens={answer}"),
        ("tokens trained on", trained * answer, "at most"),
    ]
    if JUDGE in settings.rewards:
        samples = settings.judge.samples
        note = f"at most, to {settings.judge.model}: {samples} a candidate, equal ones once; evaluation comes on top"
        rows.append(("judgements", problems * (own + others) * samples, note))
    lines = [(name, f"{number:,}", note) for name, number, note in rows]
    return Table(f"{settings.method.name}: what is done", ["", "number", "of which"], lines)
