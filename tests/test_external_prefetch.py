"""Coming steps are asked for ahead, in data order and bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from ekipl.algorithm.loop import Hyperparameters, data_order
from ekipl.algorithm.seams import Decoding, ExternalSamples
from ekipl.algorithm.types import Action, Problem
from ekipl.errors import UsageError
from ekipl.external.pool import LiteLLMPool
from ekipl.external.prefetch import Prefetch
from ekipl.external.settings import ExternalModel
from tests.openai_server import OpenAIServer, Reply
from tests.test_external import problem


class Recorder:
    """A pool that remembers what it was asked."""

    names = ("slow",)

    def __init__(self, broken: str | None = None) -> None:
        self.broken = broken
        self.asked: list[list[str]] = []
        self.closed = False

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        ids = [problem.id for problem in problems]
        self.asked.append(ids)
        if self.broken in ids:
            raise UsageError("broken")
        return [ExternalSamples((Action(name, "slow", n, name, "stop"),)) for name in ids]

    def close(self) -> None:
        self.closed = True


ROWS = [problem(f"p{i}", images=0) for i in range(7)]
PLAN = Hyperparameters(N=3, G=2, I=2, B=4, mu=1, problems_per_step=3, seed=5)


def order(first_step: int = 0, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    """The problems of a rank, step by step."""
    return [rows[rank::world_size] for rows in data_order(len(ROWS), PLAN, first_step)]


def batches(order: list[list[int]]) -> list[list[Problem]]:
    return [[ROWS[row] for row in rows] for rows in order]


@pytest.mark.parametrize("first_step", [0, 5])
@pytest.mark.parametrize("ahead", [1, 2, 50])
@pytest.mark.parametrize("rank", [0, 1])
def test_prefetch_answers_as_the_pool_does_in_data_order_and_bounded(first_step: int, ahead: int, rank: int) -> None:
    pool, mine = Recorder(), order(first_step, rank, 2)
    prefetch = Prefetch(pool, ROWS, mine, PLAN.N, ahead)
    assert prefetch.names == ("slow",)
    wanted = batches(mine)
    for number, problems in enumerate(wanted, start=1):
        assert prefetch.sample(problems, 3) == Recorder().sample(problems, 3)
        assert len(pool.asked) <= number + ahead
    assert sorted(pool.asked) == sorted([[p.id for p in problems] for problems in wanted])
    if ahead == 1:
        assert pool.asked == [[p.id for p in problems] for problems in wanted]
    prefetch.close()
    prefetch.close()
    assert pool.closed


def test_an_error_is_raised_at_the_step_it_belongs_to() -> None:
    wanted = batches(order())
    broken = wanted[2][0].id
    first = next(number for number, problems in enumerate(wanted) if broken in [p.id for p in problems])
    prefetch = Prefetch(Recorder(broken=broken), ROWS, order(), PLAN.N, 3)
    for problems in wanted[:first]:
        prefetch.sample(problems, 3)
    with pytest.raises(UsageError, match="broken"):
        prefetch.sample(wanted[first], 3)
    prefetch.close()


def test_another_order_than_announced_is_a_bug_that_is_told() -> None:
    prefetch = Prefetch(Recorder(), ROWS, order(), PLAN.N, 1)
    with pytest.raises(ValueError, match="expected problems"):
        prefetch.sample(batches(order())[1], 3)
    with pytest.raises(ValueError, match="4 samples were not foreseen"):
        prefetch.sample(batches(order())[1], 4)
    prefetch.close()


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_closing_ends_prefetched_calls_at_once() -> None:
    before = set(threading.enumerate())
    with OpenAIServer(lambda _: Reply("late", delay_s=40)) as server:
        pool = LiteLLMPool([ExternalModel("a", "openai/a", api_base=server.url)], Decoding(), 60)
        prefetch = Prefetch(pool, ROWS, order(), PLAN.N, 2)
        while not server.requests:
            time.sleep(0.01)
        prefetch.close()
        server.settle()
        assert not server.finished
    assert not [t for t in threading.enumerate() if t.name.startswith("ekipl") and t not in before]
