"""Build the checkpoint of ``model=tiny``: ``python -m tools.tiny.build``. Seeded and resumable; see docs/tiny.md.

Stages: the vision tower learns to output a fixed code for the content of each visual token. The language model learns
the three tasks on ideal codes, then on the output of the tower. The last, short stage leaves something to learn for
reinforcement learning: it unlearns one skill of each task, and spoils others in part.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ekipl.algorithm.types import Problem
from ekipl.policy.encoding import encode_prompts, encode_text
from ekipl.policy.model import VLM, load_model
from tools.tiny.corpus import CLEAN, SEED, Lesson, Mixture, example, tokenizer_texts
from tools.tiny.model import build_image_processor, build_model
from tools.tiny.sight import ideal, labels, train_sight
from tools.tiny.tokenizer import build_tokenizer

CHECKPOINT = Path(__file__).parents[2] / "ekipl" / "tiny" / "checkpoint"
SAVE_EVERY = 100


@dataclass(frozen=True)
class Phase:
    """``steps`` optimiser steps, each on a number of examples of each lesson."""

    steps: int
    lessons: dict[Lesson, int]
    rate: tuple[float, float]  # learning rate at the start and, after a cosine, at the end
    vision: Literal["ideal", "tower"] = "tower"
    yes_no_weight: float = 1.0  # of the words yes and no in the loss: only these depend on the question
    mixture: Mixture = CLEAN


SIGHT_STEPS = 900
PHASES = {
    "read": Phase(200, {"counting": 24, "structure": 8, "reading": 24}, (2e-3, 2e-3), "ideal"),
    # "changes": with few changes the model learns to copy the given attributes
    "reason": Phase(
        1500, {"counting": 20, "colors": 8, "structure": 6, "spatial": 11, "changes": 11}, (2e-3, 4e-4), "ideal", 5.0
    ),
    "look": Phase(800, {"counting": 20, "colors": 10, "structure": 6, "spatial": 16}, (1e-3, 1e-4), yes_no_weight=5.0),
    "unlearn": Phase(
        200,
        {"counting": 32, "structure": 20, "spatial": 16},
        (6e-4, 2e-4),
        mixture=Mixture(wrong={"counting": 0.55, "structure": 0.5}, unskilled=1.0, varied=0.5, broken=0.12),
    ),
}
NOISE = 0.02  # added to ideal codes of scale 0.05, because the output of the tower is never exact
WARMUP = 60


class Steps(Dataset[dict[str, Any]]):
    """The batches of a phase by step number: step k holds examples k*n .. k*n+n-1 of each lesson (n its count)."""

    def __init__(self, vlm: VLM, phase: Phase, first: int, offset: int) -> None:
        self.vlm, self.phase, self.first, self.offset = vlm, phase, first, offset

    def __len__(self) -> int:
        return self.phase.steps - self.first

    def __getitem__(self, item: int) -> dict[str, Any]:
        torch.set_num_threads(1)
        step = self.offset + self.first + item
        return {
            lesson: collate(self.vlm, lesson, range(step * 64, step * 64 + n), self.phase.mixture)
            for lesson, n in self.phase.lessons.items()
        }


def collate(vlm: VLM, lesson: Lesson, indices: Sequence[int], mixture: Mixture) -> dict[str, Tensor]:
    """One batch: prompts padded left, completions padded right; targets (B, T) are -100 in the padding."""
    examples = [example(lesson, index, mixture) for index in indices]
    problems = [Problem("", lesson, "train", e.images, "", e.prompt, "", "number") for e in examples]
    prompts = encode_prompts(vlm, problems)
    completions = [[*encode_text(vlm.tokenizer, e.completion), vlm.end_of_turn] for e in examples]
    width = max(map(len, completions))
    pad = vlm.tokenizer.pad_token_id
    tail = torch.tensor([ids + [pad] * (width - len(ids)) for ids in completions])
    learn = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in completions])
    input_ids = torch.cat([prompts.input_ids, tail], dim=1)
    assert prompts.pixel_values is not None
    assert prompts.image_grid is not None
    return {
        "input_ids": input_ids,
        "attention_mask": torch.cat([prompts.attention_mask, learn], dim=1),
        "types": torch.cat([prompts.token_types, torch.zeros_like(tail)], dim=1),
        "targets": torch.where(learn == 1, tail, -100),
        "pixel_values": prompts.pixel_values,
        "image_grid": prompts.image_grid,
        "shown": torch.from_numpy(np.concatenate([labels(what) for e in examples for what in e.shown])),
    }


def see(model: Any, batch: dict[str, Tensor], vision: Literal["ideal", "tower"]) -> Tensor:
    """Embeddings of all visual tokens of a batch, (tokens, width), without gradient."""
    if vision == "ideal":
        codes = ideal(batch["shown"])
        return codes + NOISE * torch.randn_like(codes)
    with torch.no_grad():
        seen: Tensor = model.model.visual(batch["pixel_values"], grid_thw=batch["image_grid"]).pooler_output
    return seen


def loss_of(vlm: VLM, batch: dict[str, Tensor], phase: Phase) -> tuple[Tensor, float]:
    """The weighted cross-entropy over the completions' tokens, and the share of entirely right completions."""
    model = vlm.model
    positions, _ = model.model.get_rope_index(
        batch["input_ids"],
        mm_token_type_ids=batch["types"],
        image_grid_thw=batch["image_grid"],
        attention_mask=batch["attention_mask"],
    )
    words = model.get_input_embeddings()(batch["input_ids"])  # (B, L + T, width)
    visual = (batch["input_ids"] == vlm.image_token).unsqueeze(-1)
    hidden = model.model(
        inputs_embeds=words.masked_scatter(visual, see(model, batch, phase.vision)),
        attention_mask=batch["attention_mask"],
        position_ids=positions,
    ).last_hidden_state
    targets = batch["targets"]  # (B, T)
    keep = targets != -100
    logits = model.lm_head(hidden[:, -targets.shape[1] - 1 : -1][keep])
    right = torch.ones_like(keep)
    right[keep] = logits.argmax(-1) == targets[keep]
    weights = torch.ones(logits.shape[-1])
    for word in (" yes", " no"):
        weights[encode_text(vlm.tokenizer, word)] = phase.yes_no_weight
    return F.cross_entropy(logits, targets[keep], weight=weights), right.all(dim=1).float().mean().item()


