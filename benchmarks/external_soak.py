"""The external pool on a bad day: ``python -m benchmarks.external_soak``.

2,000 actions from a real HTTP server on loopback that fails 30 % of the calls in fourteen ways, while the process
that asks is killed with ``kill -9`` three times and started again. Writes ``docs/results/external_soak.md``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path

from ekipl.actions import Problem
from ekipl.external import asker
from ekipl.external.cache import Cache, key_of
from ekipl.external.database import Database
from ekipl.external.ledger import Ledger
from ekipl.external.models import ExternalModel, parameters
from ekipl.external.pool import LiteLLMPool
from ekipl.external.question import Question
from ekipl.interfaces import Decoding
from ekipl.tables import Table
from tests.openai_server import Faults, OpenAIServer

RESULTS = Path(__file__).parent.parent / "docs" / "results"
MODELS, SAMPLES, TIMEOUT_S = ("one", "two"), 8, 3.0
DECODING = Decoding(max_tokens=64)


@dataclass(frozen=True)
class Outcome:
    """What is found after the last start has ended."""

    wanted: int
    cached: int  # answers, faulty ones too
    failed: Counter[str]  # the others, by the reason that the ledger gives last
    unexplained: int  # neither in the cache nor in the ledger
    requests: int
    replies: Counter[str]  # that the server sent, by kind
    answered: int  # replies that were whole: to be paid for
    lost: int  # answered, but their process was killed before it could keep them
    paid_twice: int
    seconds: float


def problems(count: int) -> list[Problem]:
    from PIL import Image

    images = [Image.new("RGB", (16, 16), (i % 256, i // 256, 7)) for i in range(count)]
    return [
        Problem(f"p{i}", "counting", "train", (image,), "How many?", f"p{i}: how many?", "3", "number")
        for i, image in enumerate(images)
    ]


def make_pool(url: str, folder: Path) -> LiteLLMPool:
    models = [ExternalModel(name, f"openai/{name}", api_base=url, concurrency=8) for name in MODELS]
    files = {"cache": folder / "cache.sqlite", "ledger": folder / "ledger.sqlite"}
    return LiteLLMPool(models, DECODING, TIMEOUT_S, **files)


def ask(url: str, folder: Path, count: int) -> None:
    """The process that is killed."""
    asker.FIRST_WAIT_S = 0.02
    pool = make_pool(url, folder)
    asked = problems(count)
    for start in range(0, count, 5):
        pool.sample(asked[start : start + 5], SAMPLES)
    pool.close()


def soak(count: int, kills: int, share: float, seed: int, folder: Path) -> Outcome:
    """Ask for ``count`` problems, killing the process whenever another part of the answers is there."""
    wanted = count * len(MODELS) * SAMPLES
    start = time.monotonic()
    faults = Faults(seed, share, hang_s=3 * TIMEOUT_S)
    lost = 0
    with OpenAIServer(faults) as server:

        def unkept() -> int:
            """Answers that the server sent and no process kept, once nothing is under way."""
            server.settle()
            return len(server.finished & faults.answers) - len(cached(folder))

        for number in range(kills + 1):
            command = [sys.executable, "-m", "benchmarks.external_soak", "--ask", server.url, str(folder), str(count)]
            with subprocess.Popen(command) as process:
                due = wanted * (number + 1) // (kills + 1) if number < kills else None
                while process.poll() is None:
                    if due is not None and len(server.finished & faults.answers) >= due * 0.9:
                        os.kill(process.pid, signal.SIGKILL)
                        break
                    time.sleep(0.01)
                status = process.wait()
            if due is None:
                assert status == 0, status
            else:
                assert status == -signal.SIGKILL, f"ended before it could be killed: {status}"
                lost = unkept()
        answered = len(server.finished & faults.answers)
        paid_twice = unkept() - lost
        requests = len(server.requests)
    kept, reasons = cached(folder), last_outcomes(folder)
    missing = []
    for problem in problems(count):
        for name, sample in product(MODELS, range(SAMPLES)):
            sent = parameters(ExternalModel(name, f"openai/{name}"), DECODING)
            if key_of(f"openai/{name}", server.url, Question(problem).fingerprint, sent, sample) not in kept:
                missing.append(reasons.get((name, f"counting/train/{problem.id}", sample)))
    failed = Counter(reason for reason in missing if reason is not None)
    return Outcome(
        wanted=wanted,
        cached=len(kept),
        failed=failed,
        unexplained=missing.count(None),
        requests=requests,
        replies=faults.sent,
        answered=answered,
        lost=lost,
        paid_twice=paid_twice,
        seconds=time.monotonic() - start,
    )


def cached(folder: Path) -> set[str]:
    """The keys in the cache."""
    cache = Cache(folder / "cache.sqlite")
    keys = {key for (key,) in cache._database.rows("SELECT key FROM answers")}
    cache.close()
    return keys


def last_outcomes(folder: Path) -> dict[tuple[str, str, int], str | None]:
    """What the ledger says last of each sample."""
    Ledger(folder / "ledger.sqlite", None, 0.0).close()
    database = Database(folder / "ledger.sqlite", "ledger", ())
    rows = database.rows("SELECT source, problem, sample, outcome FROM calls ORDER BY id")
    database.close()
    return {(source, problem, sample): outcome for source, problem, sample, outcome in rows}


def table(outcome: Outcome, kills: int, share: float) -> Table:
    rows = [
        ["actions wanted", str(outcome.wanted)],
        ["in the cache, each exactly once", str(outcome.cached)],
        *([f"not answered: {reason}", str(count)] for reason, count in outcome.failed.most_common()),
        ["neither in the cache nor in the ledger", str(outcome.unexplained)],
        ["requests that the server got", str(outcome.requests)],
        *([f"of these: {kind}", str(number)] for kind, number in outcome.replies.most_common()),
        ["whole answers that the server sent", str(outcome.answered)],
        [f"lost: under way in one of {kills} kill -9", str(outcome.lost)],
        ["paid for a second time though it was kept", str(outcome.paid_twice)],
        ["seconds", f"{outcome.seconds:.0f}"],
    ]
    return Table(f"{outcome.wanted} actions, {share:.0%} faults, {kills} x kill -9", ["what", "count"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ask", nargs=3, metavar=("URL", "FOLDER", "PROBLEMS"))
    parser.add_argument("--problems", type=int, default=125)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--machine", default="not stated", help="what it ran on, as the table shall say")
    given = parser.parse_args(arguments)
    if given.ask:
        ask(given.ask[0], Path(given.ask[1]), int(given.ask[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        outcome = soak(given.problems, given.kills, given.share, given.seed, Path(folder))
    page = table(outcome, given.kills, given.share).markdown() + f"\n{date.today().isoformat()}, {given.machine}.\n"
    print(page)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "external_soak.md").write_text(page)


if __name__ == "__main__":
    main()
