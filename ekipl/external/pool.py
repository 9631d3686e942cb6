"""The pool of M external models that are called over the network: the samples of Eq. 5."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, Literal, TypeVar

from ekipl.algorithm.seams import Decoding, ExternalSamples
from ekipl.algorithm.types import Action, Problem
from ekipl.errors import UsageError
from ekipl.external import client
from ekipl.external.budget import RemainingCost, Tally
from ekipl.external.caller import Failed, Keep, ModelCaller
from ekipl.external.http import MB
from ekipl.external.ledger import Exhausted, Ledger
from ekipl.external.request import Completion, Question
from ekipl.external.settings import ExternalModel
from ekipl.external.spec import budget_errors, model_errors
from ekipl.external.store import Cache

OnExhausted = Literal["stop", "policy_only"]
BUDGET_SPENT = "budget spent"
GRACE_S = 5.0  # a call has surely ended so long after its deadline
POLL_S = 0.1  # while another process requests the same answer
T = TypeVar("T")


class LiteLLMPool:
    """Implements ``ExternalPool`` for every model that LiteLLM can call. It may be used from several threads.

    One call requests ``choices`` samples of a problem. A provider that rejects this, or sends fewer, gets one call for
    each sample from then on.
    """

    def __init__(
        self,
        models: Sequence[ExternalModel],
        decoding: Decoding,
        timeout_s: float,
        seed: int = 0,
        cache: Path | None = None,
        ledger: Path | None = None,
        budget_usd: float | None = None,
        on_exhausted: OnExhausted = "stop",
        *,
        max_body: int = 8 * MB,
        dry: bool = False,
        section: str = "external",
    ) -> None:
        """Checks everything that needs no call. Takes seconds, because it imports LiteLLM.

        Args:
            models: in the order of their actions.
            decoding: for models without their own values.
            timeout_s: seconds that one call may take.
            seed: of simulated experts without their own, and of the pauses between attempts.
            cache: file that stores the answers of real models for all runs; None = answers are not stored.
            ledger: file that records the spending of this run; None = in memory.
            budget_usd: US dollars for the run with all its restarts, calls in flight included; None = without limit.
            on_exhausted: ``stop`` raises when the budget is spent; ``policy_only`` goes on with the cache alone.
            max_body: most bytes of an answer's body.
            dry: only ``remaining_cost`` will be called, so keys may be missing.
            section: of the settings, for messages; in another than ``external`` it holds the one model itself.

        Raises:
            UsageError: a model cannot be called as configured (for example its key is not in the environment), a
                budget is set and a cost has no known bound, or a file cannot be used.
        """
        places = [f"{section}.models.{n}" if section == "external" else section for n in range(len(models))]
        placed = list(zip(places, models, strict=True))
        errors = [line for here, model in placed for line in model_errors(here, model, dry=dry)]
        if budget_usd is not None and not errors:
            errors = [line for here, model in placed for line in budget_errors(here, model, decoding)]
        if errors:
            raise UsageError("\n".join(errors))
        self.names = tuple(model.name for model in models)
        self._ledger = Ledger(ledger, budget_usd, timeout_s + GRACE_S)
        self._callers = [
            ModelCaller(here, model, decoding, timeout_s, seed, self._ledger, max_body) for here, model in placed
        ]
        self._section, self._budget_usd, self._on_exhausted = section, budget_usd, on_exhausted
        has_real = not all(model.is_simulated for model in models)
        self._cache = Cache(cache, f"{section}.cache") if cache is not None and has_real else None
        self._has_warned = False
        self._fatal: UsageError | None = None
        self._loop = LoopThread("ekipl-external")

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """n actions for each problem and model, sorted by problem, then model, then number of the sample.

        Failed calls, empty and filtered answers are counted in ``failed``; the problem then has fewer actions.

        Raises:
            UsageError: a call is rejected before the model's first answer, so further calls would be rejected too; the
                budget is spent and ``on_exhausted`` is ``stop``; or cache or ledger cannot be written.
        """
        return self._loop.run(self._sample(list(problems), n))

    def spent(self) -> tuple[int, float]:
        """Requests and US dollars of the run so far, with its earlier starts and the bounds of calls in flight."""
        return self._ledger.requests, self._ledger.spent_usd()

    def remaining_cost(self, problems: Iterable[Problem], n: int) -> list[RemainingCost]:
        """Estimate, for each model, the calls that ``sample`` would still make and their cost. Sends nothing."""
        tallies = [Tally(caller.meter, caller.model.is_simulated) for caller in self._callers]
        seen: set[str] = set()
        for question in map(Question, problems):
            for caller, tally in zip(self._callers, tallies, strict=True):
                before = len(tally.missing)
                for sample in range(0 if tally.is_simulated else caller.samples(n)):
                    key = caller.key(question, sample)
                    if self._cache is not None and key in seen:  # the cache will have it by then
                        continue
                    seen.add(key)
                    known = self._cache.get(key) if self._cache is not None else None
                    if known is not None:
                        caller.learn(question, known)
                    tally.add(question.shape, known)
                tally.requests += [question.shape] * ceil((len(tally.missing) - before) / caller.choices)
        return [tally.remaining(name) for name, tally in zip(self.names, tallies, strict=True)]

    def close(self) -> None:
        """Ends the calls, connections, files and the thread; may be called twice."""
        if self._loop.is_alive:
            self._loop.run(client.close())
            self._loop.close()
            self._ledger.close()
            if self._cache is not None:
                self._cache.close()

    async def _sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        tasks = [
            [
                asyncio.create_task(self._outcomes(caller, question, range(start, min(start + size, count))))
                for caller in self._callers
                for count, size in [(caller.samples(n), caller.choices)]
                for start in range(0, count, size)
            ]
            for question in map(Question, problems)
        ]
        flat = [task for of_problem in tasks for task in of_problem]
        try:
            # After a fatal error no call is sent any more, but calls in flight finish: their answers are paid for.
            ends = await asyncio.gather(*flat, return_exceptions=True)
        finally:  # Ctrl-C cancels them
            for task in flat:
                task.cancel()
        if errors := [end for end in ends if isinstance(end, BaseException)]:
            raise self._fatal or errors[0]
        return [_external_samples(outcome for task in of_problem for outcome in task.result()) for of_problem in tasks]

    async def _outcomes(self, caller: ModelCaller, question: Question, samples: Sequence[int]) -> list[Action | str]:
        """For each of these samples the action, or the reason why there is none."""
        found: dict[int, Completion | str] = {}
        try:
            while missing := [sample for sample in samples if sample not in found]:
                if self._fatal is not None:  # otherwise it would wait for a claim of another process
                    raise self._fatal
                found |= await self._some(caller, question, missing[: caller.choices])
        except UsageError as error:  # fatal: calls in flight finish and are stored, and nothing is sent after them
            self._fatal = self._fatal or error
            for each in self._callers:
                each.end()
            raise

        def outcome(sample: int) -> Action | str:
            answer = found[sample]
            if isinstance(answer, str):
                return answer
            return answer.fault or Action(question.problem.id, caller.model.name, sample, answer.text, answer.finish)

        return [outcome(sample) for sample in samples]

    async def _some(
        self, caller: ModelCaller, question: Question, samples: Sequence[int]
    ) -> Mapping[int, Completion | str]:
        """Results for some of these samples, from the cache or requested under a claim.

        Empty while others hold the claims on all of them. Simulated experts bypass the cache: they cost nothing and
        answer faster than a file is written.
        """
        cache = None if caller.model.is_simulated else self._cache
        if cache is None:
            async with caller.slots:
                return await self._request(caller, question, samples, lambda *_: None)
        keys = {sample: caller.key(question, sample) for sample in samples}
        if known := self._known(cache, caller, question, keys):
            return known
        async with caller.slots:
            mine = {sample: key for sample, key in keys.items() if cache.claim(key)}
            try:
                if known := self._known(cache, caller, question, mine):  # stored between the look and the claim
                    return known
                if mine:
                    return await self._request(
                        caller, question, list(mine), lambda sample, answer, usd: cache.put(mine[sample], answer, usd)
                    )
            finally:
                for key in mine.values():
                    cache.release(key)
        await asyncio.sleep(POLL_S)
        return {}

    def _known(
        self, cache: Cache, caller: ModelCaller, question: Question, keys: Mapping[int, str]
    ) -> dict[int, Completion]:
        """The cached answers to these samples."""
        known = {sample: answer for sample, key in keys.items() if (answer := cache.get(key)) is not None}
        for answer in known.values():
            caller.learn(question, answer)
        if known:
            self._ledger.hit(caller.model.name, len(known))
        return known

    async def _request(
        self, caller: ModelCaller, question: Question, samples: Sequence[int], keep: Keep
    ) -> Mapping[int, Completion | str]:
        """Answers to the first of these samples, at least one; or for all of them the reason why there is none."""
        if self._fatal is not None:
            raise self._fatal
        try:
            return dict(zip(samples, await caller.request(question, samples, keep), strict=False))
        except Failed as failed:
            return dict.fromkeys(samples, str(failed))
        except Exhausted as exhausted:
            self._budget_spent(caller, exhausted)
            caller.give_up(question, samples, BUDGET_SPENT)
            return dict.fromkeys(samples, BUDGET_SPENT)

    def _budget_spent(self, caller: ModelCaller, exhausted: Exhausted) -> None:
        """Warns once, or raises UsageError with ``on_exhausted=stop``."""
        name, budget = caller.model.name, f"{self._budget_usd:g}"
        text = f"{self._section}.budget_usd: {budget}: {exhausted}, and a call of {name} may cost more than is left"
        if self._on_exhausted == "stop":
            raise UsageError(
                f"{text}; raise it and start again (what is in the cache is not asked again), or set "
                "external.on_exhausted=policy_only"
            )
        if not self._has_warned:
            print(f"ekipl: warning: {text}; no more calls of such a price", file=sys.stderr)
            self._has_warned = True


def _external_samples(outcomes: Iterable[Action | str]) -> ExternalSamples:
    all_of_them = list(outcomes)
    actions = tuple(outcome for outcome in all_of_them if isinstance(outcome, Action))
    return ExternalSamples(actions, Counter(outcome for outcome in all_of_them if isinstance(outcome, str)))


class LoopThread:
    """One event loop in a thread of its own, for callers without an event loop.

    HTTP clients belong to the loop that created them, so a loop for each call would leave dead connections behind.
    """

    def __init__(self, name: str) -> None:
        """Starts the thread as a daemon, so that a forgotten ``close`` does not keep the process alive."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``; an exception during the wait (Ctrl-C) cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Cancels unfinished work and ends the thread; may be called twice."""
        if self.is_alive:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()
