"""What the tiny model can and cannot do, by split and by family: ``python -m tools.tiny.measure``."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import torch

from ekipl.algorithm.seams import Decoding, Task
from ekipl.algorithm.types import Problem, Reward
from ekipl.data.synthetic.source import SyntheticData
from ekipl.policy.encoding import encode_prompts, encode_text
from ekipl.policy.hf import HFSampler
from ekipl.policy.model import VLM, load_model
from ekipl.policy.prefix import ActionLogProbs
from ekipl.report.passk import pass_at_k
from ekipl.reward.graders import grader
from tools.tiny.corpus import TASKS, wrap
from tools.tiny.sight import IMAGE_SIZE

MAX_TOKENS = 64
K = 64
GRADE = grader("strict")


@dataclass(frozen=True)
class Measured:
    """Means over problems, each the mean over its completions; ``skill``: of the problems that need one."""

    accuracy: float
    format: float
    partial: float | None
    skill: float | None
    families: Mapping[str, float]


def problems_of(task: Task, split: str, number: int, seed: int) -> list[Problem]:
    """The first problems of a split."""
    return list(SyntheticData(seed=seed, image_size=IMAGE_SIZE, test_size=number).problems(task, split, number))


def sample(vlm: VLM, problems: Sequence[Problem], n: int, seed: int, temperature: float = 1.0) -> list[list[Reward]]:
    """The rewards of n completions of each problem, graded strictly; temperature 0 is greedy."""
    sampler = HFSampler(vlm, Decoding(temperature=temperature, max_tokens=MAX_TOKENS))
    actions = sampler.sample(problems, n, seed)
    return [[GRADE(p, a.text) for a in own] for p, own in zip(problems, actions, strict=True)]


def measure(vlm: VLM, task: Task, split: str, number: int, seed: int, temperature: float = 1.0) -> Measured:
    """One completion of each of ``number`` problems."""
    problems = problems_of(task, split, number, seed)
    rewards = [reward for (reward,) in sample(vlm, problems, 1, seed, temperature)]
    families: dict[str, list[float]] = defaultdict(list)
    for problem, reward in zip(problems, rewards, strict=True):
        families[problem.metadata["family"]].append(reward.accuracy)
    return Measured(
        accuracy=fmean(reward.accuracy for reward in rewards),
        format=fmean(reward.format for reward in rewards),
        partial=_mean_of("partial", rewards),
        skill=_mean_of("skill", rewards),
        families={name: fmean(values) for name, values in sorted(families.items())},
    )


def splits_table(vlm: VLM, tasks: Sequence[str], number: int, seed: int) -> str:
    """Markdown: every split of the tasks."""
    lines = [
        "| task | split | accuracy %, T=1 | greedy % | uses the skill % | well-formed % | partial % |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name in tasks:
        for split in TASKS[name].splits:
            m = measure(vlm, TASKS[name], split, number, seed)
            greedy = measure(vlm, TASKS[name], split, number, seed, temperature=0.0).accuracy
            cells = (name, split, *map(_percent, (m.accuracy, greedy, m.skill, m.format, m.partial)))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def families_table(vlm: VLM, name: str, number: int, seed: int) -> str:
    """Markdown: K samples of each problem of the in-distribution split, by family, and the reach of right texts."""
    groups: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems_of(TASKS[name], "id", 40 * number, seed):
        groups[problem.metadata["family"]].append(problem)
    lines = [
        f"| {name}, family | problems | accuracy % | uses the skill % | pass@{K} % | log p of a right text "
        "| its least likely token, p |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for family, found in sorted(groups.items(), key=lambda item: -len(item[1])):
        chosen = found[:number]
        rewards = sample(vlm, chosen, K, seed)
        flat = [reward for own in rewards for reward in own]
        right = [sum(reward.accuracy == 1 for reward in own) for own in rewards]
        passed = fmean(pass_at_k([K] * len(right), right, K))
        whole, least = reach(vlm, chosen)
        accuracy = fmean(reward.accuracy for reward in flat)
        shares = map(_percent, (accuracy, _mean_of("skill", flat), passed))
        lines.append(f"| {family} | {len(chosen)} | {' | '.join(shares)} | {whole:.1f} | {least:.1g} |")
    return "\n".join(lines)


@torch.no_grad()
def reach(vlm: VLM, problems: Sequence[Problem]) -> tuple[float, float]:
    """Medians over the right texts of the problems: log p of the whole text, and p of its least likely token."""
    policy = ActionLogProbs(vlm.model, 1.0, vlm.suppressed)
    wholes, leasts = [], []
    for problem in problems:
        texts = [wrap(cot, problem.answer) for cot in (problem.metadata["cot"], *problem.metadata["variants"])]
        rows = [[*encode_text(vlm.tokenizer, text), vlm.end_of_turn] for text in texts]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])  # (A, T)
        mask = (torch.arange(width) < torch.tensor([[len(row)] for row in rows])).float()  # (A, T)
        prompts = encode_prompts(vlm, [problem])
        logp = policy(prompts, torch.zeros(len(rows), dtype=torch.long), tokens, mask, 1)  # (A, T)
        wholes += logp.sum(-1).tolist()
        leasts += logp.amin(-1).exp().tolist()
    return median(wholes), median(leasts)


def _mean_of(name: str, rewards: Iterable[Reward]) -> float | None:
    values = [reward.detail[name] for reward in rewards if name in reward.detail]
    return fmean(values) if values else None


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="tiny, or a folder")
    parser.add_argument("--number", type=int, default=300, help="problems a split")
    parser.add_argument("--per-family", type=int, default=16, help=f"problems a family, {K} samples each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    vlm = load_model(args.model, device="cpu")
    print(splits_table(vlm, args.tasks, args.number, args.seed))
    for name in args.tasks:
        print(f"\n{families_table(vlm, name, args.per_family, args.seed)}")


if __name__ == "__main__":
    main()
