"""``--dry-run``: gather the sizes of a run and of its prompts, and print its steps, memory and costs.

No weight is loaded, no request is sent, and no directory is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import POLICY, Action, Example, Group, Problem
from ekipl.data.reason_rft import ReasonRFTData, published_images
from ekipl.errors import UsageError
from ekipl.policy.settings import ModelSettings, VLLMRollout
from ekipl.report.dry_run import (
    Engine,
    LargestMicroBatch,
    Model,
    Part,
    Work,
    memory_table,
    pass_parts,
    state_parts,
    work_table,
)
from ekipl.report.tables import Table, show_all

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ekipl.config import Settings

READ = 16  # problems whose prompts and images are looked at
CHARACTERS_A_TOKEN = 4
CHAT_TOKENS = 20  # of the chat template
PIXELS_A_TOKEN = 28 * 28  # of Qwen2-VL, for models whose configuration is not here


def of_training(stages: Sequence[DictConfig]) -> None:
    """Print the work, the memory and the costs of each stage of a training run."""
    from ekipl.config import check
    from ekipl.run import build

    for cfg in stages:
        settings = check(cfg, "train")
        task = build.build_task(settings)
        settings = _with_length(settings, task)
        build.build_grader(settings, task)  # refused here as in the run
        outline, prompt = outline_of(settings.model), prompt_of(settings, task)
        tokens = prompt.tokens(outline.pixels_per_token if outline else PIXELS_A_TOKEN)
        show_all([work_table(work_of(settings, tokens)), memory_of(settings, outline, prompt)])
        asked = settings.external.kind == "litellm" and settings.M > 0
        try:
            show(settings, _asked(settings, task) if asked else (), settings.N)
        except UsageError as error:  # the data cannot be read: the number of requests is known, their cost is not
            requests = settings.steps * settings.problems_per_step * settings.candidates[1]
            print(f"API requests: at most {requests:,}; dollars: not known: {error}")


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
    from ekipl.external.pool import LiteLLMPool
    from ekipl.report.spending import remaining_table
    from ekipl.run import build

    pool = build.build_pool(settings, None)
    try:
        if not isinstance(pool, LiteLLMPool):
            print(f"external.kind: {settings.external.kind}, M: {settings.M}: nobody is asked")
            return
        remaining = pool.remaining_cost(problems, samples)
        if all(cost.is_simulated for cost in remaining):
            names = ", ".join(cost.model for cost in remaining)
            print(f"external models: {names}: simulated; nothing is requested or paid")
        else:
            remaining_table(remaining, IMAGE_TOKENS).show()
    finally:
        pool.close()


@dataclass(frozen=True)
class Outline:
    """A model as it is trained, with the size of its image tokens."""

    model: Model
    pixels_per_token: int
    patches_per_token: int


def outline_of(settings: ModelSettings) -> Outline | None:
    """The model by its configuration; None where that needs a download, or where ekipl does not train the family."""
    from ekipl.engine.lora import target_layers
    from ekipl.policy.family import built_as
    from ekipl.policy.model import freeze, outline

    try:
        empty = outline(settings.path, settings.trust_remote_code, published=True)
        family, config = built_as(empty), empty.config
    except (OSError, ValueError, KeyError):
        return None
    freeze(empty, vision=settings.freeze_vision, projector=settings.freeze_projector)
    text, rank = config.get_text_config(), settings.lora.rank
    trained = sum(p.numel() for p in empty.parameters() if p.requires_grad)
    if rank:
        layers = [empty.get_submodule(name) for name in target_layers(empty, settings.lora.targets)]
        trained = sum(rank * (layer.in_features + layer.out_features) for layer in layers)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    model = Model(
        parameters=sum(p.numel() for p in empty.parameters()),
        trained=trained,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        mlp=text.intermediate_size,
        queries=head * text.num_attention_heads,
        keys=head * text.num_key_value_heads,
        vision=None if settings.freeze_vision else family.vision_shape(config),
        vocabulary=text.vocab_size,
    )
    return Outline(model, family.pixels_per_token(config), family.patches_per_token(config))


@dataclass(frozen=True)
class Prompt:
    """The longest prompt: characters of its text, and pixels of each of its images."""

    characters: int
    pixels: tuple[int, ...]

    def image_tokens(self, pixels_per_token: int) -> int:
        """Tokens of the images."""
        return sum(max(1, pixels // pixels_per_token) for pixels in self.pixels)

    def tokens(self, pixels_per_token: int) -> int:
        """Tokens of text and images, estimated."""
        return self.image_tokens(pixels_per_token) + self.characters // CHARACTERS_A_TOKEN + CHAT_TOKENS


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


def work_of(settings: Settings, prompt: int) -> Work:
    """The work of a stage whose prompts have so many tokens."""
    own, others = settings.candidates
    return Work(
        name=settings.method.name,
        iterations=settings.I,
        steps=settings.steps,
        mu=settings.mu,
        problems_per_step=settings.problems_per_step,
        own=own,
        others=others,
        demonstrated=settings.external.kind == "demonstrations",
        kept=min(settings.G, own + others),
        prompt=prompt,
        answer=settings.rollout.max_tokens,
    )


def engine_of(settings: Settings) -> Engine:
    """The settings that decide about memory, by the engine's rules."""
    from ekipl.engine.rules import BUCKET, GATHERED, state_bytes, zero_stage

    engine, half = settings.engine, settings.model.dtype == "bfloat16"
    rollout, stage = settings.rollout, zero_stage(engine.zero_stage, half)
    return Engine(
        number_bytes=2 if half else 4,
        state_bytes=state_bytes(half),
        zero_stage=stage,
        ranks=engine.world_size,
        reference=settings.beta > 0 and not settings.model.lora.rank,
        sampler_copy=stage == 3 or isinstance(rollout, VLLMRollout),
        offload_optimizer=engine.offload_optimizer,
        offload_parameters=engine.offload_parameters,
        recompute=engine.gradient_checkpointing,
        gathered=GATHERED,
        bucket=BUCKET,
        cache_gib=rollout.cache_gib if isinstance(rollout, VLLMRollout) else None,
    )


