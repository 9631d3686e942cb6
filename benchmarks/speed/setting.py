"""What both sides train on: the same weights, images, prompts and lengths; and how a step is measured."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

BETA, EPS, LEARNING_RATE, MAX_GRAD_NORM = 0.04, 0.2, 1e-6, 1.0
QUESTIONS = ("How many red cubes are there in the picture?", "How many things are left when all spheres are gone?")
PATCH = 14  # as in Qwen2-VL's released models: 448 x 448 pixels are 256 tokens
QWEN2VL_2B = {
    "text_config": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 1536},
}


@dataclass(frozen=True)
class Setting:
    """One row of a table.

    Attributes:
        pixels: edge of the square images.
        tokens: of every completion.
        vocabulary: rows of the embedding.
        G: actions a problem.
        problems: images and prompts in a step.
    """

    pixels: int
    tokens: int
    vocabulary: int
    G: int = 8
    problems: int = 2

    @property
    def actions(self) -> int:
        return self.G * self.problems


@dataclass(frozen=True)
class Where:
    """Device and number format; ``checkpointing`` is gradient checkpointing, TRL's default."""

    device: str = "cpu"
    dtype: str = "float32"
    checkpointing: bool = False


@dataclass(frozen=True)
class Measured:
    """Of one process: seconds of a step, by phase and ``total`` (medians of several steps), and memory in MiB.

    On a CPU: CPU seconds, and the memory of the process. On a GPU: wall-clock seconds, and what tensors take.
    """

    seconds: dict[str, float]
    peak: float
    loaded: float  # when it stood ready for the first step
    flops: float | None = None  # of one forward pass over prompts and completions, where it was counted


def build(
    folder: Path, vocabulary: int, shape: dict[str, Any] | None = None, dtype: str = "float32", device: str = "cpu"
) -> None:
    """Random weights in the tiny model's shape (or ``shape``), with Qwen2-VL's patches and the vocabulary wanted."""
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    from ekipl.policy.model import TINY, load_model

    tiny = load_model("tiny", device="cpu")
    config = Qwen2VLConfig.from_pretrained(TINY)
    for part, values in (shape or {}).items():
        for name, value in values.items():
            setattr(getattr(config, part), name, value)
    config.text_config.layer_types = ["full_attention"] * config.text_config.num_hidden_layers
    config.text_config.vocab_size = vocabulary
    config.vision_config.patch_size = PATCH
    torch.manual_seed(0)
    with torch.device(device):  # two billion random numbers take a minute on one core of a CPU
        model = Qwen2VLForConditionalGeneration(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:  # 0.02 everywhere suits widths in the thousands
                weight.normal_(0, 0.05 if "embed_tokens" in name else weight[0].numel() ** -0.5)
    tiny.image_processor.patch_size = PATCH
    tiny.image_processor.size = {"shortest_edge": 56 * 56, "longest_edge": 1024 * 1024}
    model.generation_config = tiny.model.generation_config
    for saved in (model.to(getattr(torch, dtype)), tiny.tokenizer, tiny.image_processor):
        saved.save_pretrained(folder)


def problems(setting: Setting) -> list[Any]:
    """Noise with a question about it: neither side's time depends on what there is to see."""
    import numpy as np
    from PIL import Image

    from ekipl.algorithm.types import Problem
    from ekipl.tasks.counting import PROMPTS

    made = []
    for number, question in zip(range(setting.problems), itertools.cycle(QUESTIONS), strict=False):
        pixels = np.random.default_rng(number).integers(0, 255, (setting.pixels, setting.pixels, 3), dtype=np.uint8)
        prompt = PROMPTS["cot"].format(question=question)
        image = Image.fromarray(pixels)
        made.append(Problem(f"p{number}", "counting", "train", (image,), question, prompt, "3", "number"))
    return made


def never(vlm: Any) -> list[int]:
    """Tokens that neither side samples: what ends a turn, so that the length is forced, and image placeholders."""
    return sorted({*vlm.suppressed, *vlm.eos})


def process_memory(field: str) -> float:
    """MiB of this process: ``VmRSS`` now, ``VmHWM`` at its highest, as Linux tells."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 2**10


class Meter:
    """Time of the process by phase, over steps; the first step only warms up."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.loaded = self._memory("VmRSS")
        self.steps: list[dict[str, float]] = []
        self._begin_step()

    def _begin_step(self) -> None:
        from ekipl.algorithm.loop import Clock

        self.phase = Clock(self._now)  # with meter.phase("sampling"): ...
        self._open = ExitStack()
        self._start = self._now()

    def _now(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    def _memory(self, field: str) -> float:
        """MiB: ``VmRSS`` now, ``VmHWM`` at its highest, as Linux tells; of the GPU's tensors where there is one."""
        if self.device == "cpu":
            return process_memory(field)
        import torch

        return (torch.cuda.memory_allocated() if field == "VmRSS" else torch.cuda.max_memory_allocated()) / 2**20

    def rest_of_step(self, phase: str) -> None:
        """What follows belongs to this phase, until the step ends."""
        self._open.enter_context(self.phase(phase))

    def end_step(self) -> None:
        self._open.close()
        total, seconds = self._now() - self._start, self.phase.seconds
        self.steps.append({**seconds, "other": total - sum(seconds.values()), "total": total})
        self._begin_step()

    def result(self, flops: float | None = None) -> Measured:
        """Medians; called before anything else takes memory."""
        seconds = {phase: median(step[phase] for step in self.steps[1:]) for phase in self.steps[-1]}
        return Measured(seconds, self._memory("VmHWM"), self.loaded, flops)