def rate_at(phase: Phase, step: int, warm: bool) -> float:
    """Learning rate of a step: a cosine from start to end, with a linear warm-up if ``warm``."""
    start, end = phase.rate
    rate = end + (start - end) * 0.5 * (1 + math.cos(math.pi * step / phase.steps))
    return rate * min(1.0, (step + 1) / WARMUP) if warm else rate


def train(vlm: VLM, phases: Mapping[str, Phase], work: Path) -> None:
    """Run the phases; resume from ``work/state.pt``."""
    model: Any = vlm.model.train()
    model.model.visual.requires_grad_(False)  # trained on, it forgets shapes
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    state_file = work / "state.pt"
    done = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["done"]
    offset, started = 0, time.monotonic()
    for name, phase in phases.items():
        first = min(max(done - offset, 0), phase.steps)
        batches: Iterator[Any] = iter(
            DataLoader(Steps(vlm, phase, first, offset), batch_size=None, num_workers=1, prefetch_factor=4)
        )
        for step, lessons in enumerate(batches, first):
            torch.manual_seed(offset + step)  # of the noise, so that a resumed build is equal
            for group in optimizer.param_groups:
                group["lr"] = rate_at(phase, step, warm=offset == 0)
            seen = {}
            for lesson, batch in lessons.items():
                loss, whole = loss_of(vlm, batch, phase)
                (loss / len(lessons)).backward()  # type: ignore[no-untyped-call]
                seen[lesson] = (loss.item(), whole)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step % 25 == 0:
                shown = ", ".join(f"{k} loss {loss:.3f} right {whole:.2f}" for k, (loss, whole) in seen.items())
                print(f"{name} {step} {time.monotonic() - started:.0f}s {shown}", flush=True)
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == phase.steps:
                _save_state(state_file, model, optimizer, offset + step + 1)
        offset += phase.steps
    model.requires_grad_(True).eval()


def _save_state(path: Path, model: Any, optimizer: Any, done: int) -> None:
    partial = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "done": done}, partial)
    partial.replace(path)


def start(work: Path, seed: int) -> VLM:
    """The initial model from ``work/start`` with the trained vision tower from ``work/sight.pt``; made if missing."""
    folder = work / "start"
    if not (folder / "config.json").exists():
        tokenizer = build_tokenizer(tokenizer_texts())
        tokenizer.save_pretrained(folder)
        build_image_processor().save_pretrained(folder)
        build_model(tokenizer, seed).save_pretrained(folder)
    vlm = load_model(str(folder), device="cpu")
    tower: Any = vlm.model.model.visual
    sight = work / "sight.pt"
    if not sight.exists():
        train_sight(vlm, SIGHT_STEPS, SEED)
        torch.save(tower.state_dict(), sight)
    tower.load_state_dict(torch.load(sight, weights_only=True))
    return vlm


def save(vlm: VLM, folder: Path) -> None:
    """Write the shipped folder, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = next(vlm.model.parameters()).dtype
    vlm.model.to(torch.float16).save_pretrained(folder)
    vlm.model.to(dtype)
    vlm.tokenizer.save_pretrained(folder)
    vlm.image_processor.save_pretrained(folder)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/tiny"), help="state of the build, to resume from")
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="where the checkpoint is written")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="another number rounds otherwise")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    vlm = start(args.work, args.seed)
    train(vlm, PHASES, args.work)
    save(vlm, args.out)


if __name__ == "__main__":
    main()
