"""Parts of the user's own, by import path."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ekipl.algorithm.types import Problem
from ekipl.config import check
from ekipl.errors import UsageError
from ekipl.importing import imported
from ekipl.run.rewards import build_grader, build_graders
from ekipl.tasks.counting import Counting
from tests.test_config import composed

PROBLEM = Problem("p", "counting", "id", (), "q", "q", "3", "number")
TEXT = "<think></think><answer>3</answer>"


def test_a_path_is_a_module_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def half(problem, text):\n    return 0.5\n")
    assert imported("reward", f"{tmp_path / 'mine.py'}:half")(PROBLEM, TEXT) == 0.5
    assert imported("reward", "math:pi") == math.pi


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nowhere.at_all:f", "cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        ("/no/such/file.py:f", "cannot be imported (FileNotFoundError: "),
        ("math:tau_and_a_half", "math has no tau_and_a_half"),
        (":f", "no import path"),
        ("math:", "no import path"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(value: str, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        imported("reward", value)
    assert str(refused.value).startswith(f"reward: {value}: {reason}")
    assert str(refused.value).endswith("; write package.module:name or FILE.py:name")


def test_the_names_that_are_there_are_told(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from math import pi\ndef b(): ...\nclass A: ...\n_c = d = 3\n")
    with pytest.raises(UsageError, match=r"mine\.py has no half \(it has A, b\); write package"):
        imported("reward", f"{tmp_path / 'mine.py'}:half")


def test_a_file_that_ends_the_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(UsageError, match=r"cannot be imported \(SystemExit: 0\)"):
        imported("reward", f"{tmp_path / 'ends.py'}:f")


def test_a_reward_fits_the_task() -> None:
    partial = check(composed("rollout", "reward=reason_rft_partial"), "rollout")
    with pytest.raises(UsageError, match="reward: reason_rft_partial: does not grade the answers of counting"):
        build_grader(partial, Counting())


def test_further_graders_fit_the_task() -> None:
    def further(*overrides: str) -> set[str]:
        return set(build_graders(check(composed("eval", *overrides), "eval"), Counting())[1])

    assert further("reward=reason_rft_reward") == {"strict", "reason_rft"}
    assert further("also_grade_with=[strict]") == set()
    assert further("reward=[strict,reason_rft]", "also_grade_with=[strict]") == {"strict"}
    with pytest.raises(UsageError, match="also_grade_with.0: reason_rft_partial: does not grade"):
        further("also_grade_with=[reason_rft_partial]")
