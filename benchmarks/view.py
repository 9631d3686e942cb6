"""Time, memory and size of the page of a large run, made up by the writers of real runs.

``python -m benchmarks.view --steps 1000`` prints what it saw; the numbers are of this machine and its other work.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ekipl.algorithm.advantages import advantages
from ekipl.algorithm.metrics import step_metrics
from ekipl.algorithm.objective import Objective
from ekipl.algorithm.selection import Selection
from ekipl.algorithm.types import POLICY, Action, Group, Problem, Reward
from ekipl.cli import conf_dir
from ekipl.data.synthetic.source import SyntheticData
from ekipl.files import finite, write_jsonl
from ekipl.report.evaluate import GradedAction, metrics, summarize
from ekipl.report.statement import Statement
from ekipl.run.records import Record, records_of_group, write_actions
from ekipl.run.thumbnails import statement_of
from ekipl.tasks.counting import Counting

SAID = "the red cube stands left of a small gray sphere so there are two of them in all and that is"
EXTERNAL = ("expert_a", "expert_b")
Text = Callable[[random.Random], str]


def words(rng: random.Random) -> str:
    """About 200 characters of reasoning and an answer."""
    return f"<think>{' '.join(rng.choices(SAID.split(), k=45))}</think> <answer>{rng.randrange(9)}</answer>"


def write_run(
    directory: Path,
    steps: int,
    problems: int = 12,
    candidates: int = 24,
    distinct: int = 400,
    text: Text = words,
    overrides: Sequence[str] = (),
    told: Callable[[Problem], Problem] = lambda problem: problem,
) -> Path:
    """Write the directory of a training run with answers of random words; returns it.

    Args:
        directory: of the run.
        steps: of the run; the policy becomes better with them.
        problems: of a step.
        candidates: of a problem, of the policy and two external models alike.
        distinct: problems in all.
        text: of an answer.
        overrides: further settings.
        told: changes a problem before it is written.
    """
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose("train", [f"B={steps}", f"N={candidates // 3}", f"G={candidates // 2}", *overrides])
    directory.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, directory / "config.yaml", resolve=True)
    rng = random.Random(str(cfg.seed))
    pool = [told(p) for p in SyntheticData(train_size=distinct, seed=cfg.data.seed).problems(Counting(), "train")]
    statements = {problem.id: statement_of(problem, directory) for problem in pool}
    rows = [_evaluated(directory, 0, pool[:40], statements, rng, text, 0.1)]
    for step in range(1, steps + 1):
        groups = [
            _group(pool[(step * problems + i) % distinct], rng, text, step / steps, candidates) for i in range(problems)
        ]
        told_of = [
            (replace(group, problem=replace(group.problem, images=())), statements[group.problem.id])
            for group in groups
        ]
        records = [record for group, said in told_of for record in records_of_group(group, {}, 0, said)]
        write_actions(directory / "actions" / f"step-{step:06d}.jsonl", records)
        seconds = {f"time/{phase}": 1 + rng.random() for phase in ("policy", "external", "update", "step")}
        row = {
            "step": step,
            "progress/problems": step * problems,
            **step_metrics(groups),
            "loss/kl": step / 1e4,
            **seconds,
        }
        if step == steps or step % max(1, steps // 5) == 0:
            row |= _evaluated(directory, step, pool[:40], statements, rng, text, 0.1 + 0.4 * step / steps)
        rows.append(row)
    write_jsonl(directory / "metrics.jsonl", map(finite, rows))
    return directory


def _action(problem: Problem, source: str, index: int, rng: random.Random, text: Text, skill: float) -> Action:
    reward = Reward(1.0, float(rng.random() < skill))
    tokens = tuple(rng.randrange(1000) for _ in range(40))
    logprobs = tuple(-rng.random() for _ in tokens) if source == POLICY else None
    return Action(problem.id, source, index, text(rng), "stop", tokens, logprobs, reward)


def _group(problem: Problem, rng: random.Random, text: Text, progress: float, candidates: int) -> Group:
    skills = {POLICY: 0.1 + 0.5 * progress, **dict.fromkeys(EXTERNAL, 0.6)}
    each = candidates // len(skills)
    offered = [_action(problem, source, i, rng, text, skill) for source, skill in skills.items() for i in range(each)]
    kept = Selection().keep(offered, candidates // 2, rng)
    rewards = [action.total for action in offered]
    gains = advantages(Objective(), [rewards[i] for i in kept], rewards, [offered[i].source == POLICY for i in kept])
    return Group(problem, tuple(offered), kept, tuple(gains), {"too_long": 1} if rng.random() < 0.1 else {})


def _evaluated(
    directory: Path,
    step: int,
    problems: Sequence[Problem],
    statements: dict[str, Statement],
    rng: random.Random,
    text: Text,
    skill: float,
) -> dict[str, float]:
    """Write the completions of an evaluation; returns its metrics."""
    graded, records = [], []
    for split in ("id", "ood"):
        for problem in problems:
            action = _action(problem, POLICY, 0, rng, text, skill)
            graded.append(GradedAction(problem.id, split, "number", None, 0, action.text, "stop", 40, action.reward))
            records.append(Record(problem.task, split, action, {}, 0, statement=statements[problem.id]))
    write_actions(directory / "evaluations" / f"step-{step:06d}.jsonl", records)
    return {"step": step, "progress/problems": 0.0, **metrics(summarize(graded))}


def main() -> int:
    """Make the run and its page, and print what that took."""
    from ekipl.run.viewing import write_view

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--problems", type=int, default=12)
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--max-mb", type=float, default=10)
    given = parser.parse_args()
    with TemporaryDirectory(prefix="ekipl-view-") as folder:
        run = write_run(Path(folder) / "run", given.steps, given.problems, given.candidates)
        size = sum(file.stat().st_size for file in run.rglob("*.jsonl"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, worked = time.perf_counter(), time.process_time()
        page = write_view([run], round(given.max_mb * 1e6))
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        took = f"{seconds:.1f} s ({worked:.1f} s of CPU)"
        print(f"{size / 1e6:.0f} MB of files: a page of {page.stat().st_size / 1e6:.1f} MB in {took}")
        print(f"peak memory {before / 1024:.0f} MiB before and {after / 1024:.0f} MiB with the page")
    return 0


if __name__ == "__main__":
    sys.exit(main())
