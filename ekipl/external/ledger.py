"""The ledger of a run: every call is entered before it is sent, and no call is sent that could exceed the budget."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ekipl.external.store import Database

FILE = "ledger.sqlite"  # of the external models, in the run directory
JUDGED = "judge.sqlite"  # of the judge, whose budget is its own
ANSWERED = "answered"
LEFT_OUT = "not in the answer"
_SHOWN = 5  # problems without an answer that a summary names
NANO = 10**9  # amounts are whole nanodollars, so that sums are exact

_TABLES = (
    """CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,          -- when it was sent, seconds since 1970
    source TEXT NOT NULL,        -- the model's name in the settings
    problem TEXT NOT NULL,       -- task/split/id
    sample INTEGER NOT NULL,
    attempt INTEGER NOT NULL,    -- attempt number; 0 = no request sent; negative = further sample of the previous
                                 -- row's request
    outcome TEXT,                -- 'answered' or the reason of the failure; NULL = in flight, or its process was killed
    nano INTEGER,                -- dollars / 10^9: the upper bound until the outcome is known; NULL = price unknown
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX IF NOT EXISTS under_way ON calls (time) WHERE outcome IS NULL",
    "CREATE TABLE IF NOT EXISTS spent (one INTEGER PRIMARY KEY CHECK (one = 1), nano INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO spent VALUES (1, 0)",
    "CREATE TABLE IF NOT EXISTS dropped (source TEXT, parameter TEXT, PRIMARY KEY (source, parameter))",
    # why a single problem has no answer: what was wrong with it, in the provider's or in our words
    "CREATE TABLE IF NOT EXISTS faults (time REAL, source TEXT, problem TEXT, sample INTEGER, reason TEXT)",
    "CREATE TABLE IF NOT EXISTS hits (source TEXT PRIMARY KEY, count INTEGER NOT NULL)",
)


class Exhausted(Exception):
    """The budget does not allow this call. ``may_change``: calls in flight may cost less than their upper bound."""

    def __init__(self, spent_usd: float, may_change: bool) -> None:
        super().__init__(f"{spent_usd:.4f} USD are spent or promised")
        self.may_change = may_change


@dataclass(frozen=True)
class Entry:
    """A call in the ledger.

    Attributes:
        id: of its first row; the rows of its samples follow each other.
        samples: number of rows.
        most: upper bound of its cost in nanodollars; None = unknown.
    """

    id: int
    samples: int
    most: int | None

    def is_exceeded_by(self, usd: float | None) -> bool:
        """Whether this cost is above the bound; False where either is unknown."""
        return usd is not None and self.most is not None and round(usd * NANO) > self.most


class ModelSpending(NamedTuple):
    """The sums of one model."""

    source: str
    requests: int
    retries: int
    answers: int
    prompt_tokens: int
    completion_tokens: int
    cached: int  # answers taken from the cache
    usd: float | None  # None = unknown


class Spending(NamedTuple):
    """The sums of a ledger."""

    models: list[ModelSpending]
    failed: list[tuple[str, str, int]]  # model, reason, samples
    dropped: list[tuple[str, str]]  # model, parameter that is no longer sent to it
    faults: list[tuple[str, str, str]] = []  # model, problem, why it has no answer: the first few


