"""Metrics of a step and the advice that goes with them."""

from __future__ import annotations

from ekipl.algorithm.metrics import advice, sources_of, step_metrics, too_few, waiting
from ekipl.algorithm.types import POLICY, Action, Group, Problem, Reward

PROBLEM = Problem("p", "counting", "train", (), "?", "?", "3", "number")


def action(source: str, accuracy: float, tokens: int, finish: str = "stop") -> Action:
    reward = Reward(format=1.0, accuracy=accuracy)
    return Action("p", source, 0, "x", finish, tokens=(0,) * tokens, reward=reward)  # type: ignore[arg-type]


def group(kept: tuple[int, ...], advantages: tuple[float, ...]) -> Group:
    offered = (action(POLICY, 0, 2), action(POLICY, 1, 4, "length"), action("gpt", 1, 6))
    return Group(PROBLEM, offered, kept, advantages, {"too_long": 1})


def test_metrics_by_hand() -> None:
    metrics = step_metrics([group((1, 2), (0.0, 0.0)), group((0, 2), (-1.0, 1.0))])
    assert metrics["group/frac_zero_variance"] == 0.5
    assert metrics["group/refused/too_long"] == 2
    assert metrics["share/offered/gpt"] == 1 / 3
    assert metrics["share/kept/gpt"] == 0.5  # two of the four kept
    assert metrics["reward/accuracy/policy"] == 0.5
    assert metrics["reward/total/gpt"] == 2
    assert metrics["length/tokens/policy"] == 3  # (2 + 4) / 2
    assert metrics["length/truncated/policy"] == 0.5
    assert sources_of(metrics) == [POLICY, "gpt"]


def test_advice_names_what_to_change() -> None:
    dead = group((1, 2), (0.0, 0.0))
    assert advice([0.4, 0.5], [dead], 2) is None
    words = advice([1.0, 0.8], [dead], 2)
    assert words is not None
    assert "90%" in words
    assert "selection=contrast" in words
    alike = Group(PROBLEM, dead.offered[1:], (0, 1), (0.0, 0.0))
    words = advice([1.0], [alike], 2)
    assert words is not None
    assert "too easy or too hard" in words


def test_too_few_candidates_are_said() -> None:
    assert too_few([group((1, 2), (0.0, 0.0))], 3) is None
    told = too_few([group((1, 2), (0.0, 0.0))] * 2, 16)
    assert told == "G = 16, but some problems have only 3 candidates: all of them are kept (2 x too_long)."


def test_waiting_for_external_models_is_said_above_a_tenth() -> None:
    assert waiting([]) is None
    assert waiting([(0.0, 1.0)] * 4) is None
    assert waiting([(0.1, 1.0)] * 4) is None
    words = waiting([(0.0, 1.0), (1.0, 2.0)])  # 1 s of 3
    assert words is not None
    assert "33% of the time of the last 2 steps" in words
    assert "external.prefetch" in words
