"""What a run takes, by arithmetic on its settings: steps, samples, tokens, memory a GPU. No weights are loaded.

Sources: ZeRO's shares of weights, gradients and optimiser state, arXiv 1910.02054, section 3; activations of a
transformer layer without attention matrices, 34 bytes a token and hidden unit, arXiv 2205.05198, section 4; DeepSpeed's
own defaults for what ZeRO-3 gathers at once and for the bucket in which gradients are summed over the processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ekipl.data.synthetic.source import SyntheticData
from ekipl.policy.settings import VLLMRollout
from ekipl.report.tables import Table

if TYPE_CHECKING:
    from ekipl.config import Settings
    from ekipl.policy.settings import ModelSettings

GIB = 2**30
PIXELS_A_TOKEN = 28 * 28  # of a Qwen2-VL image: patches of 14 x 14, four to a token
PATCHES_A_TOKEN = 4
TEXT_TOKENS = {"spatial": 700}  # of a published prompt, read off the templates; of the other tasks TEXT_DEFAULT
TEXT_DEFAULT = 120
IMAGES = {"spatial": 2}  # of a problem; the other tasks have one
GATHERED = 10**9  # parameters at once, stage3_max_live_parameters
BUCKET = 5 * 10**8  # gradients, reduce_bucket_size

# Of the published checkpoints' configurations: the class, then width, MLP, layers, heads, key-value heads, vocabulary.
PUBLISHED = {
    "Qwen/Qwen2-VL-2B-Instruct": ("Qwen2VLConfig", (1536, 8960, 28, 12, 2, 151936)),
    "Qwen/Qwen2-VL-7B-Instruct": ("Qwen2VLConfig", (3584, 18944, 28, 28, 4, 152064)),
    "Qwen/Qwen2.5-VL-3B-Instruct": ("Qwen2_5_VLConfig", (2048, 11008, 36, 16, 2, 151936)),
    "Qwen/Qwen2.5-VL-7B-Instruct": ("Qwen2_5_VLConfig", (3584, 18944, 28, 28, 4, 152064)),
}
LARGEST_TIED = 2048  # width up to which the output head is the embedding


@dataclass(frozen=True)
class Size:
    """Of a model as it is trained.

    Attributes:
        parameters: all of them, adapters left out.
        trained: parameters that learn: the adapters alone with LoRA.
        layers: of the language model; ``hidden`` is its width, ``keys`` that of its keys.
        tower: width and layers of the vision tower; None when it is frozen: nothing is kept for its gradient.
        vocabulary: of the language model.
    """

    parameters: int
    trained: int
    layers: int
    hidden: int
    keys: int
    tower: tuple[int, int] | None
    vocabulary: int


def size_of(model: ModelSettings) -> Size | None:
    """By the model's configuration; None where that is not known without a download, or the model is not trained."""
    from ekipl.engine.lora import target_layers
    from ekipl.policy.model import freeze

    try:
        empty = _empty(model)
        freeze(empty, vision=model.freeze_vision, projector=model.freeze_projector)
    except (OSError, ValueError, AttributeError):
        return None
    text, vision = empty.config.get_text_config(), empty.config.vision_config
    trained = sum(p.numel() for p in empty.parameters() if p.requires_grad)
    if model.lora.rank:
        layers = (empty.get_submodule(name) for name in target_layers(empty, model.lora.targets))
        trained = sum(model.lora.rank * (layer.in_features + layer.out_features) for layer in layers)
    width = getattr(vision, "embed_dim", None) or vision.hidden_size
    return Size(
        parameters=sum(p.numel() for p in empty.parameters()),
        trained=trained,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        keys=text.hidden_size // text.num_attention_heads * text.num_key_value_heads,
        tower=None if model.freeze_vision else (width, vision.depth),
        vocabulary=text.vocab_size,
    )


