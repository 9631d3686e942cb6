"""Which G of the candidates the policy learns from: the set T of Algorithm 1, and its controls. Pure.

A rule is a function from candidates and G to the indices it keeps. ``selection.rule`` names one of ``RULES``, or the
import path of one of your own (docs/extending.md).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from ekipl.algorithm.ranges import Count, TopP, Whole
from ekipl.algorithm.schedule import Schedule
from ekipl.algorithm.types import POLICY, Action
from ekipl.importing import Named, imported


@dataclass(frozen=True)
class Candidates:
    """Everything that was offered for one problem.

    Attributes:
        actions: the candidates, graded.
        order: all indices in the order in which ties between equal rewards are broken.
        rng: seeded by (seed, step, problem id), for rules that draw.
        settings: the numbers that some rules take.
    """

    actions: Sequence[Action]
    order: Sequence[int]
    rng: random.Random
    settings: Selection

    @property
    def rewards(self) -> list[float]:
        """The reward of each."""
        return [action.total for action in self.actions]

    @property
    def sources(self) -> list[str]:
        """The source of each, ``policy`` or an external model's name."""
        return [action.source for action in self.actions]

    def best_first(self, keep: Callable[[str], bool] = lambda source: True) -> list[int]:
        """Indices by falling reward, ties in ``order``, of the candidates whose source ``keep`` accepts."""
        return sorted((i for i in self.order if keep(self.actions[i].source)), key=lambda i: -self.actions[i].total)

    def own(self) -> list[int]:
        """The policy's own, best first."""
        return self.best_first(lambda source: source == POLICY)

    @property
    def is_solved(self) -> bool:
        """Whether more of the policy's own actions are right than ``switch``."""
        return sum(self.actions[i].right for i in self.own()) > self.settings.switch

    def external(self, right: bool = False) -> list[int]:
        """The external ones, best first; only the right ones if asked."""
        best_first = self.best_first(lambda source: source != POLICY)
        return [i for i in best_first if self.actions[i].right or not right]


Rule = Callable[[Candidates, int], Iterable[int]]


def top_g(candidates: Candidates, size: int) -> Iterable[int]:
    """The G highest rewards: the paper's rule."""
    return candidates.best_first()[:size]


def random_g(candidates: Candidates, size: int) -> Iterable[int]:
    """G at random, whatever their reward."""
    return candidates.rng.sample(range(len(candidates.actions)), min(size, len(candidates.actions)))


def policy_only(candidates: Candidates, size: int) -> Iterable[int]:
    """The G highest rewards among the policy's own actions."""
    return candidates.own()[:size]


def external_only(candidates: Candidates, size: int) -> Iterable[int]:
    """The G highest rewards among the external actions."""
    return candidates.external()[:size]


def external_right(candidates: Candidates, size: int) -> Iterable[int]:
    """The G highest rewards among the right external actions; maybe none."""
    return candidates.external(right=True)[:size]


def own_and_right(candidates: Candidates, size: int) -> Iterable[int]:
    """The policy's own actions, then right external ones, up to G."""
    return [*candidates.own(), *candidates.external(right=True)][:size]


def beyond(candidates: Candidates, size: int) -> Iterable[int]:
    """The policy's own actions, then the external ones that are better than all of these, up to G."""
    own, actions = candidates.own(), candidates.actions
    bar = max((actions[i].total for i in own), default=float("-inf"))
    return [*own, *(i for i in candidates.external() if actions[i].total > bar)][:size]


def needed(candidates: Candidates, size: int) -> Iterable[int]:
    """The policy's own actions; while too few of these are right, then right external ones, up to G."""
    return [*candidates.own(), *(() if candidates.is_solved else candidates.external(right=True))][:size]


def contrast(candidates: Candidates, size: int) -> Iterable[int]:
    """The G - c highest rewards and the c lowest of those below the best: a gradient while candidates disagree."""
    best_first, actions = candidates.best_first(), candidates.actions
    if len(best_first) <= size:
        return best_first
    below = [i for i in best_first if actions[i].total < actions[best_first[0]].total]
    lowest = below[::-1][: min(candidates.settings.contrast, size - 1)]
    rest = [i for i in best_first if i not in lowest]
    return rest[: size - len(lowest)] + lowest


def hpt(candidates: Candidates, size: int) -> Iterable[int]:
    """The right external actions alone where too few of the policy's own are right, else the own (HPT)."""
    own = candidates.own()
    return (own if candidates.is_solved else candidates.external(right=True) or own)[:size]


