"""Algorithm 1 of Vision-EKIPL (arXiv 2506.06856). GRPO is the same loop without external models (M = 0)."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count

from ekipl.algorithm.advantages import advantages, mixed
from ekipl.algorithm.grading import grade_all
from ekipl.algorithm.objective import Objective
from ekipl.algorithm.ranges import Count, Whole
from ekipl.algorithm.seams import Engine, ExternalPool, ExternalSamples, Grader, Sampler
from ekipl.algorithm.selection import Selection
from ekipl.algorithm.types import POLICY, Action, Group, Problem, Reward

SEED_STRIDE = 1_000_003  # so that no two (seed, step) of ordinary runs sample alike


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The paper's symbols, and what else decides how a run learns.

    Attributes:
        N: actions that each source samples per problem.
        policy_samples: of these, the policy's own; null: N; 0: none, it learns from the others alone (supervised).
        G: actions kept per problem, of the N (M + 1) candidates; with fewer candidates, all of them.
        I: outer iterations; each begins by refreshing the reference: pi_ref <- pi_theta.
        B: steps an iteration; null: as many as ``epochs`` says.
        mu: updates a batch.
        problems_per_step: problems in the batch of one step, over all ranks; at least one for each rank.
        seed: of data order, sampling and ties.
        selection: which G of the candidates are kept.
        objective: Eqs. 1 to 3.
    """

    N: Count
    policy_samples: Whole | None = None
    G: Count
    I: Count = 1  # noqa: E741 - the paper's symbol
    B: Count | None
    mu: Count = 1
    problems_per_step: Count
    seed: Whole = 0
    selection: Selection = field(default_factory=Selection)
    objective: Objective = field(default_factory=Objective)

    @property
    def steps_per_iteration(self) -> int:
        """B, once it is known."""
        assert self.B is not None
        return self.B

    @property
    def steps(self) -> int:
        """I x B: all steps of the run."""
        return self.I * self.steps_per_iteration


@dataclass(frozen=True)
class Step:
    """The result of one step; ``number`` counts from 1 over all iterations, ``seconds`` are by phase."""

    number: int
    groups: tuple[Group, ...]
    update: dict[str, float]
    seconds: dict[str, float]


def train(
    batches: Iterable[Sequence[Problem]],
    grade: Grader,
    policy: Sampler,
    external: ExternalPool,
    engine: Engine,
    h: Hyperparameters,
    after_step: Callable[[Step], None],
    first_step: int = 0,
) -> None:
    """Run Algorithm 1.

    Args:
        batches: for each step from ``first_step`` on, its problems in ``data_order``, or a rank's share of them.
        grade: R(o).
        policy: samples from pi_theta.
        external: samples from the M external models.
        engine: updates pi_theta.
        h: the paper's symbols.
        after_step: called with the result of each step.
        first_step: 0-based, of I x B; a resumed run begins later.
    """
    coming = iter(batches)
    for number in count(first_step):
        clock = Clock()
        with clock("data"):
            batch = next(coming, None)
        if batch is None:
            return
        if number % h.steps_per_iteration == 0:
            engine.refresh_reference()
        groups = choose(batch, grade, policy, external, engine, h, number, clock)
        with clock("prepare"):
            prepared = engine.prepare(sorted(groups, key=longest))  # micro-batches of like lengths need little padding
        with clock("update"):
            for _ in range(h.mu):
                update = engine.update(prepared)
            policy.load_weights(engine)
        after_step(Step(number + 1, groups, update, clock.seconds))


def choose(
    problems: Sequence[Problem],
    grade: Grader,
    policy: Sampler,
    external: ExternalPool,
    engine: Engine,
    h: Hyperparameters,
    step: int,
    clock: Clock,
) -> tuple[Group, ...]:
    """For each problem: sample O (Eqs. 4, 5), grade it (Eq. 6), keep the G best, and give them advantages (Eq. 1)."""
    with clock("policy"):
        n = h.N if h.policy_samples is None else h.policy_samples
        own = policy.sample(problems, n, seed=h.seed * SEED_STRIDE + step) if n else [[] for _ in problems]
    with clock("external"):
        others = external.sample(problems, h.N)
    with clock("score"):
        offers = candidates(problems, own, others, grade, policy)
    if h.selection.needs_likelihoods:
        with clock("prepare"):
            offers = engine.likelihoods(offers)
    with clock("score"):
        return tuple(group(offer, h, step) for offer in offers)


