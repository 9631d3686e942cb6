"""How far a command is, on standard error: a bar on a terminal, lines where there is none (nohup, Slurm, a pipe)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_S = 30.0  # a line at least so often
LINE_SHARE = 0.05  # or after this share of the work, but not more often than every QUIET_S
QUIET_S = 2.0

Advance = Callable[[int], None]


@contextmanager
def progress(
    total: int,
    label: str,
    more: Callable[[], str] = str,
    unit: str = "problem",
    before: int = 0,
    shown: bool = True,
    brief: bool = False,
) -> Iterator[Advance]:
    """Call the value with the number of items just done.

    Args:
        total: items to do.
        label: what is done, such as ``train``.
        more: returns a text shown behind the numbers.
        unit: what the items are, in the singular; for the lines.
        before: items that an earlier run has done.
        shown: false on all ranks but one.
        brief: no line in the first seconds, for what is over by then as a rule.
    """
    if not shown:
        yield lambda done: None
        return
    if sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(label, total=total, completed=before, more=more())
            yield lambda done: bar.update(task, advance=done, more=more())
        return
    lines = Lines(total, label, more, unit, before, brief)
    if not brief:
        lines.print()
    yield lines.advance


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[more]}", markup=False),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


@dataclass
class Lines:
    """Lines such as ``train: step 12 of 70 (17 %), 1.2 s a step, 1:10 left``.

    One at the start, one at the end, and between them as often as the constants above say. ``clock`` returns seconds.
    """

    total: int
    label: str
    more: Callable[[], str]
    unit: str
    before: int = 0
    brief: bool = False
    clock: Callable[[], float] = time.monotonic
    start: float = field(init=False)
    done: int = field(init=False)
    shown: tuple[float, int] = field(init=False)

    def __post_init__(self) -> None:
        self.start, self.done = self.clock(), self.before
        self.shown = (self.start, self.done)

    def advance(self, done: int) -> None:
        """Count ``done`` items more."""
        self.done += done
        since, items = self.clock() - self.shown[0], self.done - self.shown[1]
        is_due = since >= LINE_S or (items >= LINE_SHARE * self.total and since >= QUIET_S)
        is_over = self.done >= self.total and (not self.brief or self.clock() - self.start >= QUIET_S)
        if is_due or is_over:
            self.print()

    def print(self) -> None:
        """Write the line now."""
        self.shown = (self.clock(), self.done)
        print(self.text(), file=sys.stderr, flush=True)

    def text(self) -> str:
        """The line."""
        share = 100 * self.done // max(self.total, 1)
        parts = [f"{self.label}: {self.unit} {self.done:,} of {self.total:,} ({share} %)"]
        if self.done > self.before:
            spent = self.shown[0] - self.start
            each = spent / (self.done - self.before)
            left = each * (self.total - self.done)
            parts.append(f"{each:.1f} s a {self.unit}")
            parts.append(f"{clock_time(left)} left" if left else f"{clock_time(spent)} in all")
        return ", ".join([*parts, *filter(None, [self.more()])])


def clock_time(seconds: float) -> str:
    """``1:05`` or ``2:03:04``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
