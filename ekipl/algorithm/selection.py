"""Which G of the candidates the policy learns from: the set T of Algorithm 1, and its controls. Pure.

A rule is a function from candidates and G to the indices it keeps. ``selection.rule`` names one of ``RULES``, or the
import path of one of your own (docs/extending.md).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from ekipl.algorithm.ranges import Count
from ekipl.algorithm.types import POLICY
from ekipl.importing import Named, imported

Ties = Literal["random", "policy_first", "external_first"]


@dataclass(frozen=True)
class Candidates:
    """Everything that was offered for one problem.

    Attributes:
        rewards: of each candidate.
        sources: of each, ``policy`` or an external model's name.
        order: all indices in the order in which ties between equal rewards are broken.
        rng: seeded by (seed, step, problem id), for rules that draw.
    """

    rewards: Sequence[float]
    sources: Sequence[str]
    order: Sequence[int]
    rng: random.Random

    def best_first(self, keep: Callable[[str], bool] = lambda source: True) -> list[int]:
        """Indices by falling reward, ties in ``order``, of the candidates whose source ``keep`` accepts."""
        return sorted((i for i in self.order if keep(self.sources[i])), key=lambda i: -self.rewards[i])


Rule = Callable[[Candidates, int], Iterable[int]]


def top_g(candidates: Candidates, size: int) -> Iterable[int]:
    """The G highest rewards: the paper's rule."""
    return candidates.best_first()[:size]


def random_g(candidates: Candidates, size: int) -> Iterable[int]:
    """G at random, whatever their reward."""
    return candidates.rng.sample(range(len(candidates.rewards)), min(size, len(candidates.rewards)))


def policy_only(candidates: Candidates, size: int) -> Iterable[int]:
    """The G highest rewards among the policy's own actions."""
    return candidates.best_first(lambda source: source == POLICY)[:size]


def external_only(candidates: Candidates, size: int) -> Iterable[int]:
    """The G highest rewards among the external actions."""
    return candidates.best_first(lambda source: source != POLICY)[:size]


RULES: dict[str, Rule] = {
    "top_g": top_g,
    "random_g": random_g,
    "policy_only": policy_only,
    "external_only": external_only,
}


@dataclass(frozen=True)
class Selection:
    """How G actions are chosen from the candidates.

    Attributes:
        rule: ``top_g`` keeps the G highest rewards (the paper); ``random_g`` ignores rewards; ``policy_only`` and
            ``external_only`` are ``top_g`` among one kind of source; or an import path.
        ties: which source goes first among equal rewards: ``random``, ``policy_first`` or ``external_first``. Rewards
            take two or three values, so ties decide how many external actions are kept.
    """

    rule: Annotated[str, Named(RULES)] = "top_g"
    ties: Ties = "random"

    def keep(self, rewards: Sequence[float], sources: Sequence[str], size: int, rng: random.Random) -> tuple[int, ...]:
        """Indices of the kept candidates, ascending; all of them when there are at most ``size``.

        Args:
            rewards: of all candidates.
            sources: of all candidates.
            size: G.
            rng: decides ties (and ``random_g``); seed it by (seed, step, problem id).
        """
        rule = RULES.get(self.rule) or imported("selection.rule", self.rule)
        return tuple(sorted(rule(_candidates(rewards, sources, self.ties, rng), size)))


@dataclass(frozen=True)
class Contrast:
    """Keeps some of the worst beside the best, so that a group has a gradient while its candidates disagree.

    Attributes:
        rule: ``contrast`` keeps the G - c highest rewards and the c lowest of those below the best.
        contrast: c, at least 1 and less than G.
        ties: which source goes first among equal rewards: ``random``, ``policy_first`` or ``external_first``.
    """

    rule: Literal["contrast"] = "contrast"
    contrast: Count = 1
    ties: Ties = "random"

    def keep(self, rewards: Sequence[float], sources: Sequence[str], size: int, rng: random.Random) -> tuple[int, ...]:
        """Like ``Selection.keep``."""
        best_first = _candidates(rewards, sources, self.ties, rng).best_first()
        if len(best_first) <= size:
            return tuple(sorted(best_first))
        below = [i for i in best_first if rewards[i] < rewards[best_first[0]]]
        lowest = below[::-1][: min(self.contrast, size - 1)]
        rest = [i for i in best_first if i not in lowest]
        return tuple(sorted(rest[: size - len(lowest)] + lowest))


def _candidates(rewards: Sequence[float], sources: Sequence[str], ties: Ties, rng: random.Random) -> Candidates:
    order = list(range(len(sources)))
    rng.shuffle(order)
    if ties != "random":
        order.sort(key=lambda i: (sources[i] == POLICY) != (ties == "policy_first"))
    return Candidates(rewards, sources, order, rng)
