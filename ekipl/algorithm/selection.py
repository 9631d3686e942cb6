"""Which G of the candidates the policy learns from: the set T of Algorithm 1, and its controls. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ekipl.algorithm.types import POLICY

Rule = Literal["top_g", "contrast", "random_g", "policy_only", "external_only"]
Ties = Literal["random", "policy_first", "external_first"]


@dataclass(frozen=True)
class Selection:
    """A selection rule.

    Attributes:
        rule: ``top_g`` keeps the G highest rewards (the paper). ``contrast`` keeps the top G - c and the c lowest that
            lie below the best, so no group is dead while its candidates disagree. ``random_g`` ignores rewards;
            ``policy_only`` and ``external_only`` are ``top_g`` among one kind of source.
        contrast: c, at least 1 and less than G; used by ``contrast`` alone.
        ties: who goes first among equal rewards. Rewards take two or three values, so ties decide the provenance.
    """

    rule: Rule = "top_g"
    contrast: int = 1
    ties: Ties = "random"

    def keep(self, rewards: Sequence[float], sources: Sequence[str], size: int, rng: random.Random) -> tuple[int, ...]:
        """Indices of the kept candidates, ascending; all of the eligible ones when there are fewer than ``size``.

        Args:
            rewards: R(o) of each candidate.
            sources: ``policy`` or an external model's name, of each candidate.
            size: G.
            rng: decides ties (and ``random_g``); seed it by (seed, step, problem id).
        """
        order = self._shuffled(sources, rng)
        if self.rule == "random_g":
            return tuple(sorted(rng.sample(range(len(rewards)), min(size, len(rewards)))))
        if self.rule == "policy_only":
            order = [i for i in order if sources[i] == POLICY]
        if self.rule == "external_only":
            order = [i for i in order if sources[i] != POLICY]
        best_first = sorted(order, key=lambda i: -rewards[i])  # stable: ties keep the order above
        if self.rule != "contrast" or len(best_first) <= size:
            return tuple(sorted(best_first[:size]))
        below = [i for i in best_first if rewards[i] < rewards[best_first[0]]]
        lowest = below[::-1][: min(self.contrast, size - 1)]
        rest = [i for i in best_first if i not in lowest]
        return tuple(sorted(rest[: size - len(lowest)] + lowest))

    def _shuffled(self, sources: Sequence[str], rng: random.Random) -> list[int]:
        """All indices in the order in which ties are broken."""
        order = list(range(len(sources)))
        rng.shuffle(order)
        if self.ties != "random":
            first_is_policy = self.ties == "policy_first"
            order.sort(key=lambda i: (sources[i] == POLICY) != first_is_policy)
        return order
