"""Algorithm 1 of Vision-EKIPL (arXiv 2506.06856). GRPO is the same loop without external models (M = 0)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ekipl.algorithm.advantages import AdvantageRule
from ekipl.algorithm.seams import Engine, ExternalPool, ExternalSamples, Grader, Sampler
from ekipl.algorithm.selection import Selection
from ekipl.algorithm.timing import Clock
from ekipl.algorithm.types import POLICY, Action, Group, Problem
from ekipl.errors import GraderError

SEED_STRIDE = 1_000_003  # so that no two (seed, step) of ordinary runs sample alike


@dataclass(frozen=True)
class Hyperparameters:
    """The paper's symbols.

    Attributes:
        N: actions a source samples per problem.
        own: actions of the policy itself; None is N, and 0 learns from the others alone (supervised methods).
        G: actions kept per problem, of N from the policy and N from each external model.
        I: outer iterations; each begins with pi_ref <- pi_theta.
        B: steps an iteration.
        mu: updates a batch.
        problems_per_step: problems in a batch.
        seed: of data order, sampling and ties.
        selection: which G are kept.
        baseline: Eq. 1.
        drop_below_baseline: leave out external actions whose advantage is negative.
        rank: of this process among ``processes`` that share each batch; it takes every ``processes``-th problem.
        processes: how many share a batch.
    """

    N: int
    G: int
    I: int  # noqa: E741 - the paper's symbol
    B: int
    mu: int
    problems_per_step: int
    seed: int = 0
    selection: Selection = field(default_factory=Selection)
    baseline: AdvantageRule = field(default_factory=AdvantageRule)
    drop_below_baseline: bool = False
    rank: int = 0
    processes: int = 1
    own: int | None = None


@dataclass(frozen=True)
class Step:
    """What happened in one step; ``number`` counts from 1 over all iterations."""

    number: int
    groups: tuple[Group, ...]
    update: dict[str, float]
    seconds: dict[str, float]


def train(
    problems: Sequence[Problem],
    grade: Grader,
    policy: Sampler,
    external: ExternalPool,
    engine: Engine,
    plan: Hyperparameters,
    after_step: Callable[[Step], None],
    first_step: int = 0,
) -> None:
    """Run Algorithm 1, from ``first_step`` (0-based, of I x B) on."""
    batches = data_order(len(problems), plan.problems_per_step, plan.seed, first_step)
    for number in range(first_step, plan.I * plan.B):
        if number % plan.B == 0:
            engine.refresh_reference()
        clock = Clock()
        with clock("data"):
            batch = [problems[i] for i in next(batches)[plan.rank :: plan.processes]]
        groups = tuple(choose(batch, grade, policy, external, plan, number, clock))
        with clock("prepare"):
            prepared = engine.prepare(sorted(groups, key=longest))  # alike in length, a micro-batch has little padding
        with clock("update"):
            for _ in range(plan.mu):
                update = engine.update(prepared)
            policy.load_weights(engine)
        after_step(Step(number + 1, groups, update, clock.seconds))


def choose(
    problems: Sequence[Problem],
    grade: Grader,
    policy: Sampler,
    external: ExternalPool,
    plan: Hyperparameters,
    step: int,
    clock: Clock,
) -> Iterator[Group]:
    """For each problem: sample O (Eqs. 4, 5), score it (Eq. 6), keep the G best, and give them advantages (Eq. 1)."""
    with clock("policy"):
        number = plan.N if plan.own is None else plan.own
        own = policy.sample(problems, number, seed=plan.seed * SEED_STRIDE + step) if number else [[] for _ in problems]
    with clock("external"):
        others = external.sample(problems, plan.N)
    with clock("score"):
        for problem, actions, answer in zip(problems, own, others, strict=True):
            offered, refused = candidates(problem, actions, answer, grade, policy)
            rng = random.Random(f"{plan.seed}/{step}/{problem.id}")
            yield group(problem, offered, refused, plan, rng)


def candidates(
    problem: Problem, own: Sequence[Action], answer: ExternalSamples, grade: Grader, policy: Sampler
) -> tuple[list[Action], Counter[str]]:
    """The scored actions of O that the policy can learn from, and why the others cannot take part."""
    offered: list[Action] = []
    refused: Counter[str] = Counter(answer.failed)
    for action in (*own, *answer.actions):
        encoded = policy.encode(action)
        if isinstance(encoded, str):
            refused[encoded] += 1
            continue
        try:
            offered.append(encoded.with_reward(grade(problem, action.text)))
        except GraderError:  # no reward is known, least of all 0
            refused["ungraded"] += 1
    return offered, refused


def longest(group: Group) -> int:
    """Tokens of the longest kept action."""
    return max((len(action.tokens or ()) for action in group.actions), default=0)


def group(
    problem: Problem, offered: Sequence[Action], refused: Counter[str], plan: Hyperparameters, rng: random.Random
) -> Group:
    """Keep G of the offered actions and give them advantages."""
    rewards = [action.total for action in offered]
    sources = [action.source for action in offered]
    kept = plan.selection.keep(rewards, sources, plan.G, rng)
    advantages = plan.baseline.advantages([rewards[i] for i in kept], rewards)
    if plan.drop_below_baseline:
        pairs = [(i, a) for i, a in zip(kept, advantages, strict=True) if a >= 0 or sources[i] == POLICY]
        kept, advantages = tuple(i for i, _ in pairs), tuple(a for _, a in pairs)
    return Group(problem, tuple(offered), kept, advantages, dict(refused))


def data_order(size: int, per_step: int, seed: int, first_step: int = 0) -> Iterator[list[int]]:
    """Endless batches of row numbers: every epoch is a new seeded permutation, and no row is left out between two."""

    def rows() -> Iterator[int]:
        epoch, start = divmod(first_step * per_step, size)
        while True:
            order = list(range(size))
            random.Random(f"{seed}/epoch/{epoch}").shuffle(order)
            yield from order[start:]
            epoch, start = epoch + 1, 0

    stream = rows()
    while True:
        yield [next(stream) for _ in range(per_step)]
