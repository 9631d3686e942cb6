"""Completions graded a second on one core: python -m benchmarks.grading [FOLDER_OF_COMPLETIONS]

Plain integers and letters first (the fast path); then, where a folder of JSONL files with ``answer`` and ``completion``
is named, those rows, in random order, each graded once with nothing remembered from another run.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from ekipl.algorithm.types import AnswerKind
from ekipl.data.problems import answer_kind
from ekipl.errors import GraderError
from ekipl.reward import equivalence, letters, values
from ekipl.reward.graders import grade

Case = tuple[str, str, AnswerKind]
GRADERS = ("strict", "reason_rft", "reason_rft_reward")


def plain(number: int, seed: int) -> list[Case]:
    """Well-formed completions with an integer or a letter, half of them right."""
    rng = random.Random(seed)
    cases: list[Case] = []
    for _ in range(number):
        kind: AnswerKind = rng.choice(("number", "choice"))
        options = "ABCD" if kind == "choice" else [str(n) for n in range(12)]
        gold = rng.choice(options)
        said = gold if rng.random() < 0.5 else rng.choice(options)
        cases.append(
            (f"<think>\n{'one thing after another, ' * 20}\n</think>\n<answer>\n{said}\n</answer>", gold, kind)
        )
    return cases


def real(folder: Path) -> list[Case]:
    """Every row of every JSONL file of the folder."""
    rows = [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [(row["completion"], row["answer"], answer_kind(row["answer"].strip(), row["problem"])) for row in rows]


def computed() -> float:
    """Seconds of CPU of this process, the grading process and its fork, so far (Linux)."""
    assert equivalence._current is not None  # main has warmed it up
    child = equivalence._current.process.pid
    forks = Path(f"/proc/{child}/task/{child}/children").read_text().split()
    spent = [int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in (child, *forks)]
    return time.process_time() + sum(spent) / 1e9


def measure(name: str, cases: list[Case]) -> None:
    """Print rates by the clock, and by computing alone, which a busy machine does not slow down."""
    for reward in GRADERS:
        equivalence.forget()
        letters.forget()
        values.forget()
        errors, start, before = 0, time.perf_counter(), computed()
        for text, gold, kind in cases:
            try:
                grade(text, gold, kind, reward)
            except GraderError:
                errors += 1
        seconds, cpu = time.perf_counter() - start, computed() - before
        rates = f"{len(cases) / seconds:10,.0f} completions/s, {len(cases) / cpu:10,.0f} per CPU second"
        print(f"{name:>8} {reward:>18}: {rates}, {errors} errors in {len(cases)}")


def main() -> None:
    """Warm up the grading process, then measure."""
    equivalence.equal(r"\sqrt{4}", "2", latex=True)
    measure("plain", plain(20_000, seed=0))
    for folder in sys.argv[1:]:
        measure("real", real(Path(folder)))


if __name__ == "__main__":
    main()
