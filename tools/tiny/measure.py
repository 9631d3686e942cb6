"""Accuracy of the tiny model on every split, at temperature 1 and greedy: ``python -m tools.tiny.measure``."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from ekipl.algorithm.seams import Decoding, Task
from ekipl.algorithm.types import Problem, Reward
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
    greedy: float
    format: float
    partial: float | None
    families: Mapping[str, float]


def measure(vlm: VLM, task: Task, split: str, number: int, seed: int) -> Measured:
    """Sample one answer at temperature 1 and one greedily for each of ``number`` problems."""
    problems = list(SyntheticData(seed=seed, image_size=IMAGE_SIZE, test_size=number).problems(task, split, number))
    sampled = _rewards(vlm, problems, 1.0, seed)
    greedy = _rewards(vlm, problems, 0.0, seed)
    families: dict[str, list[float]] = defaultdict(list)
    for problem, reward in zip(problems, sampled, strict=True):
        families[problem.metadata["family"]].append(reward.accuracy)
    partial = [reward.detail["partial"] for reward in sampled if "partial" in reward.detail]
    return Measured(
        accuracy=fmean(reward.accuracy for reward in sampled),
        greedy=fmean(reward.accuracy for reward in greedy),
        format=fmean(reward.format for reward in sampled),
        partial=fmean(partial) if partial else None,
        families={name: fmean(values) for name, values in sorted(families.items())},
    )


def _rewards(vlm: VLM, problems: Sequence[Problem], temperature: float, seed: int) -> list[Reward]:
    sampler = HFSampler(vlm, Decoding(temperature=temperature, max_tokens=MAX_TOKENS))
    samples = sampler.sample(problems, 1, seed)
    return [GRADE(problem, actions[0].text) for problem, actions in zip(problems, samples, strict=True)]


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
            partial = "" if m.partial is None else f"{m.partial:.3f}"
            cells = (name, split, number, f"{m.accuracy:.3f}", f"{m.greedy:.3f}", partial, f"{m.format:.3f}")
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
