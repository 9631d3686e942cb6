"""Asks the external models for coming steps while the policy samples and learns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from ekipl.algorithm.seams import ExternalPool, ExternalSamples
from ekipl.algorithm.types import Problem

Asked = tuple[list[str], list[ExternalSamples]]  # ids of a step's problems, and the answers


class Prefetch:
    """Implements ``ExternalPool`` by a pool that is asked ``ahead`` steps before its answers are needed.

    It asks for the steps in the order that Algorithm 1 is given, so whoever chooses the order chooses it once.
    """

    def __init__(
        self, pool: ExternalPool, problems: Sequence[Problem], order: Iterable[Sequence[int]], n: int, ahead: int
    ) -> None:
        """Begins to ask at once.

        Args:
            pool: safe to be asked from several threads.
            problems: of training.
            order: the indices of each step's problems, as ``train`` gets them.
            n: N, actions a problem of each model.
            ahead: steps, at least 1.
        """
        self.names = pool.names
        self._pool, self._problems, self._n, self._ahead = pool, problems, n, ahead
        self._coming = iter(order)
        self._opener = ThreadPoolExecutor(1, "ekipl-prefetch-images")  # one, so that steps are asked for in their order
        self._threads = ThreadPoolExecutor(ahead, "ekipl-prefetch")
        self._asked: deque[Future[Future[Asked]]] = deque()
        self._is_closed = False
        self._ask_ahead()

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """The answers for the next step, once they are there; what was raised for it is raised now."""
        next_step = self._asked.popleft() if self._asked else None
        self._ask_ahead()
        if next_step is None or n != self._n:
            raise ValueError(f"{n} samples were not foreseen here")
        ids, answers = next_step.result().result()
        if ids != [problem.id for problem in problems]:
            raise ValueError(f"expected problems {ids}")
        return answers

    def close(self) -> None:
        """Ends what is under way, and closes the pool. Closing twice is fine."""
        self._is_closed = True
        self._opener.shutdown(cancel_futures=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()
        self._threads.shutdown()

    def _ask_ahead(self) -> None:
        for rows in islice(self._coming, self._ahead - len(self._asked)):
            self._asked.append(self._opener.submit(self._open, rows))

    def _open(self, rows: Sequence[int]) -> Future[Asked]:
        """Reads a step's images, not in the training thread, and begins to ask."""
        return self._threads.submit(self._ask, [self._problems[row] for row in rows])

    def _ask(self, problems: Sequence[Problem]) -> Asked:
        if self._is_closed:
            raise RuntimeError("closed")
        return [problem.id for problem in problems], self._pool.sample(problems, self._n)
