"""The external pool on a bad day: ``python -m benchmarks.external_soak``.

2,000 actions from a real HTTP server on loopback that fails 30 % of the calls in fourteen ways, while the process
that asks is killed with ``kill -9`` three times and started again. Writes ``docs/results/external_soak.md``.
"""

from __future__ import annotations

import argparse
import json
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
from typing import Any

from ekipl.algorithm.seams import Decoding
from ekipl.algorithm.types import Problem
from ekipl.external import caller
from ekipl.external.ledger import Ledger
from ekipl.external.pool import LiteLLMPool
from ekipl.external.request import Question
from ekipl.external.settings import ExternalModel
from ekipl.external.spec import parameters
from ekipl.external.store import Cache, Database, key_of
from ekipl.report.tables import Table
from tests.openai_server import Faults, OpenAIServer

RESULTS = Path(__file__).parent.parent / "docs" / "results"
MODELS, SAMPLES, CHUNK, TIMEOUT_S = ("one", "two"), 8, 25, 3.0
DECODING = Decoding(max_tokens=64)


@dataclass(frozen=True)
class Life:
    """What one process has left behind, killed or not: calls, as the server and the ledger count them."""

    unkept: int  # answers that the server wrote to their end and that are not in the cache
    left: int  # requests whose client had hung up before the reply
    unsettled: int  # calls of the ledger that never ended: under way when the process was killed
    timeouts: int  # calls of the ledger whose deadline passed
    unsent: int  # calls of the ledger that never came to the server: they ended so, too

    @property
    def paid_twice(self) -> int:
        """Answers that were neither kept nor taken away by the kill or by a deadline.

        Every request has its call in the ledger. A client that hung up was killed or had passed its deadline; what
        remains of such calls may be answers that came too late. No other answer may be missing in the cache.
        """
        return max(0, self.unkept + self.left - (self.unsettled + self.timeouts - self.unsent))


@dataclass(frozen=True)
class Outcome:
    """What is found after the last start has ended."""

    wanted: int
    cached: int  # answers, faulty ones too
    sources: int  # requests that these came from
    failed: Counter[str]  # the others, by the reason that the ledger gives last
    unexplained: int  # neither in the cache nor in the ledger
    requests: int
    replies: Counter[str]  # that the server sent, by kind
    answered: int  # replies that were whole: to be paid for
    lives: tuple[Life, ...]  # all but the last one were killed
    seconds: float

    @property
    def lost(self) -> int:
        """Answers taken away by a kill or a deadline: to be paid for, and in the ledger at the most they can cost."""
        return sum(life.unkept for life in self.lives) - self.paid_twice

    @property
    def paid_twice(self) -> int:
        return sum(life.paid_twice for life in self.lives)


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
    caller.FIRST_WAIT_S = 0.02
    pool = make_pool(url, folder)
    asked = problems(count)
    for start in range(0, count, CHUNK):
        pool.sample(asked[start : start + CHUNK], SAMPLES)
    pool.close()


def soak(count: int, kills: int, share: float, seed: int, folder: Path) -> Outcome:
    """Ask for ``count`` problems, killing the process whenever another part of the answers is there."""
    wanted = count * len(MODELS) * SAMPLES
    start = time.monotonic()
    faults = Faults(seed, share, hang_s=3 * TIMEOUT_S)
    lives = []
    with OpenAIServer(faults) as server:
        for number in range(kills + 1):
            requests, last = len(server.requests), last_call(folder)
            live(server, faults, folder, count, wanted * 0.9 * (number + 1) / (kills + 1) if number < kills else None)
            server.settle()
            own = set(range(requests, len(server.requests)))
            unkept = (server.finished & faults.answers & own) - sources(folder)
            ends = calls(folder, last)
            unsent = ends.total() - len(own)
            lives.append(Life(len(unkept), len(server.left & own), ends[None], ends["timeout"], unsent))
        answered, requests = len(server.finished & faults.answers), len(server.requests)
    kept, reasons = cached(folder), last_outcomes(folder)
    missing = []
    for problem in problems(count):
        for name, sample in product(MODELS, range(SAMPLES)):
            sent = parameters(ExternalModel(name, f"openai/{name}"), DECODING)
            if key_of(f"openai/{name}", server.url, Question(problem).fingerprint, sent, sample) not in kept:
                missing.append(reasons.get((name, f"counting/train/{problem.id}", sample)))
    return Outcome(
        wanted=wanted,
        cached=len(kept),
        sources=len(sources(folder)),
        failed=Counter(reason for reason in missing if reason is not None),
        unexplained=missing.count(None),
        requests=requests,
        replies=faults.sent,
        answered=answered,
        lives=tuple(lives),
        seconds=time.monotonic() - start,
    )


def live(server: OpenAIServer, faults: Faults, folder: Path, count: int, due: float | None) -> None:
    """One process, to its end or until so many answers are there."""
    command = [sys.executable, "-m", "benchmarks.external_soak", "--ask", server.url, str(folder), str(count)]
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            if due is not None and len(server.finished & faults.answers) >= due:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.01)
        status = process.wait()
    expected = 0 if due is None else -signal.SIGKILL
    assert status == expected, f"ended with {status}, not {expected}"


def cached(folder: Path) -> dict[str, str]:
    """The values in the cache, by key."""
    cache = Cache(folder / "cache.sqlite")
    values = dict(cache._database.rows("SELECT key, value FROM answers"))
    cache.close()
    return values


def sources(folder: Path) -> set[int]:
    """Numbers of the requests whose answers are in the cache: the server puts them behind the model's name."""
    return {int(json.loads(value)["version"].rpartition("-")[2]) for value in cached(folder).values()}


def calls(folder: Path, after: int) -> Counter[str | None]:
    """How the calls behind row ``after`` of the ledger ended; None: never."""
    rows = query(folder, "SELECT outcome, count(*) FROM calls WHERE attempt > 0 AND id > ? GROUP BY 1", after)
    return Counter(dict(rows))


def last_call(folder: Path) -> int:
    """The last row of the ledger."""
    ((number,),) = query(folder, "SELECT coalesce(max(id), 0) FROM calls")
    return int(number)


def query(folder: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of the ledger."""
    Ledger(folder / "ledger.sqlite", None, 0.0).close()
    database = Database(folder / "ledger.sqlite", "ledger", ())
    try:
        return database.rows(statement, *values)
    finally:
        database.close()


def last_outcomes(folder: Path) -> dict[tuple[str, str, int], str | None]:
    """What the ledger says last of each sample."""
    rows = query(folder, "SELECT source, problem, sample, outcome FROM calls ORDER BY id")
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
        ["of these in the cache", str(outcome.sources)],
        [f"of these lost in {kills} x kill -9", str(sum(life.unkept for life in outcome.lives[:-1]))],
        ["of these later than the deadline", str(outcome.lives[-1].unkept)],
        ["paid for a second time without such a reason", str(outcome.paid_twice)],
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
