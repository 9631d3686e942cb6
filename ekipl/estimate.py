"""What a run takes, by arithmetic on its settings: steps, samples, tokens, memory a GPU. No weights are loaded.

Sources: ZeRO's shares of weights, gradients and optimiser state, arXiv 1910.02054, section 3; activations of a
transformer layer without attention matrices, 34 bytes a token and hidden unit, arXiv 2205.05198, section 4.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekipl.tables import Table

if TYPE_CHECKING:
    from ekipl.config import Settings

GIB = 2**30
PIXELS_A_TOKEN = 28 * 28  # of a Qwen2-VL image: patches of 14 x 14, four to a token
CHARACTERS_A_TOKEN = 4
TEXT_TOKENS = {"spatial": 700}  # of a published prompt, read off the templates; of the other tasks TEXT_DEFAULT
TEXT_DEFAULT = 120
IMAGES = {"spatial": 2}  # of a problem; the other tasks have one
LOGITS_BYTES = 3 * 4 * 2**24  # the logits held at once, their log-softmax and its gradient


@dataclass(frozen=True)
class Size:
    """Of a model: all parameters, those of the vision tower with its projector, layers and width of the text part."""

    parameters: int
    vision: int
    layers: int
    hidden: int


# From the published checkpoints' configurations and weight files.
SIZES = {
    "Qwen/Qwen2-VL-2B-Instruct": Size(2_208_985_600, 665_000_000, 28, 1536),
    "Qwen/Qwen2-VL-7B-Instruct": Size(8_291_375_616, 675_000_000, 28, 3584),
    "Qwen/Qwen2.5-VL-3B-Instruct": Size(3_754_622_976, 668_000_000, 36, 2048),
    "Qwen/Qwen2.5-VL-7B-Instruct": Size(8_292_166_656, 676_000_000, 28, 3584),
}


def size_of(path: str) -> Size | None:
    """Of a published model or a model folder; None where it is not known without a download."""
    if path in SIZES:
        return SIZES[path]
    folder = Path(__file__).parent / "tiny" / "checkpoint" if path == "tiny" else Path(path).expanduser()
    try:
        config = json.loads((folder / "config.json").read_text())
        shapes = {name: shape for file in sorted(folder.glob("*.safetensors")) for name, shape in _shapes(file).items()}
        text = config.get("text_config", config)
        layers, hidden = text["num_hidden_layers"], text["hidden_size"]
    except (OSError, ValueError, KeyError, struct.error):
        return None
    vision = sum(prod(shape) for name, shape in shapes.items() if "visual" in name)
    return Size(sum(map(prod, shapes.values())), vision, layers, hidden)


def _shapes(file: Path) -> dict[str, list[int]]:
    """Of the tensors in a safetensors file, from its header."""
    with file.open("rb") as content:
        header: dict[str, Any] = json.loads(content.read(struct.unpack("<Q", content.read(8))[0]))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def prompt_tokens(settings: Settings, task: str) -> int:
    """Of a problem's prompt, its images at the pixel limit."""
    pixels = settings.model.max_pixels if settings.data.image_size is None else settings.data.image_size**2
    image = max(4, min(pixels, settings.model.max_pixels) // PIXELS_A_TOKEN)
    text = TEXT_TOKENS.get(task, TEXT_DEFAULT)
    return IMAGES.get(task, 1) * image + text


def work(settings: Settings, task: str) -> Table:
    """Steps, samples and tokens of one stage."""
    steps = settings.I * settings.B
    problems = steps * settings.problems_per_step
    own = settings.N if settings.policy_samples is None else settings.policy_samples
    demonstrated = settings.external.kind == "demonstrations"
    others = settings.M if demonstrated else settings.N * settings.M
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


def memory(settings: Settings, task: str) -> Table:
    """GiB on each GPU, part by part; the formula of each part stands beside it."""
    size = size_of(settings.model.path)
    title = f"{settings.method.name}: memory a GPU, by formula"
    if size is None:
        note = f"{settings.model.path}: its size is not known without a download"
        return Table(title, ["part", "GiB", "formula"], [], [note])
    engine, half = settings.engine, settings.model.dtype == "bfloat16"
    width, ranks, stage = 2 if half else 4, engine.processes, engine.zero_stage
    trained = size.parameters - (size.vision if settings.model.freeze_vision else 0)
    own = settings.N if settings.policy_samples is None else settings.policy_samples
    tokens = engine.micro_batch * (prompt_tokens(settings, task) + settings.G * settings.rollout.max_tokens)

    def part(name: str, count: float, each: float, sharded: bool, why: str) -> tuple[str, float, str]:
        share = f" / {ranks}" if sharded and ranks > 1 else ""
        return name, count * each / (ranks if sharded else 1), f"{why}{share}"

    billions = f"{size.parameters / 1e9:.3g} B parameters"
    trainable = f"{trained / 1e9:.3g} B trained"
    moments = 12 if half else 8
    parts = [
        part("weights", size.parameters, width, stage == 3, f"{billions} x {width} B"),
        part("gradients", trained, width, stage >= 2, f"{trainable} x {width} B"),
        part("AdamW", trained, moments, stage >= 2 or half, f"{trainable} x {moments} B, float32"),
    ]
    if settings.beta > 0:
        parts.append(part("reference", size.parameters, width, stage == 3, f"{billions} x {width} B"))
    if stage == 3 and (own or settings.evaluation.every):
        parts.append(part("copy that samples", size.parameters, width, False, f"{billions} x {width} B"))
    each = size.hidden * size.layers * (34 if half else 68)
    parts.append(
        part(
            "activations",
            tokens,
            each,
            False,
            f"{tokens:,} tokens x {size.hidden} x {size.layers} x {34 if half else 68} B",
        )
    )
    parts.append(("logits", LOGITS_BYTES, "2^24 at once, 3 times, x 4 B"))
    rows = [(name, f"{count / GIB:.2f}", why) for name, count, why in parts]
    total = sum(count for _, count, _ in parts)
    notes = ["not measured on a GPU; activations are those of the language model in a micro-batch of full length"]
    return Table(title, ["part", "GiB", "formula"], [*rows, ("sum", f"{total / GIB:.2f}", "")], notes)