def candidates(
    problems: Sequence[Problem],
    own: Sequence[Sequence[Action]],
    others: Sequence[ExternalSamples],
    grade: Grader,
    policy: Sampler,
) -> list[Group]:
    """O of each problem: the graded actions that the policy can learn from, and the number of the others by reason.

    All are graded together. No reward is known of an action whose grading failed, least of all 0: it is no candidate.
    """
    encoded = [
        [policy.encode(action) for action in (*actions, *answer.actions)]
        for actions, answer in zip(own, others, strict=True)
    ]
    learnable = [[action for action in actions if isinstance(action, Action)] for actions in encoded]
    asked = [(problem, action.text) for problem, found in zip(problems, learnable, strict=True) for action in found]
    rewards = iter(grade_all(grade, asked))
    offers = []
    for problem, actions, found, answer in zip(problems, encoded, learnable, others, strict=True):
        refused = Counter(answer.failed)
        refused.update(reason for reason in actions if isinstance(reason, str))
        graded = [(action, next(rewards)) for action in found]
        offered = tuple(action.with_reward(reward) for action, reward in graded if isinstance(reward, Reward))
        if len(offered) < len(graded):
            refused["ungraded"] += len(graded) - len(offered)
        offers.append(Group(problem, offered, (), (), dict(refused)))
    return offers


def group(offer: Group, h: Hyperparameters, step: int) -> Group:
    """T: keep G of the candidates and give them advantages."""
    rng = random.Random(f"{h.seed}/{step}/{offer.problem.id}")
    near = [action for action in offer.offered if h.selection.within_reach(action)]
    offered = h.selection.share(near, step, rng)
    rewards = [action.total for action in offered]
    sources = [action.source for action in offered]
    kept = h.selection.keep(offered, h.G, rng)
    own = [sources[i] == POLICY for i in kept]
    gains = advantages(h.objective, [rewards[i] for i in kept], rewards, own)
    if h.objective.external_mix is not None:
        gains = mixed(gains, own, h.objective.external_mix.at(step))
    if h.objective.below_baseline == "drop":
        pairs = [(i, a) for i, a in zip(kept, gains, strict=True) if a >= 0 or sources[i] == POLICY]
        kept, gains = tuple(i for i, _ in pairs), tuple(a for _, a in pairs)
    waiting = None if h.selection.gate is None else len(offer.offered) - len(near)
    return replace(offer, offered=tuple(offered), kept=kept, advantages=gains, waiting=waiting)


def longest(group: Group) -> int:
    """Tokens of the longest kept action."""
    return max((len(action.tokens or ()) for action in group.actions), default=0)


def data_order(
    size: int, h: Hyperparameters, first_step: int = 0, place: int | None = None, gone: Collection[int] = ()
) -> Iterator[list[int]]:
    """The problems of each step from ``first_step`` to the last, as indices below ``size``.

    Args:
        size: number of training problems.
        h: its seed, number of steps and problems per step.
        first_step: 0-based.
        place: of the first problem in the stream of ``rows_from``; None: where it is if no row was ever skipped.
        gone: indices that are skipped.
    """
    rows = rows_from(size, h.seed, first_step * h.problems_per_step if place is None else place)
    stream = (row for row in rows if row not in gone)
    for _ in range(first_step, h.steps):
        yield [next(stream) for _ in range(h.problems_per_step)]


def rows_from(size: int, seed: int, place: int = 0) -> Iterator[int]:
    """The endless stream of indices below ``size`` from ``place`` on.

    Every epoch is a new seeded permutation, and a batch may span two epochs, so no problem is left out between them.
    """
    epoch, start = divmod(place, size)
    while True:
        order = list(range(size))
        random.Random(f"{seed}/epoch/{epoch}").shuffle(order)
        yield from order[start:]
        epoch, start = epoch + 1, 0


class Clock:
    """``with clock("update"): ...`` adds to ``clock.seconds["update"]``; wall-clock time unless ``now`` is another."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = self.now()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + self.now() - start
