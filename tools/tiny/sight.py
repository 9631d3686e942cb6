"""Targets of the vision tower: for each visual token a sum of fixed code vectors, one for each look it shows.

The vision tower learns to turn images into these codes. The language model can learn to reason on perfect codes
(``ideal``) at the same time.
"""

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

from ekipl.data.synthetic import structure as synthetic_structure
from ekipl.data.synthetic.scenes import COLORS, MATERIALS, RADIUS, SHAPES, SIZES, Thing, pixel_of, render
from ekipl.policy.model import VLM
from tools.tiny.model import WIDTH

IMAGE_SIZE = 96
TOKEN = 16  # height and width of a visual token in pixels
SIDE = IMAGE_SIZE // TOKEN
FIGURES = synthetic_structure.ID_FAMILIES
LOOKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("shape", SHAPES),
    ("size", SIZES),
    ("color", COLORS),
    ("material", MATERIALS),
    ("row", tuple("123456")),
    ("column", tuple("abcdef")),
    ("empty", ("empty",)),
    ("figure", FIGURES),
)
PLACE = [name for name, _ in LOOKS].index("row")
WEIGHTS = torch.tensor([3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # shape is the hardest to learn
CODE_SCALE = 0.05  # equal to the scale of the word embeddings
_CHOICES = [k for k, (_, values) in enumerate(LOOKS) if len(values) > 1]

Scene = Sequence[Thing]


def codes() -> list[Tensor]:
    """The fixed vectors of every look, each (values, width)."""
    rng = torch.Generator().manual_seed(20)
    return [CODE_SCALE * torch.randn(len(values), WIDTH, generator=rng) for _, values in LOOKS]


def ideal(shown: Tensor) -> Tensor:
    """Perfect visual tokens for ``labels`` (..., looks): (..., width)."""
    table = codes()
    return torch.stack(
        [torch.where(shown[..., k, None] >= 0, table[k][shown[..., k].clamp(min=0)], 0.0) for k in range(len(LOOKS))]
    ).sum(0)


def labels(what: Scene | str) -> NDArray[np.int64]:
    """The content of each visual token: (36, looks) of indices, -1 where a look does not apply.

    For a scene: the looks of the nearest thing that covers the token, and the token's row and column. For a figure,
    given by its family: the family, in every token.
    """
    found = np.full((SIDE, SIDE, len(LOOKS)), -1)
    if isinstance(what, str):
        found[..., -1] = FIGURES.index(what)
        return found.reshape(-1, len(LOOKS))
    centres = (np.arange(SIDE) + 0.5) * TOKEN
    found[..., PLACE] = np.arange(SIDE)[:, None]
    found[..., PLACE + 1] = np.arange(SIDE)[None, :]
    found[..., PLACE + 2] = 0
    nearest = np.full((SIDE, SIDE), np.inf)
    for thing in what:
        x, y = pixel_of((thing.x, thing.y, 0.9 * RADIUS[thing.size]), IMAGE_SIZE)
        radius = pixel_of((RADIUS[thing.size], 0, 0), IMAGE_SIZE)[0] - IMAGE_SIZE / 2
        distance = np.hypot(centres[None, :] - x, centres[:, None] - y)
        here = (distance < max(0.9 * radius, 0.71 * TOKEN)) & (distance < nearest)
        nearest[here] = distance[here]
        found[here, :PLACE] = [values.index(getattr(thing, name)) for name, values in LOOKS[:PLACE]]
        found[here, PLACE + 2] = -1
    return found.reshape(-1, len(LOOKS))


def scene(rng: random.Random) -> list[Thing]:
    """1 to 6 things on the ground, at a distance from each other."""
    things: list[Thing] = []
    for _ in range(rng.randint(1, 6)):
        x, y = rng.uniform(-1.35, 1.35), rng.uniform(-1.35, 1.35)
        if all(abs(t.x - x) > 0.75 or abs(t.y - y) > 0.9 for t in things):
            look = (rng.choice(SHAPES), rng.choice(SIZES), rng.choice(COLORS), rng.choice(MATERIALS))
            things.append(Thing(*look, x, y, rng.choice((0.35, rng.uniform(0, 1.57)))))
    return things


def _picture(number: int, seed: int) -> tuple[Image.Image, NDArray[np.int64]]:
    """Training picture ``number`` with its labels: three scenes to one figure."""
    rng = random.Random(f"sight/{number}")
    while number % 4 == 0:
        row = synthetic_structure.generate("train", rng.randrange(10**9), seed, IMAGE_SIZE)
        if row.metadata["family"] in FIGURES:
            return row.images[0], labels(row.metadata["family"])
    things = scene(rng)
    return render(things, IMAGE_SIZE), labels(things)


class Looks(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batches by number: pixel patches, their grid, and the content of each token, (B, 36, looks)."""

    def __init__(self, vlm: VLM, steps: int, batch: int, seed: int) -> None:
        self.vlm, self.steps, self.batch, self.seed = vlm, steps, batch, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        torch.set_num_threads(1)
        pictures = [_picture(step * self.batch + i, self.seed) for i in range(self.batch)]
        features = self.vlm.image_processor(images=[image for image, _ in pictures], return_tensors="pt")
        shown = torch.from_numpy(np.stack([shown for _, shown in pictures]))
        return features["pixel_values"], features["image_grid_thw"], shown


def train_sight(vlm: VLM, steps: int, seed: int, batch: int = 32, rate: float = 2e-3) -> None:
    """Train the tower to output the codes: cross-entropy over the codes of each look, and distance to their sum.

    The learning rate is warmed up to ``rate`` and then falls linearly.
    """
    model: Any = vlm.model
    tower = model.model.visual.train()
    table = codes()
    parameters = list(tower.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    started = time.monotonic()
    pictures = DataLoader(Looks(vlm, steps, batch, seed), batch_size=None, num_workers=1)
    for step, (pixels, grid, shown) in enumerate(pictures):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (1 - step / steps)
        with torch.autocast("cpu", torch.bfloat16):
            seen = tower(pixels, grid_thw=grid).pooler_output.float().view(len(grid), SIDE * SIDE, -1)
        logits = [seen @ code.T * (8.0 / (WIDTH * CODE_SCALE**2)) for code in table]
        pairs = ((s.flatten(0, 1), shown[..., k].flatten()) for k, s in enumerate(logits) if s.shape[-1] > 1)
        losses = torch.stack([F.cross_entropy(s, truth, ignore_index=-1) for s, truth in pairs])
        distance = (seen - ideal(shown)).square().sum(-1).mean() / (WIDTH * CODE_SCALE**2)
        (losses @ WEIGHTS[_CHOICES] + distance).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step + 1 == steps:
            right = [_share(s, shown[..., k]) for k, s in enumerate(logits)]
            shares = " ".join(f"{name} {share:.2f}" for (name, _), share in zip(LOOKS, right, strict=True))
            print(f"sight {step} {time.monotonic() - started:.0f}s {shares} distance {distance:.3f}", flush=True)


def _share(logits: Tensor, truth: Tensor) -> float:
    """The share of tokens with this look whose nearest code is right."""
    applies = truth >= 0
    return float((logits.argmax(-1) == truth)[applies].float().mean())
