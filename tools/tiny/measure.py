"""Accuracy of the tiny model on every split, at temperature 1 and greedy: ``python -m tools.tiny.measure``."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from ekipl.algorithm.seams import Decoding, Task
from ekipl.data.synthetic.source import SyntheticData
from ekipl.policy.hf import HFSampler
from ekipl.policy.model import VLM, load_model
from ekipl.reward.graders import grader
from tools.tiny.corpus import TASKS
from tools.tiny.sight import IMAGE_SIZE

MAX_TOKENS = 64
GRADE = grader("strict")


@dataclass(frozen=True)
class Measured:
    """Means over one split; ``partial`` for functions only (spatial)."""

    accuracy: float
    format: float
    partial: float | None
    families: Mapping[str, float]


def measure(vlm: VLM, task: Task, split: str, number: int, seed: int, temperature: float = 1.0) -> Measured:
    """Sample one answer for each of ``number`` problems (temperature 0: greedily) and grade it strictly."""
    problems = list(SyntheticData(seed=seed, image_size=IMAGE_SIZE, test_size=number).problems(task, split, number))
    sampler = HFSampler(vlm, Decoding(temperature=temperature, max_tokens=MAX_TOKENS))
    actions = [action for (action,) in sampler.sample(problems, 1, seed)]
    rewards = [GRADE(problem, action.text) for problem, action in zip(problems, actions, strict=True)]
    families: dict[str, list[float]] = defaultdict(list)
    for problem, reward in zip(problems, rewards, strict=True):
        families[problem.metadata["family"]].append(reward.accuracy)
    partial = [reward.detail["partial"] for reward in rewards if "partial" in reward.detail]
    return Measured(
        accuracy=fmean(reward.accuracy for reward in rewards),
        format=fmean(reward.format for reward in rewards),
        partial=fmean(partial) if partial else None,
        families={name: fmean(values) for name, values in sorted(families.items())},
    )


def report(vlm: VLM, number: int, seed: int, tasks: Sequence[str] = tuple(TASKS)) -> str:
    """A Markdown table of all splits, and under it the accuracy by family."""
    lines = [
        "| task | split | n | accuracy, T=1 | greedy | partial, T=1 | well-formed |",
        "|---|---|---|---|---|---|---|",
    ]
    families = []
    for name in tasks:
        for split in TASKS[name].splits:
            m = measure(vlm, TASKS[name], split, number, seed)
            greedy = measure(vlm, TASKS[name], split, number, seed, temperature=0.0).accuracy
            partial = "" if m.partial is None else f"{m.partial:.3f}"
            cells = (name, split, number, f"{m.accuracy:.3f}", f"{greedy:.3f}", partial, f"{m.format:.3f}")
            lines.append(f"| {' | '.join(map(str, cells))} |")
            families.append(f"{name} {split}: " + ", ".join(f"{k} {v:.2f}" for k, v in m.families.items()))
    return "\n".join([*lines, "", *families])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="tiny, or a folder")
    parser.add_argument("--number", type=int, default=500, help="problems a split")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(report(load_model(args.model, device="cpu"), args.number, args.seed, args.tasks))


if __name__ == "__main__":
    main()