def rescue(candidates: Candidates, size: int) -> Iterable[int]:
    """The policy's own actions; where none is right, right external ones in the place of some of them (AMPO)."""
    actions, settings, order = candidates.actions, candidates.settings, candidates.order
    own = [i for i in order if actions[i].source == POLICY]
    if any(actions[i].right for i in own):
        return candidates.own()[:size]
    others = [i for i in order if actions[i].right]
    if settings.rank == "comprehension":
        others.sort(key=lambda i: -actions[i].comprehension)
    helpers = others[: settings.rescue]
    return own[: size - len(helpers)] + helpers


RULES: dict[str, Rule] = {
    "top_g": top_g,
    "random_g": random_g,
    "policy_only": policy_only,
    "external_only": external_only,
    "external_right": external_right,
    "own_and_right": own_and_right,
    "beyond": beyond,
    "needed": needed,
    "contrast": contrast,
    "hpt": hpt,
    "rescue": rescue,
}


@dataclass(frozen=True)
class Selection:
    """How G actions are chosen from the candidates. An action is right if its accuracy is 1, whatever its format.

    Attributes:
        rule: ``top_g`` keeps the G highest rewards (the paper); ``random_g`` ignores rewards; ``policy_only``,
            ``external_only`` and ``external_right`` are ``top_g`` among one kind of action; ``own_and_right`` keeps the
            own and then right external ones; ``beyond`` the own and then external ones better than every own;
            ``needed`` the own and, while at most ``switch`` of them are right, then right external ones;
            ``contrast`` the G - c highest and the c lowest of those below the best; ``hpt`` the own, or where at most
            ``switch`` of them are right the right external ones instead; ``rescue`` the own, or where none of them is
            right up to ``rescue`` right external ones in the place of as many own ones, at random; or an import path.
        ties: which source goes first among equal rewards: ``random``, ``policy_first`` or ``external_first``. Rewards
            take two or three values, so ties decide how many external actions are kept.
        contrast: c of ``contrast``, less than G.
        switch: of ``hpt`` and ``needed``: own right actions up to which a problem counts as unsolved.
        rescue: of ``rescue``: right external actions at most, less than G.
        rank: which of them go first: ``comprehension``, those after whose reasoning the policy finds their answer most
            likely (mean probability of its tokens under pi_old), or ``random``.
        gate: an external action with a token less likely than this under pi_old is no candidate at this step; null: all
            are.
        external_share: share of the external actions that are candidates, drawn anew at each step (S2L-PO anneals it
            to 0); all are asked for nevertheless; null: all.
    """

    rule: Annotated[str, Named(RULES)] = "top_g"
    ties: Literal["random", "policy_first", "external_first"] = "random"
    contrast: Count = 4
    switch: Whole = 0
    rescue: Count = 2
    rank: Literal["comprehension", "random"] = "comprehension"
    gate: TopP | None = None
    external_share: Schedule | None = None

    @property
    def needs_likelihoods(self) -> bool:
        """Whether external actions need their log-probabilities under pi_old before the choice."""
        return self.gate is not None or (self.rule == "rescue" and self.rank == "comprehension")

    def within_reach(self, action: Action) -> bool:
        """Whether the gate lets the action pass; the policy's own always do."""
        return self.gate is None or action.source == POLICY or action.reach >= self.gate

    def share(self, actions: Sequence[Action], step: int, rng: random.Random) -> Sequence[Action]:
        """The actions without the external ones that the share of this step leaves out."""
        if self.external_share is None:
            return actions
        external = [i for i, action in enumerate(actions) if action.source != POLICY]
        wanted = int(self.external_share.at(step) * len(external) + rng.random())  # on average exactly the share
        out = set(external) - set(rng.sample(external, min(wanted, len(external))))
        return [action for i, action in enumerate(actions) if i not in out]

    def keep(self, actions: Sequence[Action], size: int, rng: random.Random) -> tuple[int, ...]:
        """Indices of the kept candidates, ascending.

        Args:
            actions: all candidates, graded.
            size: G.
            rng: decides ties (and ``random_g``); seed it by (seed, step, problem id).
        """
        order = list(range(len(actions)))
        rng.shuffle(order)
        if self.ties != "random":
            order.sort(key=lambda i: (actions[i].source == POLICY) != (self.ties == "policy_first"))
        rule = RULES.get(self.rule) or imported("selection.rule", self.rule)
        return tuple(sorted(rule(Candidates(actions, order, rng, self), size)))
