"""The four claims of the paper, each judged by a rule on an interval."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.paper.cells import GRPO, JUDGED, MATCHED
from benchmarks.paper.intervals import NOTHING, verdict
from benchmarks.paper.tables import Runs, difference, first_and_last, ks, passed_difference, share_needed
from ekipl.report.stats import Estimate
from ekipl.report.tables import Table, points

SEEDS = 3
RULES = (
    "faster: samples (own and external), or steps, until the mean ID accuracy first reaches the other's final one, as "
    "a share of what the other needs for it; the claim is below 100 %",
    "better OOD: difference of OOD accuracy after training; the claim is above 0",
    "falling external share: share of the kept actions that are external, last fifth of the steps - first fifth; the "
    "claim is below 0",
    "higher pass@k: difference over the problems of all splits, at half the samples drawn, where the estimate is less "
    "noisy than at all of them; the claim is above 0",
    f"a verdict needs {SEEDS} seeds of both methods",
    "reproduced: the whole 95 % interval is on the side of the claim; not reproduced: the whole interval is on the "
    "other side; undecided: neither, too few seeds, or no interval",
)


class Judged(NamedTuple):
    """One row: ``shown`` is the estimate in words, ``against`` the method that it is compared with."""

    task: str
    method: str
    claim: str
    against: str
    shown: str
    verdict: str


def judge(runs: Runs) -> Iterator[Judged]:
    """The claims for each judged method that has cells."""
    for method in (m for m in JUDGED if m in runs.methods):
        others = [other for other in (GRPO, MATCHED) if other in runs.methods and runs.seeds(method, other)]
        for other in others:
            for unit in ("samples", "steps"):
                share = share_needed(runs, method, other, unit)
                said = _verdict(runs, share, 1.0, False, method, other)
                yield Judged(runs.task, method, f"faster in {unit}", other, needed_share(share), said)
        for other in others:
            found = difference(runs, method, other, "ood", "accuracy")
            said = _verdict(runs, found, 0.0, True, method, other)
            yield Judged(runs.task, method, "better OOD", other, points(found), said)
        *_, fall = first_and_last(runs, method, "external_kept")
        shown, said = points(fall), _verdict(runs, fall, 0.0, False, method)
        yield Judged(runs.task, method, "falling external share", "its own start", shown, said)
        k = max(1, ks(runs)[-1] // 2)
        for other in (o for o in (GRPO, "base") if o in runs.methods and runs.seeds(method, o)):
            found = passed_difference(runs, method, other, k)
            name = f"higher pass@{k}"
            yield Judged(runs.task, method, name, other, points(found), _verdict(runs, found, 0.0, True, method, other))


def _verdict(runs: Runs, estimate: Estimate, border: float, above: bool, *methods: str) -> str:
    return verdict(estimate if len(runs.seeds(*methods)) >= SEEDS else NOTHING, border, above)


def needed_share(estimate: Estimate) -> str:
    """A share of samples in percent: ``43 % (40 % to not reached)``."""

    def text(value: float) -> str:
        return "not reached" if math.isinf(value) else "-" if math.isnan(value) else f"{100 * value:.0f} %"

    mean, low, high = map(text, estimate)
    return mean if low == "-" or low == high == mean else f"{mean} ({low} to {high})"


def claims_table(judged: list[Judged]) -> Table:
    """All claims of all tasks."""
    header = ["task", "method", "claim", "against", "estimate (points, or a share)", "verdict"]
    return Table("The claims of the paper", header, [list(row) for row in judged], RULES)
