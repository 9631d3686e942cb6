"""Which groups the external models alone make dead: what one should know before choosing N, M and G."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from statistics import fmean

from ekipl.report.evaluate import Evaluation
from ekipl.report.tables import Table, percent

SIZES = (4, 8, 16, 32)  # G

Counts = tuple[int, int]  # of one model for one problem: perfect actions, and actions


def surely_dead(problem: Sequence[Counts], n: int, size: int) -> float:
    """The chance that n actions of each model hold ``size`` perfect ones, or more.

    Top-G then keeps perfect actions only, whatever the policy samples: equal rewards, no gradient. With fewer the
    group may still be dead, so this is a lower bound.

    Args:
        problem: an entry for each of the M models; of its actions n are drawn without putting back (or all there are).
        n: N.
        size: G.
    """
    chances = [1.0]  # of 0, 1, 2, ... perfect ones so far
    for perfect, count in problem:
        drawn = min(n, count)
        own = [comb(perfect, k) * comb(count - perfect, drawn - k) / comb(count, drawn) for k in range(drawn + 1)]
        chances = [
            sum(chances[i] * own[total - i] for i in range(len(chances)) if 0 <= total - i < len(own))
            for total in range(len(chances) + drawn)
        ]
    return sum(chances[size:])


def dead_table(evaluations: Mapping[str, Evaluation], samples: int) -> Table:
    """A row for each N and M, a column for each G; M counts the models in the order given."""
    counts: dict[tuple[str, str], dict[str, Counts]] = {}  # problem -> model -> its counts
    for model, evaluation in evaluations.items():
        for score in evaluation.scores:
            if score.reward is not None:
                is_perfect = score.reward.accuracy == 1 and score.reward.format == 1
                of_problem = counts.setdefault((score.split, score.problem_id), {})
                perfect, count = of_problem.get(model, (0, 0))
                of_problem[model] = perfect + is_perfect, count + 1
    rows = []
    for n in sorted({samples, *(2**k for k in range(samples.bit_length()) if 2**k <= samples)}):
        for m in range(1, len(evaluations) + 1):
            models = list(evaluations)[:m]
            problems = [[of[model] for model in models if model in of] for of in counts.values()]
            shares = [fmean(surely_dead(problem, n, size) for problem in problems) for size in SIZES]
            rows.append([str(n), str(m), *map(percent, shares)])
    notes = [
        "at least so many groups are dead: the external models alone fill the group with perfect actions "
        "(right and well-formed), whatever the policy samples",
        "where that is many: a larger G, external.models.0.samples=1, selection=contrast or objective.baseline=pool",
    ]
    header = ["N", "M", *(f"G = {size}, dead %" for size in SIZES)]
    return Table("Dead groups to expect under top-G", header, rows, notes)
