"""The peak of real updates against the formula of ``--dry-run``: reads and prints as ``benchmarks.speed.side`` does."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from benchmarks.speed.setting import Setting, problems, process_memory
from benchmarks.speed.side import leave
from ekipl.algorithm.types import POLICY, Action, Group, Problem
from ekipl.cli import conf_dir
from ekipl.config import Settings, check
from ekipl.engine.collectives import join
from ekipl.policy.model import freeze
from ekipl.policy.prefix import CHUNK_ELEMENTS_CPU, CHUNK_ELEMENTS_GPU
from ekipl.run.build import build_engine, load_policy
from ekipl.run.memory import Part, Prompt, outline_of, parts_of, peak

UPDATES = 2  # AdamW's state appears in the first
CASES: dict[str, tuple[str, ...]] = {
    "as measured above": (),
    "gradient checkpointing": ("engine.gradient_checkpointing=true",),
    "micro-batches of one problem": ("engine.micro_batch=1",),
    "LoRA of rank 16": ("model.lora.rank=16",),
    "twice the actions": ("twice",),
    "frozen vision tower": ("model.freeze_vision=true",),
    "no reference": ("beta=0",),
    "LoRA and gradient checkpointing": ("model.lora.rank=16", "engine.gradient_checkpointing=true"),
}


def settings_of(folder: str, setting: Setting, overrides: Sequence[str]) -> Settings:
    """The settings of ``ekipl train`` on this model."""
    G = setting.G * (1 + ("twice" in overrides))
    base = [
        *("external=none", "evaluation.every=0", "checkpoint.every=0", "B=2", f"N={G}", f"G={G}"),
        *(f"problems_per_step={setting.problems}", f"engine.micro_batch={setting.problems}"),
        *(f"model.path={folder}", "model.dtype=bfloat16", "model.min_pixels=3136", "model.max_pixels=1048576"),
        f"rollout.max_tokens={setting.tokens}",
    ]
    own = [override for override in overrides if override != "twice"]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return check(compose("train", overrides=[*base, *own]), "train")


def formula(settings: Settings, problem: Problem) -> list[Part]:
    """The parts of the formula."""
    outline = outline_of(settings.model)
    assert outline is not None
    prompt = Prompt(len(problem.prompt), tuple(image.width * image.height for image in problem.images))
    chunk = CHUNK_ELEMENTS_GPU if torch.cuda.is_available() else CHUNK_ELEMENTS_CPU
    return parts_of(settings, outline, prompt, chunk)


def groups(asked: Sequence[Problem], G: int, tokens: int) -> list[Group]:
    """Actions of full length, every other one right."""
    drawn = torch.randint(20, 200, (len(asked), G, tokens), generator=torch.Generator().manual_seed(0)).tolist()
    advantages = tuple(1.0 - 2.0 * (index % 2) for index in range(G))

    def offered(place: int) -> tuple[Action, ...]:
        ids = enumerate(drawn[place])
        return tuple(Action(asked[place].id, POLICY, i, "", "length", tuple(row), (-1.0,) * tokens) for i, row in ids)

    return [Group(problem, offered(place), tuple(range(G)), advantages) for place, problem in enumerate(asked)]


class Tensors:
    """Bytes of the tensors on the device, above those that were there; on a CPU, of the process."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.before = self._now()
        self.restart()

    def _now(self) -> float:
        return torch.cuda.memory_allocated() if self.device != "cpu" else process_memory("VmRSS") * 2**20

    def restart(self) -> None:
        if self.device != "cpu":
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> float:
        if self.device == "cpu":
            return max(0.0, process_memory("VmHWM") * 2**20 - self.before)
        return torch.cuda.max_memory_allocated() - self.before


def measure(folder: str, setting: Setting, overrides: Sequence[str], device: str) -> dict[str, Any]:
    """Bytes: ``formula`` by part, its ``sum``, ``peak`` of the updates, of what came before, ``reserved`` by torch."""
    settings = settings_of(folder, setting, overrides)
    asked = problems(setting)
    parts = formula(settings, asked[0])
    row: dict[str, Any] = {"formula": {part.name: part.gpu for part in parts}, "sum": peak(parts)}
    tensors = Tensors(device)
    row["before"] = tensors.before
    vlm = load_policy(settings)
    freeze(vlm.model, vision=settings.model.freeze_vision, projector=settings.model.freeze_projector)
    engine: Any = build_engine(settings, vlm, join())
    try:
        row["starting"] = tensors.peak()
        tensors.restart()
        prepared = engine.prepare(groups(asked, settings.G, setting.tokens))
        for _ in range(UPDATES):
            engine.update(prepared)
        row["peak"] = tensors.peak()
        row["reserved"] = float(torch.cuda.max_memory_reserved()) if device != "cpu" else None
    finally:
        with suppress(Exception):  # what it holds is freed below in any case, where nothing else holds it
            engine.engine.destroy()
    return row


def rows(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One for each case; a case that fails says why."""
    setting = Setting(**order["setting"])
    for name in order.get("cases", CASES):
        row: dict[str, Any] = {"case": name, "setting": order["setting"]}
        try:
            row |= measure(order["folder"], setting, CASES[name], order["where"]["device"])
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        yield row
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def main() -> None:
    order = json.load(sys.stdin)
    assert Path(order["folder"]).is_dir()
    for row in rows(order):
        print(json.dumps(row), flush=True)
    leave()


if __name__ == "__main__":
    main()