def _empty(model: ModelSettings) -> Any:
    """The model without weights; of the published ones without a download."""
    import torch
    import transformers

    from ekipl.policy.model import outline

    if model.path not in PUBLISHED:
        return outline(model.path, model.trust_remote_code)
    kind, (hidden, mlp, layers, heads, keys, vocabulary) = PUBLISHED[model.path]
    tied = hidden <= LARGEST_TIED
    text = {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }
    out = {"hidden_size": hidden} if kind == "Qwen2VLConfig" else {"hidden_size": 1280, "out_hidden_size": hidden}
    config = getattr(transformers, kind)(text_config=text, vision_config=out, tie_word_embeddings=tied)
    with torch.device("meta"):
        return transformers.AutoModelForImageTextToText.from_config(config)


def prompt_tokens(settings: Settings, task: str) -> int:
    """Of a problem's prompt, its images at the pixel limit."""
    return image_tokens(settings, task) + TEXT_TOKENS.get(task, TEXT_DEFAULT)


def image_tokens(settings: Settings, task: str) -> int:
    """Of a problem's images at the pixel limit."""
    size = settings.data.image_size if isinstance(settings.data, SyntheticData) else None
    pixels = settings.model.max_pixels if size is None else size**2
    image = max(4, min(pixels, settings.model.max_pixels) // PIXELS_A_TOKEN)
    return IMAGES.get(task, 1) * image


def work(settings: Settings, task: str) -> Table:
    """Steps, samples and tokens of one stage."""
    steps = settings.steps
    problems = steps * settings.problems_per_step
    own, others = settings.candidates
    demonstrated = settings.external.kind == "demonstrations"
    kept, prompt, limit = min(settings.G, own + others), prompt_tokens(settings, task), settings.rollout.max_tokens
    rows = [
        ("steps", f"{steps:,}", f"I {settings.I} x B {settings.B}, {settings.mu} updates each"),
        ("problems", f"{problems:,}", f"{settings.problems_per_step} a step, repeats counted"),
        ("policy samples", f"{problems * own:,}", f"{own} a problem"),
        ("demonstrations" if demonstrated else "external samples", f"{problems * others:,}", f"{others} a problem"),
        ("actions trained on", f"{problems * kept * settings.mu:,}", f"at most {kept} a problem, {settings.mu} times"),
        ("prompt tokens", f"{problems * prompt:,}", f"about {prompt} a problem, encoded once for all its actions"),
        ("tokens sampled", f"{problems * own * limit:,}", f"at most: rollout.max_tokens={limit}"),
        ("tokens trained on", f"{problems * kept * settings.mu * limit:,}", "at most"),
    ]
    return Table(f"{settings.method.name}: what is done", ["", "number", "of which"], rows)


@dataclass(frozen=True)
class Part:
    """Of the memory: bytes on each GPU and, of what is offloaded, for each process on the CPU."""

    name: str
    gpu: float
    formula: str
    cpu: float = 0.0


def memory(settings: Settings, task: str) -> Table:
    """GiB on each GPU, part by part; the formula of each part stands beside it."""
    size = size_of(settings.model)
    title, header = f"{settings.method.name}: memory a GPU, by formula", ["part", "GiB", "GiB on the CPU", "formula"]
    if size is None:
        note = f"{settings.model.path}: its size is not known without a download"
        return Table(title, header, [], [note])
    parts = [*states(settings, size), *passing(settings, size, task)]
    rows = [(part.name, f"{part.gpu / GIB:.2f}", f"{part.cpu / GIB:.2f}", part.formula) for part in parts]
    gpu, cpu = sum(part.gpu for part in parts), sum(part.cpu for part in parts)
    notes = [
        "not measured on a GPU; an upper bound: a micro-batch whose images, prompts and actions all have full length"
    ]
    if settings.rollout.kind == "hf":
        notes.append("keys and values of sampling are not in it: they are gone when learning begins")
    return Table(title, header, [*rows, ("sum", f"{gpu / GIB:.2f}", f"{cpu / GIB:.2f}", "")], notes)


def states(settings: Settings, size: Size) -> list[Part]:
    """What stays from step to step: weights, their copies, gradients, the optimiser's state."""
    engine, half, ranks = settings.engine, settings.model.dtype == "bfloat16", settings.engine.world_size
    width, stage = 2 if half else 4, max(engine.zero_stage, 1 if half else 0)  # as the engine sets it up

    def part(name: str, count: int, each: int, sharded: bool, offloaded: bool = False) -> Part:
        total = count * each / (ranks if sharded else 1)
        formula = f"{count / 1e9:.3g} B x {each} B" + (f" / {ranks}" if sharded and ranks > 1 else "")
        return Part(name, 0.0, f"{formula}, on the CPU", total) if offloaded else Part(name, total, formula)

    whole, trained = size.parameters, size.trained
    parts = [
        part("weights", whole, width, stage == 3, engine.offload_parameters),
        part("gradients", trained, width, stage >= 2, engine.offload_optimizer),
        part("AdamW, float32", trained, 12 if half else 8, stage >= 1, engine.offload_optimizer),
    ]
    if settings.beta > 0 and not settings.model.lora.rank:
        parts.append(part("reference", whole, width, stage == 3, engine.offload_parameters))
    rollout = settings.rollout
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


def passing(settings: Settings, size: Size, task: str) -> list[Part]:
    """What a micro-batch takes in its forward and backward pass."""
    half, again = settings.model.dtype == "bfloat16", settings.engine.gradient_checkpointing
    width, inside = (2, 34) if half else (4, 68)  # bytes of a number; of a layer's inside, a token and hidden unit
    problems, actions = micro_batch(settings, task)
    prompt, answer = prompt_tokens(settings, task), settings.rollout.max_tokens
    tokens = problems * prompt + actions * answer
    patches = problems * image_tokens(settings, task) * PATCHES_A_TOKEN

    def activations(name: str, count: int, hidden: int, layers: int) -> Part:
        each = layers * width + inside if again else layers * inside
        what = f"({layers} x {width} + {inside}) B" if again else f"{layers} x {inside} B"
        return Part(name, count * hidden * each, f"{count:,} x {hidden} x {what}")

    length, pairs = prompt + answer, 2 * size.keys * size.layers
    parts = [
        activations("activations", tokens, size.hidden, size.layers),
        Part(
            "keys and values",
            actions * length * pairs * width,
            f"{actions} x {length:,} tokens x 2 x {size.keys} x {size.layers} x {width} B",
        ),
    ]
    if size.tower:
        parts.insert(1, activations("activations, tower", patches, *size.tower))
    return [*parts, _logits(actions * answer * size.vocabulary)]


def micro_batch(settings: Settings, task: str) -> tuple[int, int]:
    """Problems and actions in the largest micro-batch."""
    engine = settings.engine
    share = -(-settings.problems_per_step // engine.world_size)
    problems = min(engine.micro_batch, -(-share // engine.accumulation))
    kept = min(settings.G, sum(settings.candidates))
    if engine.micro_batch_tokens is None:
        return problems, problems * kept
    prompt, answer, limit = prompt_tokens(settings, task), settings.rollout.max_tokens, engine.micro_batch_tokens
    pairs = [(p, min(p * kept, (limit - p * prompt) // answer)) for p in range(1, problems + 1)]
    fitting = (pair for pair in pairs if pair[1] >= pair[0])  # each problem has an action
    return max(fitting, key=lambda pair: pair[0] * prompt + pair[1] * answer, default=(1, 1))


def _logits(elements: int) -> Part:
    """Of all trained tokens, a chunk at a time: some are kept, one is at hand with its gradient."""
    from ekipl.policy.prefix import CHUNK_ELEMENTS_GPU, KEPT_CHUNKS

    chunk = min(elements, CHUNK_ELEMENTS_GPU)
    chunks = min(KEPT_CHUNKS, -(-elements // chunk)) + 2
    return Part("logits, float32", chunks * chunk * 4, f"{chunks} x {chunk:,} x 4 B")
