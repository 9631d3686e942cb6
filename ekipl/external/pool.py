"""M external models asked over the network: the samples of Eq. 5."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ekipl.algorithm.seams import Decoding, ExternalSamples
from ekipl.algorithm.types import Action, Problem
from ekipl.errors import UsageError
from ekipl.external import client
from ekipl.external.cache import Cache
from ekipl.external.caller import Asker, Failed, Keep
from ekipl.external.ledger import Exhausted, Ledger
from ekipl.external.loop import LoopThread
from ekipl.external.outlook import outlook
from ekipl.external.question import Question
from ekipl.external.spec import ExternalModel, budget_mistakes, mistakes
from ekipl.report.tables import Table

OnExhausted = Literal["stop", "policy_only"]
BUDGET_SPENT = "budget spent"
GRACE_S = 5.0  # after its deadline a call is surely over
POLL_S = 0.1  # while another process asks for the same answer


class LiteLLMPool:
    """Implements ``ExternalPool`` for whatever LiteLLM can call.

    A call asks for as many samples of a problem as the model's ``choices`` says. Providers that refuse that, or send
    fewer, are asked for one at a time.
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
        dry: bool = False,
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
            dry: for ``outlook`` alone: keys may be missing.

        Raises:
            UsageError: a model cannot be called as configured, for example because its key is not in the environment,
                a budget is set and a price unknown, or the files cannot be used.
        """
        wrong = [line for number in range(len(models)) for line in mistakes(number, models, dry=dry)]
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

    def sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        """n actions a problem from each model: by problem, then by model, then by number of the sample.

        Calls that fail for good, empty and filtered answers are counted in ``failed``, and the problem goes on with
        fewer actions.

        Raises:
            UsageError: a model refuses the key, its own name or a parameter: then every call of it would fail. Or the
                budget is spent, and this is to end the run.
        """
        return self._loop.run(self._sample(list(problems), n))

    def spent(self) -> tuple[int, float]:
        """Requests of this process and of earlier starts of the run; dollars spent or promised, as far as known."""
        return self._ledger.requests, self._ledger.spent_usd()

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

    async def _sample(self, problems: Sequence[Problem], n: int) -> list[ExternalSamples]:
        tasks = [
            [
                asyncio.create_task(self._outcomes(asker, question, samples))
                for asker in self._askers
                for samples in _parts(range(asker.samples(n)), asker.choices)
            ]
            for question in map(Question, problems)
        ]
        parts = [task for of_problem in tasks for task in of_problem]
        try:
            # After a failure no new call begins, but those under way end: their answers are being paid for.
            ends = await asyncio.gather(*parts, return_exceptions=True)
        finally:  # Ctrl-C ends them
            for part in parts:
                part.cancel()
        if errors := [end for end in ends if isinstance(end, BaseException)]:
            raise self._fatal or errors[0]
        return [_external([outcome for task in of_problem for outcome in task.result()]) for of_problem in tasks]

    async def _outcomes(self, asker: Asker, question: Question, samples: Sequence[int]) -> list[Action | str]:
        """For each of these samples of a model the action, or the reason why there is none."""
        found: dict[int, client.Completion | str] = {}
        try:
            while missing := [sample for sample in samples if sample not in found]:
                if self._fatal is not None:  # or it would wait for what another process asks
                    raise self._fatal
                found |= await self._some(asker, question, missing[: asker.choices])
        except UsageError as error:
            self._end(error)
            raise

        def outcome(sample: int) -> Action | str:
            answer = found[sample]
            if isinstance(answer, str):
                return answer
            return answer.fault or Action(question.problem.id, asker.model.name, sample, answer.text, answer.finish)

        return [outcome(sample) for sample in samples]

    def _end(self, error: UsageError) -> None:
        """What is under way ends and is kept; nothing is sent after it, a second attempt neither."""
        self._fatal = self._fatal or error
        for asker in self._askers:
            asker.end()

    async def _some(
        self, asker: Asker, question: Question, samples: Sequence[int]
    ) -> Mapping[int, client.Completion | str]:
        """Some of these samples: from the cache, or asked for by exactly one of those who want them now.

        None while others are asking for them all. Simulated experts are asked every time: they cost nothing, and
        answer faster than a file is written.
        """
        cache = None if asker.model.is_simulated else self._cache
        if cache is None:
            async with asker.slots:
                return await self._ask(asker, question, samples, lambda *_: None)
        keys = {sample: asker.key(question, sample) for sample in samples}
        if known := self._known(cache, asker, question, keys):
            return known
        async with asker.slots:
            mine = {sample: key for sample, key in keys.items() if cache.claim(key)}
            try:
                if known := self._known(cache, asker, question, mine):
                    return known
                if mine:
                    return await self._ask(
                        asker, question, list(mine), lambda sample, answer, usd: cache.put(mine[sample], answer, usd)
                    )
            finally:
                for key in mine.values():
                    cache.release(key)
        await asyncio.sleep(POLL_S)
        return {}

    def _known(
        self, cache: Cache, asker: Asker, question: Question, keys: Mapping[int, str]
    ) -> dict[int, client.Completion]:
        """What the cache has of these samples."""
        known = {sample: answer for sample, key in keys.items() if (answer := cache.get(key)) is not None}
        for answer in known.values():
            asker.learn(question, answer)
        if known:
            self._ledger.hit(asker.model.name, len(known))
        return known

    async def _ask(
        self, asker: Asker, question: Question, samples: Sequence[int], keep: Keep
    ) -> Mapping[int, client.Completion | str]:
        """An answer for these samples, or for the first of them, or the reason why none of them has one."""
        if self._fatal is not None:
            raise self._fatal
        try:
            return dict(zip(samples, await asker.ask(question, samples, keep), strict=False))
        except Failed as failed:
            return dict.fromkeys(samples, str(failed))
        except Exhausted as exhausted:
            return dict.fromkeys(samples, self._without_money(asker, question, samples, exhausted))

    def _without_money(self, asker: Asker, question: Question, samples: Sequence[int], exhausted: Exhausted) -> str:
        """The reason why there are no such samples. Raises UsageError when that shall end the run."""
        told = f"external.budget_usd: {self._budget_usd:g}: {exhausted}, and a call of {asker.model.name} may cost more"
        if self._on_exhausted == "stop":
            raise UsageError(
                f"{told} than is left; raise it and start again (what is in the cache is not asked again), or set "
                "external.on_exhausted=policy_only"
            )
        if not self._has_said:
            print(f"ekipl: warning: {told} than is left; no more calls of such a price", file=sys.stderr)
            self._has_said = True
        asker.give_up(question, samples, BUDGET_SPENT)
        return BUDGET_SPENT


def _parts(samples: Sequence[int], size: int) -> list[Sequence[int]]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def _external(outcomes: Sequence[Action | str]) -> ExternalSamples:
    actions = tuple(outcome for outcome in outcomes if isinstance(outcome, Action))
    return ExternalSamples(actions, Counter(outcome for outcome in outcomes if isinstance(outcome, str)))
