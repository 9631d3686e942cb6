"""Progress on a terminal, and in lines where there is none."""

from __future__ import annotations

import io
import sys

import pytest

from ekipl.external.offline import NoPool
from ekipl.progress import Lines, clock_time, progress
from ekipl.run.describe import course


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(total: int, seconds: float, before: int = 0) -> list[str]:
    """The lines of a command whose items take ``seconds`` each."""
    clock, shown = Clock(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", shown)
        lines = Lines(total, "train", lambda: "reward kept 1.50", "step", before, clock=clock)
        lines.print()
        for _ in range(total - before):
            clock.now += seconds
            lines.advance(1)
    return shown.getvalue().splitlines()


def test_a_line_says_how_far_how_fast_and_how_long() -> None:
    # of 70 steps 12 in 14.4 s: 14.4 / 12 = 1.2 s a step, 58 x 1.2 = 69.6 s left
    lines = lines_of(70, 1.2)
    assert lines[0] == "train: step 0 of 70 (0 %), reward kept 1.50"
    assert "train: step 12 of 70 (17 %), 1.2 s a step, 1:10 left, reward kept 1.50" in lines
    assert lines[-1] == "train: step 70 of 70 (100 %), 1.2 s a step, 1:24 in all, reward kept 1.50"


@pytest.mark.parametrize(
    ("total", "seconds", "count"),
    [
        (1000, 60.0, 1001),  # each step is longer than 30 s
        (1000, 1.0, 35),  # every 30 s (before 5 % of the steps, 50 s, are done): 33, then step 1,000, and the start
        (20, 0.01, 2),  # all is over within 2 s: the start and the end
        (100, 4.0, 21),  # every 5 %, 20 s
    ],
)
def test_lines_come_every_thirty_seconds_or_five_percent(total: int, seconds: float, count: int) -> None:
    assert len(lines_of(total, seconds)) == count


def test_a_resumed_run_goes_on_counting() -> None:
    lines = lines_of(10, 3.0, before=8)
    assert lines[0].startswith("train: step 8 of 10 (80 %), reward")
    assert lines[1].startswith("train: step 9 of 10 (90 %), 3.0 s a step, 0:03 left")


def test_only_one_rank_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, "train", shown=False) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")
    with progress(3, "eval") as advance:
        advance(3)
    assert capsys.readouterr().err.startswith("eval: problem 0 of 3 (0 %)\neval: problem 3 of 3 (100 %), ")


def test_what_is_brief_is_not_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, "checking pictures", brief=True) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_the_course_of_a_training_in_words() -> None:
    metrics = {"reward/accuracy/policy": 0.234, "reward/kept": 1.456, "group/frac_zero_variance": 0.02}
    assert course({}, NoPool()) == ""
    assert course(metrics, NoPool()) == "own accuracy 23%, reward kept 1.46, groups without gradient 2%"
    assert course({"eval/id/accuracy": 0.31}, NoPool()) == "ID 31%"


def test_times() -> None:
    assert [clock_time(seconds) for seconds in (4.6, 65, 3600 * 2 + 184)] == ["0:05", "1:05", "2:03:04"]


def test_a_terminal_gets_a_bar_with_the_label_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    spent = iter(("nothing", "[3] requests, 0.5 USD", "", ""))
    with progress(4, "[red]sampling", lambda: next(spent)) as advance:
        advance(4)
    assert "[red]sampling" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert "[3] requests, 0.5 USD" in terminal.getvalue()
