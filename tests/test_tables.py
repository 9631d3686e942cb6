from __future__ import annotations

import math

import pytest

from ekipl.report.stats import Estimate
from ekipl.report.tables import Table, percent, percent_interval


def test_markdown() -> None:
    table = Table("Accuracy", ("split", "n"), [("id", "20"), ("ood_left", "3")], ("a note",))
    assert table.markdown() == (
        "### Accuracy\n\n| split    |   n |\n| -------- | --: |\n| id       |  20 |\n| ood_left |   3 |\n\n* a note\n"
    )


def test_numbers_are_right_aligned_and_names_left() -> None:
    lines = Table("t", ("model", "split", "points"), [("a", "id", "+1.0"), ("b", "ood", "-")]).markdown().splitlines()
    assert lines[3] == "| ----- | ----- | -----: |"
    assert lines[4] == "| a     | id    |   +1.0 |"


def test_what_only_begins_with_a_digit_is_no_number() -> None:
    rows = [("2026-11-25_02-18", "3 x 4 B", "+1.0 (-1.0 to +3.0)"), ("2b", "1", "-")]
    assert Table("t", ("run", "formula", "points"), rows).markdown().splitlines()[3] == (
        "| ---------------- | ------- | ------------------: |"
    )


def test_hostile_cells_stay_cells(capsys: pytest.CaptureFixture[str]) -> None:
    Table("t\x1b[2J", ("a",), [("x | y\n| z |\u2028",)], ("\x07",)).show()
    shown = capsys.readouterr().out
    assert shown.isascii() is False
    assert not any(char in shown for char in "\x1b\x07\u2028")
    assert "x \\| y\ufffd\\| z \\|\ufffd |\n" in shown


def test_on_a_terminal_markup_is_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    Table("t", ("[red]a",), [("[bold]b",)], ("[blink]c",)).show()
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[red]a", "[bold]b", "[blink]c"))


def test_percent() -> None:
    assert percent(0.4321) == "43.2"
    assert percent_interval(Estimate(0.5, 0.25, 0.754)) == "50.0 (25.0 to 75.4)"
    assert percent_interval(Estimate(0.5, math.nan, math.nan)) == "50.0"
    assert percent_interval(Estimate(math.nan, math.nan, math.nan)) == "-"
