"""What a run spends on external models: every call on paper before it is sent, and never more than the budget."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ekipl.external.store import Database
from ekipl.report.tables import Table

FILE = "ledger.sqlite"  # in the run directory
ANSWERED = "answered"
LEFT_OUT = "not in the answer"
NANO = 10**9  # dollars are added up as whole nanodollars: sums are exact

_TABLES = (
    """CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,          -- when it was sent, seconds since 1970
    source TEXT NOT NULL,        -- the model's name in the settings
    problem TEXT NOT NULL,       -- task/split/id
    sample INTEGER NOT NULL,
    attempt INTEGER NOT NULL,    -- from 1; 0: given up without a request; below: in the request of the row before
    outcome TEXT,                -- 'answered', or what went wrong; NULL: under way, or its process was killed
    nano INTEGER,                -- dollars / 10^9: at most, until the outcome is known; NULL: price unknown
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX IF NOT EXISTS under_way ON calls (time) WHERE outcome IS NULL",
    "CREATE TABLE IF NOT EXISTS spent (one INTEGER PRIMARY KEY CHECK (one = 1), nano INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO spent VALUES (1, 0)",
    "CREATE TABLE IF NOT EXISTS dropped (source TEXT, parameter TEXT, PRIMARY KEY (source, parameter))",
    "CREATE TABLE IF NOT EXISTS hits (source TEXT PRIMARY KEY, count INTEGER NOT NULL)",
)


class Exhausted(Exception):
    """The budget does not allow this call. ``may_change``: calls under way may turn out cheaper than feared."""

    def __init__(self, spent_usd: float, may_change: bool) -> None:
        super().__init__(f"{spent_usd:.4f} USD are spent or promised")
        self.may_change = may_change


@dataclass(frozen=True)
class Entry:
    """A call in the ledger: a row for each sample, from ``id`` on, and the most that it can cost; None = unknown."""

    id: int
    samples: int
    most: int | None

    def is_exceeded_by(self, usd: float | None) -> bool:
        """Whether a call that cost so much was underrated."""
        return usd is not None and self.most is not None and round(usd * NANO) > self.most


class Ledger:
    """The calls of one run, in a SQLite file that its processes share and that outlives them."""

    def __init__(self, path: Path | None, budget_usd: float | None, call_s: float) -> None:
        """Opens or makes the file.

        Args:
            path: None keeps the ledger in memory.
            budget_usd: of the run, over all its processes and restarts; None = without limit.
            call_s: seconds after which no call is under way any more.

        Raises:
            UsageError: the file cannot be used.
        """
        self._database = Database(path, "hydra.run.dir", _TABLES)
        self._budget = None if budget_usd is None else math.floor(budget_usd * NANO)
        self._call_s = call_s
        self._requests = int(self._database.rows("SELECT count(*) FROM calls WHERE attempt > 0")[0][0])

    @property
    def has_budget(self) -> bool:
        return self._budget is not None

    def promise(self, source: str, problem: str, samples: Sequence[int], attempt: int, most_usd: float | None) -> Entry:
        """Notes a call that is about to be sent, at the most that it can cost. Raises Exhausted: do not send it."""
        most = None if most_usd is None else math.ceil(most_usd * NANO)
        with self._database.transaction():
            ((spent,),) = self._database.rows("SELECT nano FROM spent")
            if self._budget is not None and spent + (most or 0) > self._budget:
                now = time.time()  # of a clock that was put back: calls of the future are over, too
                waiting = "SELECT 1 FROM calls WHERE outcome IS NULL AND time BETWEEN ? AND ? LIMIT 1"
                raise Exhausted(
                    spent / NANO, bool(self._database.rows(waiting, now - self._call_s, now + self._call_s))
                )
            insert = (
                "INSERT INTO calls (time, source, problem, sample, attempt, nano) VALUES (?, ?, ?, ?, ?, ?)"
                " RETURNING id"
            )
            ((first,),) = self._database.rows(insert, time.time(), source, problem, samples[0], attempt, most)
            for sample in samples[1:]:  # no other process comes in between: the ids follow each other
                self._database.rows(insert, time.time(), source, problem, sample, -attempt, 0)
            self._database.rows("UPDATE spent SET nano = nano + ?", most or 0)
        self._requests += 1
        return Entry(first, len(samples), most)

    def settle(
        self, entry: Entry, outcomes: Sequence[str], usd: float | None, prompt: int = 0, completion: int = 0
    ) -> None:
        """Notes how a call ended, what it cost (None: unknown; ``most`` was right) and its tokens.

        Args:
            entry: the call.
            outcomes: of its samples, in their order; those beyond were not in the answer.
            usd: see above.
            prompt: tokens.
            completion: tokens, of all answers together.
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
        """Notes a sample for which no request was sent."""
        self._database.rows(
            "INSERT INTO calls (time, source, problem, sample, attempt, outcome, nano) VALUES (?, ?, ?, ?, 0, ?, 0)",
            *(time.time(), source, problem, sample, reason),
        )

    def drop(self, source: str, parameter: str) -> None:
        """Notes that a parameter is left out, for the provider refuses it."""
        self._database.rows("INSERT OR IGNORE INTO dropped VALUES (?, ?)", source, parameter)

    def hit(self, source: str, count: int) -> None:
        """Counts answers that came from the cache."""
        add = "INSERT INTO hits VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"
        self._database.rows(add, source, count)

    def table(self) -> Table | None:
        """Requests, tokens and dollars by model, and what went wrong; None where nobody was asked."""
        sums = self._database.rows(
            "SELECT source, sum(attempt > 0), sum(attempt > 1), sum(outcome = ?), sum(prompt_tokens),"
            " sum(completion_tokens), sum(nano), sum(nano IS NULL) FROM calls GROUP BY source",
            ANSWERED,
        )
        calls = {row[0]: row[1:] for row in sums}
        hits = dict(self._database.rows("SELECT source, count FROM hits"))
        if not calls and not hits:
            return None
        rows = []
        for source in sorted(calls.keys() | hits.keys()):
            *counts, nano, unknown = calls.get(source, (0, 0, 0, 0, 0, 0, 0))
            usd = "unknown" if unknown else f"{nano / NANO:.4f}"
            rows.append([source, *(str(count) for count in counts), str(hits.get(source, 0)), usd])
        ends = (
            "SELECT source, coalesce(outcome, 'never ended'), count(*) FROM calls WHERE outcome IS NOT ? GROUP BY 1, 2"
        )
        notes = [f"{source}: {count} x {outcome}" for source, outcome, count in self._database.rows(ends, ANSWERED)]
        left_out = self._database.rows("SELECT source, parameter FROM dropped ORDER BY 1, 2")
        notes += [f"{source}: {parameter} was left out, for the provider refuses it" for source, parameter in left_out]
        header = ["model", "requests", "retries", "answers", "prompt tokens", "completion tokens", "from cache", "USD"]
        return Table("External models", header, rows, notes)

    @property
    def requests(self) -> int:
        """How many this process has sent, and the run before it."""
        return self._requests

    def spent_usd(self) -> float:
        """Dollars spent or promised."""
        ((nano,),) = self._database.rows("SELECT nano FROM spent")
        return float(nano / NANO)

    def close(self) -> None:
        """Closing twice is fine."""
        self._database.close()


def table_of(directory: Path) -> Table | None:
    """The table of a run directory; None where no external model was asked."""
    if not (directory / FILE).exists():
        return None
    ledger = Ledger(directory / FILE, None, 0.0)
    try:
        return ledger.table()
    finally:
        ledger.close()
