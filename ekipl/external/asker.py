"""One external model: what is asked of it, how often, and what its failures mean."""

from __future__ import annotations

import asyncio
import random

from ekipl.external import client, simulated
from ekipl.external.ledger import ANSWERED, Entry, Exhausted, Ledger
from ekipl.external.models import ExternalModel, key_to, parameters, price_of, refusal
from ekipl.external.prices import Meter
from ekipl.external.question import Question
from ekipl.interfaces import Decoding

ATTEMPTS = 5
FIRST_WAIT_S = 1.0  # doubles with every attempt
LONGEST_WAIT_S = 60.0  # a provider that asks for a longer pause loses this sample

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

    async def ask(self, question: Question, sample: int) -> client.Completion:
        """One completion, asked for up to ``ATTEMPTS`` times.

        The pauses double, are spread, and respect what the provider tells.

        Raises:
            Failed: for this sample.
            Exhausted: the budget does not allow the call.
            UsageError: for every sample: the key, the model's name or a parameter is refused.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._ask_once(question, sample, attempt)
            except client.Refused as refused:
                raise refusal(self._number, self.model, refused) from None
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
