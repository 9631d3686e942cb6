"""Actions of external models: how often the models agree, and how many groups they leave without gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from statistics import fmean

from ekipl.report.evaluate import Evaluation
from ekipl.report.passk import tally
from ekipl.report.scores import accuracy_table
from ekipl.report.tables import Table, percent

SIZES = (4, 8, 16, 32)  # G

Counts = tuple[int, int]  # of one model for one problem: perfect actions, and actions


def external_tables(
    task: str, models: Sequence[str], evaluations: Mapping[str, Evaluation], samples: int, failed: Mapping[str, int]
) -> list[Table]:
    """Accuracy, agreement and groups without gradient; ``failed`` counts the samples without an action by reason."""
    notes = [f"no action: {count} x {reason}" for reason, count in failed.items()]
    if failed:
        notes.append("the same command again asks for those that were not answered; nothing is paid for twice")
    notes += [f"{name}: no action at all" for name in models if name not in evaluations]
    for name, evaluation in evaluations.items():
        length = fmean(len(action.text) for action in evaluation.scores)
        notes.append(f"{name}: {length:.0f} characters an action")
    title = f"{task}: up to {samples} actions a problem"
    tables = [accuracy_table(title, evaluations, notes), *_agreement(evaluations)]
    return [*tables, _no_gradient(evaluations, samples)] if evaluations else tables


def _agreement(evaluations: Mapping[str, Evaluation]) -> list[Table]:
    """How often an action of one model and an action of another are both right; empty for fewer than two models."""
    right: dict[str, dict[tuple[str, str], float]] = {}  # model -> problem -> chance that an action is right
    for model, evaluation in evaluations.items():
        tallies = tally(((action.split, action.problem_id), action.right) for action in evaluation.scores)
        right[model] = {problem: t.right / t.graded for problem, t in tallies.items() if t.graded}
    rows = []
    for a, b in combinations(right, 2):
        pairs = [(right[a][problem], right[b][problem]) for problem in right[a] if problem in right[b]]
        both = fmean(p * q for p, q in pairs) if pairs else math.nan
        neither = fmean((1 - p) * (1 - q) for p, q in pairs) if pairs else math.nan
        rows.append([f"{a}, {b}", str(len(pairs)), *map(percent, (both, 1 - both - neither, neither))])
    header = ["models", "problems", "both right %", "one right %", "both wrong %"]
    return [Table("Agreement of an action of each", header, rows)] if rows else []


def surely_no_gradient(problem: Sequence[Counts], n: int, size: int) -> float:
    """The chance that n actions of each model contain at least ``size`` perfect ones.

    Top-G then keeps perfect actions only, whatever the policy samples: their rewards are equal, and the group has no
    gradient. A group with fewer perfect actions may have none either, so this is a lower bound.

    Args:
        problem: the counts of each of the M models; n of its actions are drawn without replacement (or all of them).
        n: N.
        size: G.
    """
    chances = [1.0]  # of 0, 1, 2, ... perfect actions so far
    for perfect, count in problem:
        drawn = min(n, count)
        own = [comb(perfect, k) * comb(count - perfect, drawn - k) / comb(count, drawn) for k in range(drawn + 1)]
        chances = [
            sum(chances[i] * own[total - i] for i in range(len(chances)) if 0 <= total - i < len(own))
            for total in range(len(chances) + drawn)
        ]
    return sum(chances[size:])


def _no_gradient(evaluations: Mapping[str, Evaluation], samples: int) -> Table:
    """A row for each N and M, a column for each G; M counts the models in the order given."""
    counts: dict[tuple[str, str], dict[str, Counts]] = {}  # problem -> model -> its counts
    for model, evaluation in evaluations.items():
        for action in evaluation.scores:
            if action.reward is not None:
                is_perfect = action.reward.accuracy == 1 and action.reward.format == 1
                of_problem = counts.setdefault((action.split, action.problem_id), {})
                perfect, count = of_problem.get(model, (0, 0))
                of_problem[model] = perfect + is_perfect, count + 1
    rows = []
    for n in sorted({samples, *(2**k for k in range(samples.bit_length()) if 2**k <= samples)}):
        for m in range(1, len(evaluations) + 1):
            models = list(evaluations)[:m]
            problems = [[of[model] for model in models if model in of] for of in counts.values()]
            shares = [fmean(surely_no_gradient(problem, n, size) for problem in problems) for size in SIZES]
            rows.append([str(n), str(m), *map(percent, shares)])
    notes = [
        "at least this share of the groups has no gradient: the external models alone fill the group with perfect "
        "actions (right and well-formed), whatever the policy samples",
        "where the share is large: a larger G, external.models.0.samples=1, selection=contrast or "
        "objective.baseline=pool",
    ]
    header = ["N", "M", *(f"G = {size}, no gradient %" for size in SIZES)]
    return Table("Groups without gradient to expect under top-G", header, rows, notes)
