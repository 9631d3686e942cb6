"""M external models asked over the network: the samples of Eq. 5."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from ekipl.actions import Action, Problem
from ekipl.errors import UsageError
from ekipl.external import client
from ekipl.external.asker import Asker, Failed
from ekipl.external.cache import Cache
from ekipl.external.ledger import Exhausted, Ledger
from ekipl.external.loop import LoopThread
from ekipl.external.models import ExternalModel, budget_mistakes, mistakes
from ekipl.external.outlook import outlook
from ekipl.external.question import Question
from ekipl.interfaces import Decoding, External
from ekipl.tables import Table

OnExhausted = Literal["stop", "policy_only"]
BUDGET_SPENT = "budget spent"
GRACE_S = 5.0  # after its deadline a call is surely over
POLL_S = 0.1  # while another process asks for the same answer


class LiteLLMPool:
    """Implements ``ExternalPool`` for whatever LiteLLM can call.

    Every sample is one call for one completion: ``n`` > 1 is refused by some providers and ignored by others.
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
    ) -> None:
        """Checks what can be checked without a call; takes seconds, for it imports LiteLLM.

        Args:
            models: in the order of their actions.
            decoding: of every model that says nothing else.
            timeout_s: seconds that one call may take.
            seed: of simulated experts that have none of their own, and of the pauses between attempts.
            cache: the file that keeps the answers of real models; None = they are not kept.
            ledger: the file that says what this run has spent; None = in memory.
            budget_usd: that the run may spend, calls in flight and earlier starts included; None = without limit.
            on_exhausted: ``stop`` raises; ``policy_only`` goes on with what is in the cache.

        Raises:
            UsageError: a model cannot be called as configured, for example because its key is not in the environment,
                a budget is set and a price unknown, or the files cannot be used.
        """
        wrong = [line for number in range(len(models)) for line in mistakes(number, models)]
        if budget_usd is not None and not wrong:
            wrong = [line for number, model in enumerate(models) for line in budget_mistakes(number, model, decoding)]
        if wrong:
            raise UsageError("\n".join(wrong))
        self.names = tuple(model.name for model in models)
        self._ledger = Ledger(ledger, budget_usd, timeout_s + GRACE_S)
        self._askers = [Asker(i, model, decoding, timeout_s, seed, self._ledger) for i, model in enumerate(models)]
        self._budget_usd, self._on_exhausted = budget_usd, on_exhausted
        has_real = not all(model.is_simulated for model in models)
        self._cache = Cache(cache) if cache is not None and has_real else None
        self._has_said = False
        self._fatal: UsageError | None = None
        self._loop = LoopThread("ekipl-external")

    def sample(self, problems: Sequence[Problem], n: int) -> list[External]:
        """n actions a problem from each model: by problem, then by model, then by number of the sample.

        Calls that fail for good, empty and filtered answers are counted in ``failed``, and the problem goes on with
        fewer actions.

        Raises:
            UsageError: a model refuses the key, its own name or a parameter: then every call of it would fail. Or the
                budget is spent, and this is to end the run.
        """
        return self._loop.run(self._sample(list(problems), n))

    def outlook(self, problems: Iterable[Problem], n: int) -> Table:
        """What ``sample`` would still cost; nobody is asked."""
        return outlook(self._askers, self._cache, problems, n)

    def close(self) -> None:
        """Ends connections and the thread. Closing twice is fine."""
        if self._loop.is_alive:
            self._loop.run(client.close())
            self._loop.close()
            self._ledger.close()
            if self._cache is not None:
                self._cache.close()

    async def _sample(self, problems: Sequence[Problem], n: int) -> list[External]:
        tasks = [
            [
                asyncio.create_task(self._action(asker, question, index))
                for asker in self._askers
                for index in range(asker.samples(n))
            ]
            for question in map(Question, problems)
        ]
        calls = [task for of_problem in tasks for task in of_problem]
        try:
            # After a failure no new call begins, but those under way end: their answers are being paid for.
            ends = await asyncio.gather(*calls, return_exceptions=True)
        finally:  # Ctrl-C ends them
            for call in calls:
                call.cancel()
        if errors := [end for end in ends if isinstance(end, BaseException)]:
            raise self._fatal or errors[0]
        return [_external([task.result() for task in of_problem]) for of_problem in tasks]

    async def _action(self, asker: Asker, question: Question, index: int) -> Action | str:
        """Sample ``index`` of a model for a problem, or the reason why there is none."""
        try:
            completion = await self._completion(asker, question, index)
        except Failed as failed:
            return str(failed)
        except Exhausted as exhausted:
            return self._without_money(asker, question, index, exhausted)
        except UsageError as error:
            self._fatal = self._fatal or error
            raise
        if completion.fault is not None:
            return completion.fault
        return Action(question.problem.id, asker.model.name, index, completion.text, completion.finish)

    async def _completion(self, asker: Asker, question: Question, index: int) -> client.Completion:
        """From the cache, or asked for by exactly one of those who want it now.

        Simulated experts are asked every time: they cost nothing, and answer faster than a file is written.
        """
        cache = None if asker.model.is_simulated else self._cache
        if cache is None:
            async with asker.slots:
                return await self._ask(asker, question, index)
        key = asker.key(question, index)
        while True:
            if (known := cache.get(key)) is not None:
                asker.meter.learn(question, known)
                self._ledger.hit(asker.model.name, 1)
                return known
            async with asker.slots:
                if cache.claim(key):
                    try:
                        if (known := cache.get(key)) is None:
                            known = await self._ask(asker, question, index)
                            cache.put(key, known, asker.meter.usd(question, known))
                        return known
                    finally:
                        cache.release(key)
            await asyncio.sleep(POLL_S)

    async def _ask(self, asker: Asker, question: Question, index: int) -> client.Completion:
        if self._fatal is not None:
            raise self._fatal
        return await asker.ask(question, index)

    def _without_money(self, asker: Asker, question: Question, index: int, exhausted: Exhausted) -> str:
        """The reason why there is no sample. Raises UsageError when that shall end the run."""
        told = f"external.budget_usd: {self._budget_usd:g}: {exhausted}, and a call of {asker.model.name} may cost more"
        if self._on_exhausted == "stop":
            self._fatal = self._fatal or UsageError(
                f"{told} than is left; raise it and start again (what is in the cache is not asked again), or set "
                "external.on_exhausted=policy_only"
            )
            raise self._fatal
        if not self._has_said:
            print(f"ekipl: warning: {told} than is left; no more calls of such a price", file=sys.stderr)
            self._has_said = True
        asker.give_up(question, index, BUDGET_SPENT)
        return BUDGET_SPENT


def _external(outcomes: Sequence[Action | str]) -> External:
    actions = tuple(outcome for outcome in outcomes if isinstance(outcome, Action))
    return External(actions, Counter(outcome for outcome in outcomes if isinstance(outcome, str)))