class Ledger:
    """The calls of one run, in a SQLite file that its processes and restarts share.

    ``requests`` counts those of this process and those that the run had sent before it started.
    """

    def __init__(self, path: Path | None, budget_usd: float | None, call_s: float) -> None:
        """Opens or creates the file.

        Args:
            path: None = in memory.
            budget_usd: US dollars for the whole run; None = without limit.
            call_s: seconds after which a call without outcome is no longer in flight.

        Raises:
            UsageError: the file cannot be used.
        """
        self._database = Database(path, "hydra.run.dir", _TABLES)
        self.has_budget = budget_usd is not None
        self._budget = None if budget_usd is None else math.floor(budget_usd * NANO)
        self._call_s = call_s
        self.requests: int = self._database.rows("SELECT count(*) FROM calls WHERE attempt > 0")[0][0]

    def reserve(self, source: str, problem: str, samples: Sequence[int], attempt: int, most_usd: float | None) -> Entry:
        """Enters a call that is about to be sent, with the upper bound of its cost.

        Raises:
            Exhausted: the bound does not fit into the budget; the call must not be sent.
        """
        most = None if most_usd is None else math.ceil(most_usd * NANO)
        with self._database.transaction():
            ((spent,),) = self._database.rows("SELECT nano FROM spent")
            if self._budget is not None and spent + (most or 0) > self._budget:
                now = time.time()  # a clock that was set back leaves calls in the future; they are over, too
                in_flight = "SELECT 1 FROM calls WHERE outcome IS NULL AND time BETWEEN ? AND ? LIMIT 1"
                raise Exhausted(
                    spent / NANO, bool(self._database.rows(in_flight, now - self._call_s, now + self._call_s))
                )
            insert = (
                "INSERT INTO calls (time, source, problem, sample, attempt, nano) VALUES (?, ?, ?, ?, ?, ?)"
                " RETURNING id"
            )
            ((first,),) = self._database.rows(insert, time.time(), source, problem, samples[0], attempt, most)
            for sample in samples[1:]:  # inside the transaction, so the ids follow each other
                self._database.rows(insert, time.time(), source, problem, sample, -attempt, 0)
            self._database.rows("UPDATE spent SET nano = nano + ?", most or 0)
        self.requests += 1
        return Entry(first, len(samples), most)

    def settle(
        self, entry: Entry, outcomes: Sequence[str], usd: float | None, prompt: int = 0, completion: int = 0
    ) -> None:
        """Enter the end of a call that ``reserve`` entered.

        ``outcomes`` are of its samples, in their order; further samples of the call were not in the answer. ``usd`` is
        its cost; None = unknown, so the upper bound stays. ``completion`` counts the tokens of all answers.
        """
        nano = entry.most if usd is None else round(usd * NANO)
        with self._database.transaction():
            for place in range(entry.samples):
                outcome = outcomes[place] if place < len(outcomes) else LEFT_OUT
                self._database.rows("UPDATE calls SET outcome = ? WHERE id = ?", outcome, entry.id + place)
            self._database.rows(
                "UPDATE calls SET nano = ?, prompt_tokens = ?, completion_tokens = ? WHERE id = ?",
                *(nano, prompt, completion, entry.id),
            )
            self._database.rows("UPDATE spent SET nano = nano + ?", (nano or 0) - (entry.most or 0))

    def give_up(self, source: str, problem: str, sample: int, reason: str) -> None:
        """Enters a sample for which no request is sent."""
        self._database.rows(
            "INSERT INTO calls (time, source, problem, sample, attempt, outcome, nano) VALUES (?, ?, ?, ?, 0, ?, 0)",
            *(time.time(), source, problem, sample, reason),
        )

    def drop(self, source: str, parameter: str) -> None:
        """Enters that a parameter is no longer sent, because the provider rejects it."""
        self._database.rows("INSERT OR IGNORE INTO dropped VALUES (?, ?)", source, parameter)

    def explain(self, source: str, problem: str, sample: int, reason: str) -> None:
        """Enters why a sample has no answer, where the reason lies in its problem or in this one answer."""
        self._database.rows("INSERT INTO faults VALUES (?, ?, ?, ?, ?)", time.time(), source, problem, sample, reason)

    def hit(self, source: str, count: int) -> None:
        """Counts answers taken from the cache."""
        add = "INSERT INTO hits VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"
        self._database.rows(add, source, count)

    def spent_usd(self) -> float:
        """US dollars spent, plus the upper bounds of calls in flight."""
        ((nano,),) = self._database.rows("SELECT nano FROM spent")
        return float(nano / NANO)

    def spending(self) -> Spending:
        """The sums by model, sorted by its name; empty where no model was called."""
        sums = self._database.rows(
            "SELECT source, sum(attempt > 0), sum(attempt > 1), sum(outcome = ?), sum(prompt_tokens),"
            " sum(completion_tokens), sum(nano), sum(nano IS NULL) FROM calls GROUP BY source",
            ANSWERED,
        )
        calls = {row[0]: row[1:] for row in sums}
        hits = dict(self._database.rows("SELECT source, count FROM hits"))
        models = []
        for source in sorted(calls.keys() | hits.keys()):
            requests, retries, answers, prompt, completion, nano, unknown = calls.get(source, (0,) * 7)
            usd = None if unknown else nano / NANO
            cached = hits.get(source, 0)
            models.append(ModelSpending(source, requests, retries, answers, prompt, completion, cached, usd))
        failed = self._database.rows(
            "SELECT source, coalesce(outcome, 'never ended'), count(*) FROM calls WHERE outcome IS NOT ? GROUP BY 1, 2",
            ANSWERED,
        )
        dropped = self._database.rows("SELECT source, parameter FROM dropped ORDER BY 1, 2")
        faults = self._database.rows(
            "SELECT source, problem, reason FROM faults GROUP BY 1, 2, 3 ORDER BY min(time) LIMIT ?", _SHOWN
        )
        return Spending(models, failed, dropped, faults)

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._database.close()


def read_spending(directory: Path) -> Spending:
    """The sums of a run directory; empty where it has no ledger. Raises UsageError when a file cannot be used."""
    found = [_sums(directory / name) for name in (FILE, JUDGED) if (directory / name).exists()]
    return Spending(
        [row for sums in found for row in sums.models],
        [row for sums in found for row in sums.failed],
        [row for sums in found for row in sums.dropped],
        [row for sums in found for row in sums.faults],
    )


def _sums(path: Path) -> Spending:
    ledger = Ledger(path, None, 0.0)
    try:
        return ledger.spending()
    finally:
        ledger.close()
