"""Requests the external actions of coming steps while the policy samples and learns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice

from ekipl.algorithm.seams import ExternalPool, ExternalSamples
from ekipl.algorithm.types import Problem
from ekipl.errors import BadRow

Answered = tuple[dict[str, ExternalSamples], bool]  # by the ids of a step's problems; whether all could be read


class Prefetch:
    """Implements ``ExternalPool`` by requesting the samples of ``ahead`` steps from another pool in advance.

    The steps come in the order that Algorithm 1 gets, so whoever chooses the order chooses it once.
    """

    def __init__(
        self, pool: ExternalPool, problems: Sequence[Problem], order: Iterable[Sequence[int]], n: int, ahead: int
    ) -> None:
        """Send the first requests at once.

        ``pool`` is called from several threads, ``order`` has the indices of each step's problems as ``train`` gets
        them, ``n`` is N, and ``ahead`` is at least 1 step.
        """
        self.names = pool.names
        self._pool, self._problems, self._n, self._ahead = pool, problems, n, ahead
        self._coming = iter(order)
        self._opener = ThreadPoolExecutor(1, "ekipl-prefetch-images")  # one thread, so that the steps stay in order
        self._threads = ThreadPoolExecutor(ahead, "ekipl-prefetch")
        self._requested: deque[Future[Future[Answered]]] = deque()
        self._is_closed = False
        self._request_ahead()

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """Waits for the samples of the next step and requests those of a later one.

        Raises:
            ValueError: these are not the problems or the ``n`` of the next step.
            Exception: the one that the pool raised for this step.
        """
        next_step = self._requested.popleft() if self._requested else None
        self._request_ahead()
        if next_step is None or n != self._n:
            raise ValueError(f"{n} samples were not foreseen here")
        answered, complete = next_step.result().result()
        if any(problem.id not in answered for problem in problems):
            if not complete:  # a row could not be read when it was asked for ahead, and now it can
                return self._pool.sample(problems, n)
            raise ValueError(f"expected problems {list(answered)}")
        return [answered[problem.id] for problem in problems]

    def close(self) -> None:
        """Cancels the requests in flight and closes the pool; may be called twice."""
        self._is_closed = True
        self._opener.shutdown(cancel_futures=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()
        self._threads.shutdown()

    def _request_ahead(self) -> None:
        for rows in islice(self._coming, self._ahead - len(self._requested)):
            self._requested.append(self._opener.submit(self._open, rows))

    def _open(self, rows: Sequence[int]) -> Future[Answered]:
        """Reads a step's images outside the training thread, then requests its samples."""
        problems = []
        for row in rows:
            with suppress(BadRow):  # told where the step is trained
                problems.append(self._problems[row])
        return self._threads.submit(self._request, problems, len(problems) == len(rows))

    def _request(self, problems: Sequence[Problem], complete: bool) -> Answered:
        if self._is_closed:
            raise RuntimeError("closed")
        answers = self._pool.sample(problems, self._n)
        return {problem.id: answer for problem, answer in zip(problems, answers, strict=True)}, complete
