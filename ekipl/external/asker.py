"""One external model: what is asked of it, how often, and what its failures mean."""

from __future__ import annotations

import asyncio
import random

from ekipl.external import client, simulated
from ekipl.external.cache import key_of
from ekipl.external.ledger import ANSWERED, Entry, Exhausted, Ledger
from ekipl.external.limits import Health, Pace
from ekipl.external.models import ExternalModel, key_to, parameters, price_of, refusal
from ekipl.external.prices import Meter
from ekipl.external.question import Question
from ekipl.interfaces import Decoding

ATTEMPTS = 5
FIRST_WAIT_S = 1.0  # doubles with every attempt
LONGEST_WAIT_S = 60.0  # a provider that asks for a longer pause loses this sample

SET_ASIDE = "set aside"
POLL_S = 0.1  # while calls under way hold the rest of the budget


class Failed(Exception):
    """There is no answer to this sample; its argument is the reason, as it is counted."""


class Asker:
    """Asks a model for single completions.

    Every call has a deadline and stands in the ledger before it is sent; what fails for a while is asked again here
    and nowhere else.
    """

    def __init__(
        self, number: int, model: ExternalModel, decoding: Decoding, timeout_s: float, seed: int, ledger: Ledger
    ) -> None:
        """For entry ``number`` of the external models."""
        self.model = model
        self.parameters = parameters(model, decoding, seed)
        self.meter = Meter(model.model, price_of(model), self.parameters.get("max_tokens"))
        self.slots = asyncio.Semaphore(model.concurrency)
        self._number = number
        self._key = key_to(model)
        self._timeout_s = timeout_s
        self._rng = random.Random(f"{seed}/{model.name}")
        self._ledger = ledger
        self._pace = Pace(model.requests_per_minute, model.tokens_per_minute)
        self._health = Health(model.name)

    def samples(self, n: int) -> int:
        """Actions a problem, of N."""
        return n if self.model.samples is None else self.model.samples

    def key(self, question: Question, sample: int) -> str:
        """The name of a sample in the cache."""
        return key_of(self.model.model, self.model.api_base, question.fingerprint, self.parameters, sample)

    async def ask(self, question: Question, sample: int) -> client.Completion:
        """One completion, from a model that is not set aside.

        Raises:
            Failed: for this sample.
            Exhausted: the budget does not allow the call.
            UsageError: the model's first answer is that it refuses the key, its own name or a parameter.
        """
        if not self._health.admits():
            self.give_up(question, sample, SET_ASIDE)
            raise Failed(SET_ASIDE)
        try:
            completion = await self._ask_again(question, sample)
        except Failed as failed:
            self._health.failed(str(failed))
            raise
        except client.Refused as refused:
            error = refusal(self._number, self.model, refused)
            if not self._health.has_answered:
                self._health.left()
                raise error from None
            # The settings are fine, then: a spent quota, a revoked key, or a problem that the provider does not take.
            self._health.failed(str(error), for_good=refused.status not in (400, 422))
            raise Failed(f"refused with status {refused.status}") from None
        except BaseException:
            self._health.left()
            raise
        if completion.fault is None:
            self._health.answered()
        else:
            self._health.failed(completion.fault)
        return completion

    async def _ask_again(self, question: Question, sample: int) -> client.Completion:
        """Up to ``ATTEMPTS`` calls; the pauses double, are spread, and respect what the provider tells."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._ask_once(question, sample, attempt)
            except client.Unavailable as busy:
                if attempt == ATTEMPTS or busy.retry_after_s > LONGEST_WAIT_S:
                    raise Failed(str(busy)) from None
                pause = busy.retry_after_s + FIRST_WAIT_S * 2 ** (attempt - 1) * self._rng.uniform(0.5, 1)
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def give_up(self, question: Question, sample: int, reason: str) -> None:
        """Notes in the ledger that nothing was asked."""
        self._ledger.give_up(self.model.name, question.name, sample, reason)

    async def _ask_once(self, question: Question, sample: int, attempt: int) -> client.Completion:
        call = self._call(question, sample)
        await self._pace.turn(self.meter.prompt_tokens(question) + self.parameters.get("max_tokens", 0))
        entry = await self._promised(question, sample, attempt)
        try:
            completion = await client.complete(call)
        except client.Unavailable as busy:
            self._ledger.settle(entry, str(busy), None if busy.may_be_billed else 0.0)
            raise
        except client.Refused as refused:
            self._ledger.settle(entry, f"refused with status {refused.status}", 0.0)
            raise
        except BaseException:
            self._ledger.settle(entry, "interrupted", None)
            raise
        self.meter.learn(question, completion)
        usd = self.meter.usd(question, completion)
        tokens = completion.prompt_tokens, completion.completion_tokens
        self._ledger.settle(entry, completion.fault or ANSWERED, usd, *tokens)
        return completion

    async def _promised(self, question: Question, sample: int, attempt: int) -> Entry:
        """The call's entry in the ledger, once calls under way leave enough of the budget."""
        while True:
            try:
                most = self.meter.most_usd(question)
                return self._ledger.promise(self.model.name, question.name, sample, attempt, most)
            except Exhausted as exhausted:
                if not exhausted.may_change:
                    raise
            await asyncio.sleep(POLL_S)

    def _call(self, question: Question, sample: int) -> client.Call:
        return client.Call(
            model=self.model.model,
            messages=question.messages,
            parameters=self.parameters,
            api_base=self.model.api_base,
            api_key=self._key,
            timeout_s=self._timeout_s,
            # THE GOLD ANSWER LEAVES THIS PROCESS FOR NOBODY. A real model that saw it would copy it, and the reward
            # would teach the policy nothing. Only experts simulated inside this process are told.
            known=simulated.known(question.problem, sample) if self.model.is_simulated else None,
        )
