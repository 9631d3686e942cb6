"""Parts of the user's own, by import path."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ekipl.algorithm.types import Problem, Reward
from ekipl.config import check
from ekipl.errors import GraderError, UsageError
from ekipl.importing import imported
from ekipl.reward.graders import grader_of
from ekipl.run import build
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


def test_a_function_returns_a_reward_or_a_number() -> None:
    assert grader_of("f", lambda problem, text: 0.25)(PROBLEM, TEXT) == Reward(0.0, 0.25)
    assert grader_of("f", lambda problem, text: Reward(1.0, -0.5))(PROBLEM, TEXT) == Reward(1.0, -0.5)
    with pytest.raises(GraderError, match="f returned a reward of nan"):
        grader_of("f", lambda problem, text: math.nan)(PROBLEM, TEXT)
    with pytest.raises(UsageError, match="reward: f: returned str; return a Reward or a number"):
        grader_of("f", lambda problem, text: "right")(PROBLEM, TEXT)  # type: ignore[arg-type, return-value]


def test_the_setting_reward_is_a_name_or_a_path(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def half(problem, text):\n    return 0.5\n")
    own = check(composed("rollout", f"reward={tmp_path / 'mine.py'}:half"), "rollout")
    assert build.build_grader(own, Counting())(PROBLEM, TEXT).total == 0.5
    assert build.build_grader(check(composed("rollout"), "rollout"), Counting())(PROBLEM, TEXT).total == 2
    partial = check(composed("rollout", "reward=reason_rft_partial"), "rollout")
    with pytest.raises(UsageError, match="reward: reason_rft_partial: does not grade the answers of counting"):
        build.build_grader(partial, Counting())


def test_further_graders_fit_the_task() -> None:
    def further(*overrides: str) -> set[str]:
        return set(build.further_graders(check(composed("eval", *overrides), "eval"), Counting()))

    assert further("reward=reason_rft_reward") == {"strict", "reason_rft"}
    assert further("also_grade_with=[strict]") == set()
    with pytest.raises(UsageError, match="also_grade_with.0: reason_rft_partial: does not grade"):
        further("also_grade_with=[reason_rft_partial]")
