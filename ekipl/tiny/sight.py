"""First lesson, for the vision tower alone: what does each visual token show? Quicker than to learn it from words."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ekipl.data.scenes import COLORS, MATERIALS, RADIUS, SHAPES, SIZES, Thing, pixel_of, render
from ekipl.models import VLM, encode_text
from ekipl.tiny.corpus import IMAGE_SIZE

TOKEN = 16  # pixels a visual token covers, each way
SIDE = IMAGE_SIZE // TOKEN
EMPTY = len(SHAPES)  # the fourth "shape": no thing here
LOOKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("shape", (*SHAPES, "empty")),
    ("size", SIZES),
    ("color", COLORS),
    ("material", MATERIALS),
)
WEIGHTS = torch.tensor([3.0, 1.0, 1.0, 1.0])  # shape is by far the hardest to see


def labels(things: Sequence[Thing]) -> NDArray[np.int64]:
    """The looks of the nearest thing that reaches each visual token: (36, 4) of indices, -1 where there is none."""
    centres = (np.arange(SIDE) + 0.5) * TOKEN
    found = np.full((SIDE, SIDE, len(LOOKS)), -1)
    found[..., 0] = EMPTY
    nearest = np.full((SIDE, SIDE), np.inf)
    for thing in things:
        x, y = pixel_of((thing.x, thing.y, 0.9 * RADIUS[thing.size]), IMAGE_SIZE)
        radius = pixel_of((RADIUS[thing.size], 0, 0), IMAGE_SIZE)[0] - IMAGE_SIZE / 2
        distance = np.hypot(centres[None, :] - x, centres[:, None] - y)
        here = (distance < max(0.9 * radius, 0.71 * TOKEN)) & (distance < nearest)
        nearest[here] = distance[here]
        found[here] = [values.index(getattr(thing, name)) for name, values in LOOKS]
    return found.reshape(-1, len(LOOKS))


def scene(rng: random.Random) -> list[Thing]:
    """1 to 5 things at some distance from each other, anywhere on the ground."""
    things: list[Thing] = []
    for _ in range(rng.randint(1, 5)):
        x, y = rng.uniform(-1.35, 1.35), rng.uniform(-1.35, 1.35)
        if all(abs(t.x - x) > 0.75 or abs(t.y - y) > 0.9 for t in things):
            look = (rng.choice(SHAPES), rng.choice(SIZES), rng.choice(COLORS), rng.choice(MATERIALS))
            things.append(Thing(*look, x, y, rng.choice((0.35, rng.uniform(0, 1.57)))))
    return things


class Looks(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batches by number: pixel patches, their grid, and what each token shows, (B, 36, 4)."""

    def __init__(self, vlm: VLM, steps: int, batch: int) -> None:
        self.vlm, self.steps, self.batch = vlm, steps, batch

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        torch.set_num_threads(1)
        scenes = [scene(random.Random(f"sight/{step * self.batch + i}")) for i in range(self.batch)]
        images: list[Image.Image] = [render(things, IMAGE_SIZE) for things in scenes]
        features = self.vlm.image_processor(images=images, return_tensors="pt")
        shown = torch.from_numpy(np.stack([labels(things) for things in scenes]))
        return features["pixel_values"], features["image_grid_thw"], shown


def train_sight(vlm: VLM, steps: int, batch: int = 32, rate: float = 2e-3) -> None:
    """Train the tower so that its tokens point at the language model's embeddings of the words for what they show.

    With free heads a shape came to 3 % of the tokens' variance (a colour: 37 %), and the language model never saw it.
    ``rate`` is warmed up, then falls linearly.
    """
    model: Any = vlm.model
    tower = model.model.visual.train()
    heads = [_embeddings(vlm, values) for _, values in LOOKS]
    parameters = list(tower.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    started = time.monotonic()
    for step, (pixels, grid, shown) in enumerate(DataLoader(Looks(vlm, steps, batch), batch_size=None, num_workers=1)):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (1 - step / steps)
        seen = tower(pixels, grid_thw=grid).pooler_output.view(len(grid), SIDE * SIDE, -1)
        said = [seen @ head.T for head in heads]
        pairs = ((s.flatten(0, 1), shown[..., k].flatten()) for k, s in enumerate(said))
        losses = torch.stack([F.cross_entropy(s, truth, ignore_index=-1) for s, truth in pairs])
        (losses @ WEIGHTS).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step + 1 == steps:
            thing = shown[..., 1] >= 0
            right = [float((s.argmax(-1) == shown[..., k])[thing].float().mean()) for k, s in enumerate(said)]
            shares = " ".join(f"{name} {share:.2f}" for (name, _), share in zip(LOOKS, right, strict=True))
            print(f"sight {step} {time.monotonic() - started:.0f}s {shares}", flush=True)


def _embeddings(vlm: VLM, words: Sequence[str]) -> Tensor:
    """Fixed embeddings of words as they stand in a sentence, (len(words), width); nothing, for "empty", is zero."""
    model: Any = vlm.model
    table: Tensor = model.get_input_embeddings().weight.detach()
    rows = []
    for word in words:
        ids = encode_text(vlm.tokenizer, f" {word}")
        rows.append(torch.zeros_like(table[0]) if word == "empty" else table[ids].mean(0))
    return torch.stack(rows)
