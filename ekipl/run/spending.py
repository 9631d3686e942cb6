"""The cost of a run's external models, as its commands show it."""

from __future__ import annotations

from pathlib import Path

from ekipl.algorithm.seams import ExternalPool
from ekipl.external.ledger import read_spending
from ekipl.external.pool import LiteLLMPool
from ekipl.report.spending import spending_table
from ekipl.report.tables import Table


def spending(directory: Path) -> Table | None:
    """The table of a run directory's ledger; None where no external model was called. Raises UsageError."""
    sums = read_spending(directory)
    return spending_table(*sums) if sums.models else None


def spent_so_far(pool: ExternalPool) -> str:
    """Requests and US dollars so far, for a progress bar; empty for a pool that calls no model."""
    if not isinstance(pool, LiteLLMPool):
        return ""
    requests, usd = pool.spent()
    return f"{requests} requests, {usd:.4f} USD"
