"""docs/metrics.md and the code name the same metrics."""

from __future__ import annotations

import re
from pathlib import Path

from ekipl.algorithm.metrics import step_metrics
from ekipl.algorithm.types import Action, Group, Problem, Reward
from ekipl.report.evaluate import metrics, summarize
from ekipl.reward.graders import grader
from ekipl.run.sampling import grade_action

ROOT = Path(__file__).parents[1]
LITERAL = re.compile(r'"((?:loss|time|progress)/[a-z_]+)"')


def documented() -> set[str]:
    text = (ROOT / "docs" / "metrics.md").read_text()
    return {name for name in re.findall(r"`([a-z]+/[A-Za-z_/]+)`", text) if name != "time/"}


def written() -> set[str]:
    """The names that the code writes, with SOURCE, SPLIT and REASON for what varies."""
    problem = Problem("p", "spatial", "SPLIT", (), "q", "q", "change_size(0, small)", "functions", {"skill": ["x"]})
    reward = Reward(1.0, 0.0, {"NAME": 1.0}, {"NAME": 1.0}, 1.0)
    actions = [Action("p", source, 0, "x", "stop", (1,), reward=reward) for source in ("policy", "SOURCE")]
    names = set(step_metrics([Group(problem, tuple(actions), (0, 1), (0.0, 0.0), {"REASON": 1}, 1)]))
    for grade in (grader("strict"), lambda problem, text: reward):
        names |= set(metrics(summarize([grade_action(grade, problem, actions[0])])))
    names.remove("eval/SPLIT/NAME")  # of the second, in which NAME is also a detail
    for file in ("run/recorder.py", "engine/deepspeed.py"):
        names |= set(LITERAL.findall((ROOT / "ekipl" / file).read_text()))
    phases = re.findall(r'clock\("([a-z]+)"\)', (ROOT / "ekipl" / "algorithm" / "loop.py").read_text())
    return {name for name in names if not name.endswith("/policy") or name == "loss/policy"} | {
        f"time/{p}" for p in phases
    }


def test_every_metric_is_explained_and_every_explained_metric_is_written() -> None:
    assert written() == documented()
