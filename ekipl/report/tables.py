"""Tables: drawn on a terminal, Markdown in files and pipes."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ekipl.report.stats import Estimate


@dataclass(frozen=True)
class Table:
    """Rows of text under a header, with numeric columns right-aligned and ``notes`` below.

    Cells may hold text of models and data sets, so control characters and column separators are escaped.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """A GitHub table under its title."""
        lines = [[plain(cell).replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        columns = []
        for name, *cells in zip(*lines, strict=True):
            width = max(3, *map(len, (name, *cells)))
            right = _is_numeric(cells)
            rule = "-" * (width - 1) + (":" if right else "-")
            columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in (name, rule, *cells)])
        table = ["| " + " | ".join(row) + " |" for row in zip(*columns, strict=True)]
        notes = [f"* {plain(note)}" for note in self.notes]
        return "\n".join([f"### {plain(self.title)}", "", *table, "", *notes, *([""] if notes else [])])

    def show(self) -> None:
        """Print to standard output."""
        if not sys.stdout.isatty():
            print(self.markdown())
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table as Drawn
        from rich.text import Text

        drawn = Drawn(title=Text(plain(self.title), style="bold"), box=box.SIMPLE_HEAD, title_justify="left")
        for name, *cells in zip(self.header, *self.rows, strict=True):
            drawn.add_column(Text(plain(name)), justify="right" if _is_numeric(cells) else "left")
        for row in self.rows:
            drawn.add_row(*(Text(plain(cell)) for cell in row))
        console = Console()
        console.print(drawn)
        for note in self.notes:
            console.print(Text(plain(note)))


def _is_numeric(cells: Sequence[str]) -> bool:
    return all(re.fullmatch(r"([-+\d., %()]|to)*", cell) for cell in cells)


def plain(text: str) -> str:
    """The text on one line, with control characters replaced, so that it cannot steer a terminal or forge rows."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def show_all(tables: Iterable[Table]) -> None:
    """Print tables one after another."""
    for table in tables:
        table.show()


def percent(share: float) -> str:
    """A share in percent with one decimal; "-" for NaN."""
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def percent_interval(estimate: Estimate) -> str:
    """Mean and interval in percent: ``43.2 (40.1 to 46.3)``."""
    mean, low, high = map(percent, estimate)
    return mean if low == "-" else f"{mean} ({low} to {high})"


def points(difference: Estimate) -> str:
    """A difference of shares in percentage points, with signs: ``+4.2 (+1.0 to +7.5)``."""
    mean, low, high = ("-" if math.isnan(value) else f"{100 * value:+.1f}" for value in difference)
    return mean if low == "-" else f"{mean} ({low} to {high})"


def number(value: float) -> str:
    """A count or mean without decimals; "-" for NaN."""
    return "-" if math.isnan(value) else f"{value:.0f}"
