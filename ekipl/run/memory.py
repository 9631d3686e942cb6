"""The memory of a training run on each GPU, by formula.

It is a sum of parts: those that are always there, and the larger of two moments, the passes and the optimizer's step.
Sources: the shares of weights, gradients and optimizer state under ZeRO, arXiv 1910.02054, section 3. The activations
of a layer are the tensors that its modules in transformers save for the backward pass (the constants below).
``tests/test_dry_run.py`` compares the sum with the peak of a real update on a CPU, ``docs/results/gpu.md`` on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ekipl.algorithm.types import POLICY, Action, Group, Problem
from ekipl.config import Settings
from ekipl.engine.batch import split
from ekipl.engine.lora import target_layers
from ekipl.engine.rules import BUCKET, GATHERED, state_bytes, zero_stage
from ekipl.policy.family import built_as
from ekipl.policy.model import PUBLISHED, freeze, outline
from ekipl.policy.prefix import CHUNK_ELEMENTS_GPU, KEPT_CHUNKS
from ekipl.policy.settings import ModelSettings, VLLMRollout
from ekipl.report.tables import Table
from ekipl.run.hub import fault_of, is_hub_name

GIB = 2**30

# Bytes that a layer keeps for each token, by the bytes of a number: for each unit of its width, and of its MLP's width.
# Of the width: two norms (the input in float32, normalised, the output), queries, the output of attention twice.
# Of the MLP: gate, activated gate, up, and their product. Keys and values are a part of their own.
LAYER = {4: (36, 16), 2: (22, 8)}
VISION_LAYER = {4: 84, 2: 46}  # for each unit of the width; here with keys and values, and three tensors of 4 widths
CHARACTERS_A_TOKEN = 4
CHAT_TOKENS = 20  # of the chat template
READ = 16  # problems whose prompts and images are looked at


@dataclass(frozen=True)
class Outline:
    """Sizes of a model as it is trained.

    Attributes:
        parameters: all of them, without adapters.
        trained: parameters that are trained; with LoRA those of the adapters alone.
        layers: of the language model; ``width`` is its width, ``mlp`` that of its MLPs.
        queries: width of the queries of all heads; ``keys`` that of the keys of all key-value heads.
        vision: width and layers of the vision tower; None when it is frozen, which keeps no activations.
        vocabulary: number of tokens.
        pixels_per_token: of an image; ``patches_per_token`` of the vision tower.
    """

    parameters: int
    trained: int
    layers: int
    width: int
    mlp: int
    queries: int
    keys: int
    vision: tuple[int, int] | None
    vocabulary: int
    pixels_per_token: int
    patches_per_token: int


def outline_of(settings: ModelSettings) -> Outline | None:
    """The model by its configuration; None where that needs a download, or where ekipl does not train the family."""
    is_known = settings.path in json.loads(PUBLISHED.read_text())
    if not is_known and is_hub_name(settings.path) and fault_of(settings.path):
        return None
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
    return Outline(
        parameters=sum(p.numel() for p in empty.parameters()),
        trained=trained,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        mlp=text.intermediate_size,
        queries=head * text.num_attention_heads,
        keys=head * text.num_key_value_heads,
        vision=None if settings.freeze_vision else family.vision_shape(config),
        vocabulary=text.vocab_size,
        pixels_per_token=family.pixels_per_token(config),
        patches_per_token=family.patches_per_token(config),
    )


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


def micro_batch_of(settings: Settings, prompt: int) -> tuple[int, int]:
    """Prompts and actions of the largest micro-batch, when every prompt and every action has full length."""
    engine, kept = settings.engine, min(settings.G, sum(settings.candidates))
    problem = Problem("", "", "", (), "", "", "", "number")
    action = Action("", POLICY, 0, "", "stop", tokens=(0,) * settings.rollout.max_tokens)
    group = Group(problem, (action,) * kept, tuple(range(kept)), (0.0,) * kept)
    share = -(-settings.problems_per_step // engine.world_size)
    groups = [replace(group, problem=replace(problem)) for _ in range(share)]
    pieces = [(len(piece), sum(len(one.kept) for one in piece)) for piece in split(engine, groups, lambda _: prompt)]
    return max(pieces, key=lambda piece: piece[0] * prompt + piece[1] * settings.rollout.max_tokens)


@dataclass(frozen=True)
class Part:
    """A part of the memory: bytes on each GPU and, where it is offloaded, on the CPU for each rank.

    ``when`` it is there: always, in the forward and backward ``passes``, or in the optimizer's ``step``.
    """

    name: str
    gpu: float
    formula: str
    cpu: float = 0.0
    when: Literal["always", "passes", "step"] = "always"


def peak(parts: Sequence[Part]) -> float:
    """Bytes on each GPU: what is always there, and the larger of the two moments."""
    of = {when: sum(part.gpu for part in parts if part.when == when) for when in ("always", "passes", "step")}
    return of["always"] + max(of["passes"], of["step"])


def memory_of(settings: Settings, outline: Outline | None, prompt: Prompt) -> Table:
    """The table of the memory of each GPU."""
    title, path = settings.method.name, settings.model.path
    if outline is None:
        return _table(title, [], [f"{path}: its size is not known without a download", gpus(settings)])
    notes = [
        assumed(settings, outline, prompt),
        "compared with training runs on a CPU and on one GPU (docs/results/gpu.md); for a micro-batch of the longest "
        f"prompts (of the first {READ} problems) with actions of full length",
    ]
    if settings.rollout.kind == "hf":
        notes.append("keys and values of sampling are not in it: they are freed before the update")
    return _table(title, parts_of(settings, outline, prompt, CHUNK_ELEMENTS_GPU), notes)


def gpus(settings: Settings) -> str:
    """The GPUs that the settings ask for, in words."""
    nodes, each, total = settings.engine.num_nodes, settings.engine.num_processes, settings.engine.world_size
    if total == 1:
        return "for one GPU (engine.num_processes=1)"
    machines = "one machine" if nodes == 1 else f"{nodes} machines"
    return f"for {total} GPUs ({machines} with engine.num_processes={each}{' each' if nodes > 1 else ''})"


def assumed(settings: Settings, outline: Outline, prompt: Prompt) -> str:
    """The GPUs that the table is for; of several also what one alone would need."""
    if settings.engine.world_size == 1:
        return gpus(settings)
    single = replace(settings, engine=replace(settings.engine, num_nodes=1, num_processes=1))
    need = peak(parts_of(single, outline, prompt, CHUNK_ELEMENTS_GPU)) / GIB
    return f"{gpus(settings)}; one GPU alone (engine.num_processes=1) would need {need:.2f} GiB"


def _table(title: str, parts: list[Part], notes: list[str]) -> Table:
    """GiB on each GPU by part, with its formula."""
    rows = [(part.name, f"{part.gpu / GIB:.2f}", f"{part.cpu / GIB:.2f}", part.formula) for part in parts]
    cpu = sum(part.cpu for part in parts)
    largest = "with the larger of passes and optimizer's step" if any(part.when == "step" for part in parts) else ""
    rows += [("sum", f"{peak(parts) / GIB:.2f}", f"{cpu / GIB:.2f}", largest)] if parts else []
    return Table(f"{title}: memory a GPU, by formula", ["part", "GiB", "GiB on the CPU", "formula"], rows, notes)


def parts_of(settings: Settings, model: Outline, prompt: Prompt, chunk: int) -> list[Part]:
    """All parts; ``chunk`` is the number of logits that are computed at once."""
    return [*state_parts(model, settings), *pass_parts(model, settings, prompt, chunk), *step_parts(model, settings)]


def state_parts(model: Outline, settings: Settings) -> list[Part]:
    """The memory that stays from step to step: weights and their copies, gradients, optimizer state."""
    engine, rollout, half = settings.engine, settings.rollout, settings.model.dtype == "bfloat16"
    stage, ranks, width = zero_stage(engine.zero_stage, half), engine.world_size, 2 if half else 4

    def part(name: str, count: int, each: int, sharded: bool, offloaded: bool = False) -> Part:
        total = count * each / (ranks if sharded else 1)
        formula = f"{count / 1e9:.3g} B x {each} B" + (f" / {ranks}" if sharded and ranks > 1 else "")
        return Part(name, 0.0, f"{formula}, on the CPU", total) if offloaded else Part(name, total, formula)

    whole, trained = model.parameters, model.trained
    parts = [
        part("weights", whole, width, stage == 3, engine.offload_parameters),
        part("gradients", trained, width, stage >= 2, engine.offload_optimizer),
        part("AdamW, float32", trained, state_bytes(half), stage >= 1, engine.offload_optimizer),
    ]
    if settings.beta > 0 and not settings.model.lora.rank:
        parts.append(part("reference", whole, width, stage == 3, engine.offload_parameters))
    if stage == 3 or isinstance(rollout, VLLMRollout):
        parts.append(part("copy that samples", whole, width, False))
    if isinstance(rollout, VLLMRollout):
        cache = rollout.cache_gib
        parts.append(Part("keys and values of vLLM", cache * GIB, f"rollout.cache_gib={cache:g}"))
    if stage == 3:
        parts.append(part("gathered at once", min(whole, GATHERED), width, False))
    if stage >= 1:
        parts.append(part("bucket of gradients", BUCKET, width, False))
    return parts


def pass_parts(model: Outline, settings: Settings, prompt: Prompt, chunk: int) -> list[Part]:
    """The memory of the forward and backward pass of the largest micro-batch.

    Every prompt is as long as ``prompt``, every action as long as it may be; ``chunk`` is the elements in one chunk of
    logits.
    """
    width, recompute = 2 if settings.model.dtype == "bfloat16" else 4, settings.engine.gradient_checkpointing
    length, answer = prompt.tokens(model.pixels_per_token), settings.rollout.max_tokens
    prompts, actions = micro_batch_of(settings, length)

    def activations(name: str, count: int, units: int, layer: int, layers: int) -> Part:
        """``layer`` bytes inside a layer; a recomputed layer keeps its input, ``units`` wide."""
        each = layers * units * width + layer if recompute else layers * layer
        what = f"({layers} x {units} x {width} + {layer}) B" if recompute else f"{layers} x {layer} B"
        return Part(name, count * each, f"{count:,} tokens x {what}", when="passes")

    of_width, of_mlp = LAYER[width]
    tokens = prompts * length + actions * answer
    parts = [activations("activations", tokens, model.width, of_width * model.width + of_mlp * model.mlp, model.layers)]
    if model.vision:
        hidden, layers = model.vision
        count = prompts * prompt.image_tokens(model.pixels_per_token) * model.patches_per_token
        parts.append(activations("activations, tower", count, hidden, VISION_LAYER[width] * hidden, layers))
    # keys and values are repeated for all heads in every layer, or in one layer if layers are recomputed
    units, what = model.queries * model.layers, f"{model.queries} x {model.layers}"
    if recompute:
        units = model.keys * model.layers + model.queries
        what = f"({model.keys} x {model.layers} + {model.queries})"
    seen = tokens + actions * length
    formula = f"{seen:,} tokens x 2 x {what} x {width} B"
    parts.append(Part("keys and values", seen * 2 * units * width, formula, when="passes"))
    # logits of all trained tokens, a chunk at a time: some chunks are kept, and one is in use with its gradient
    elements = actions * answer * model.vocabulary
    chunk = min(elements, chunk)
    chunks = min(KEPT_CHUNKS, -(-elements // chunk)) + 2
    return [*parts, Part("logits, float32", chunks * chunk * 4, f"{chunks} x {chunk:,} x 4 B", when="passes")]


def step_parts(model: Outline, settings: Settings) -> list[Part]:
    """What DeepSpeed's optimizer adds in bfloat16: gradients in float32, and under ZeRO-1 once more in one piece."""
    engine = settings.engine
    if settings.model.dtype != "bfloat16" or engine.offload_optimizer:
        return []
    each, ranks = (6 if zero_stage(engine.zero_stage, True) == 1 else 4), engine.world_size
    formula = f"{model.trained / 1e9:.3g} B x {each} B" + (f" / {ranks}" if ranks > 1 else "")
    return [Part("gradients in the optimizer", model.trained * each / ranks, formula, when="step")]