def micro_batch_of(settings: Settings, prompt: int) -> tuple[int, int]:
    """Prompts and actions of the largest micro-batch, when every prompt and every action has full length."""
    from ekipl.engine.batch import split

    engine, kept = settings.engine, work_of(settings, prompt).kept
    problem = Problem("", "", "", (), "", "", "", "number")
    action = Action("", POLICY, 0, "", "stop", tokens=(0,) * settings.rollout.max_tokens)
    group = Group(problem, (action,) * kept, tuple(range(kept)), (0.0,) * kept)
    share = -(-settings.problems_per_step // engine.world_size)
    groups = [replace(group, problem=replace(problem)) for _ in range(share)]
    pieces = [(len(piece), sum(len(one.kept) for one in piece)) for piece in split(engine, groups, lambda _: prompt)]
    return max(pieces, key=lambda piece: piece[0] * prompt + piece[1] * settings.rollout.max_tokens)


def parts_of(settings: Settings, outline: Outline, prompt: Prompt, chunk: int) -> list[Part]:
    """The memory of each GPU; ``chunk`` is the number of logits that are computed at once."""
    from ekipl.policy.prefix import KEPT_CHUNKS

    images, tokens = prompt.image_tokens(outline.pixels_per_token), prompt.tokens(outline.pixels_per_token)
    prompts, actions = micro_batch_of(settings, tokens)
    patches, answer = images * outline.patches_per_token, settings.rollout.max_tokens
    batch = LargestMicroBatch(prompts, actions, tokens, answer, patches, chunk, KEPT_CHUNKS)
    engine = engine_of(settings)
    return [*state_parts(outline.model, engine), *pass_parts(outline.model, engine, batch)]


def memory_of(settings: Settings, outline: Outline | None, prompt: Prompt) -> Table:
    """The table of the memory of each GPU."""
    from ekipl.policy.prefix import CHUNK_ELEMENTS_GPU

    title, path = settings.method.name, settings.model.path
    if outline is None:
        return memory_table(title, [], [f"{path}: its size is not known without a download"])
    notes = [
        "compared with training runs on a CPU, not measured on a GPU; for a micro-batch of the longest prompts "
        f"(of the first {READ} problems) with actions of full length"
    ]
    if settings.rollout.kind == "hf":
        notes.append("keys and values of sampling are not in it: they are freed before the update")
    return memory_table(title, parts_of(settings, outline, prompt, CHUNK_ELEMENTS_GPU), notes)
