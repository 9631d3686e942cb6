"""One external model: what is asked of it, how often, and what its failures mean."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from ekipl.algorithm.seams import Decoding
from ekipl.errors import UsageError
from ekipl.external import client, simulated
from ekipl.external.cache import key_of
from ekipl.external.ledger import ANSWERED, Entry, Exhausted, Ledger
from ekipl.external.limits import Health, Pace
from ekipl.external.prices import Meter
from ekipl.external.question import Question
from ekipl.external.spec import LIMITS, ExternalModel, key_to, limit_of, parameters, price_of, refusal

ATTEMPTS = 5
FIRST_WAIT_S = 1.0  # doubles with every attempt
LONGEST_WAIT_S = 60.0  # a provider that asks for a longer pause loses this sample, and is left alone so long

SET_ASIDE, RUN_ENDED = "set aside", "run ended"
POLL_S = 0.1  # while calls under way hold the rest of the budget
Keep = Callable[[int, client.Completion, float | None], None]  # a sample, its answer, and what that cost
OF_ONE_PROBLEM = (400, 413, 415, 422)  # statuses that may mean this problem alone, once others were answered


class Failed(Exception):
    """There is no answer to these samples; its argument is the reason, as it is counted."""


class Asker:
    """Asks a model for completions.

    Every call has a deadline and stands in the ledger before it is sent; what fails for a while is asked again here
    and nowhere else.
    """

    def __init__(
        self, number: int, model: ExternalModel, decoding: Decoding, timeout_s: float, seed: int, ledger: Ledger
    ) -> None:
        """For entry ``number`` of the external models."""
        self.model = model
        self.parameters = parameters(model, decoding, seed)
        self.meter = Meter(model.model, price_of(model), limit_of(self.parameters), model.image_tokens)
        self.slots = asyncio.Semaphore(model.concurrency)
        self.choices = 1 if model.is_simulated else model.choices  # of a call; 1 once the provider gave fewer
        self._number = number
        self._key = key_to(model)
        self._timeout_s = timeout_s
        self._rng = random.Random(f"{seed}/{model.name}")
        self._ledger = ledger
        self._pace = Pace(model.requests_per_minute, model.tokens_per_minute)
        self._health = Health(model.name)
        self._dropped: set[str] = set()
        self._overrun: str | None = None  # a bill above its bound

    def samples(self, n: int) -> int:
        """Actions a problem, of N."""
        return n if self.model.samples is None else self.model.samples

    def key(self, question: Question, sample: int) -> str:
        """The name of a sample in the cache. What may be answered without a parameter has a name of its own."""
        asked = {**self.parameters, "on_refused": "drop"} if self.model.on_refused == "drop" else self.parameters
        return key_of(self.model.model, self.model.api_base, question.fingerprint, asked, sample)

    def learn(self, question: Question, known: client.Completion) -> None:
        """Takes from an answer of the cache what it tells about the model."""
        self.meter.learn(question.shape, known)
        if known.fault is None:
            self._health.known()

    async def ask(self, question: Question, samples: Sequence[int], keep: Keep) -> list[client.Completion]:
        """Completions for these samples, or for the first of them: fewer come where the provider does not honour n.

        Each goes to ``keep`` as soon as it is here, before anything else can fail: it has been paid for.

        Raises:
            Failed: for all of them.
            Exhausted: the budget does not allow the call.
            UsageError: the model's first answer is that it refuses the key, its own name or a parameter; or a bill was
                higher than it could be, and there is a budget.
        """
        if not self._health.admits():
            self.give_up(question, samples, SET_ASIDE)
            raise Failed(SET_ASIDE)
        try:
            completions = await self._ask_again(question, samples, keep)
        except Failed as failed:
            self._health.failed(str(failed))
            raise
        except client.Refused as refused:
            error = refusal(self._number, self.model, refused)
            if not self._health.has_answered:
                self._health.left()
                raise error from None
            # The settings are fine, then: a spent quota, a revoked key, or a problem that the provider does not take.
            self._health.failed(str(error), for_good=refused.status not in OF_ONE_PROBLEM)
            raise Failed(f"refused with status {refused.status}") from None
        except BaseException:
            self._health.left()
            raise
        faults = [completion.fault for completion in completions if completion.fault is not None]
        if len(faults) < len(completions):
            self._health.answered()
        else:
            self._health.failed(faults[0])
        return completions

    def give_up(self, question: Question, samples: Sequence[int], reason: str) -> None:
        """Notes in the ledger that nothing was asked."""
        for sample in samples:
            self._ledger.give_up(self.model.name, question.name, sample, reason)

    def end(self) -> None:
        """Lets calls under way be the last ones."""
        self._pace.end()

    async def _ask_again(self, question: Question, samples: Sequence[int], keep: Keep) -> list[client.Completion]:
        """Up to ``ATTEMPTS`` calls; the pauses double, are spread, and respect what the provider tells."""
        attempt = 1
        while True:
            asked = samples[: self.choices]
            call = self._call(question, asked)
            try:
                completions = await self._ask_once(call, question, asked, attempt, keep)
                if len(completions) < len(asked):
                    self._ask_singly(f"asked for {len(asked)} answers in one call, got {len(completions)}")
                return completions
            except client.Refused as refused:
                if not self._does_without(refused, call):
                    raise
            except client.Unavailable as busy:
                if busy.retry_after_s > LONGEST_WAIT_S:
                    self._health.told_to_wait(str(busy), busy.retry_after_s)
                    raise Failed(str(busy)) from None
                self._pace.pause(busy.retry_after_s)
                wait_s = busy.retry_after_s + FIRST_WAIT_S * 2 ** (attempt - 1) * self._rng.uniform(0.5, 1)
                if attempt == ATTEMPTS or await self._pace.is_ended_within(wait_s):
                    raise Failed(str(busy)) from None
                attempt += 1

    async def _ask_once(
        self, call: client.Call, question: Question, samples: Sequence[int], attempt: int, keep: Keep
    ) -> list[client.Completion]:
        if not await self._pace.turn(self.meter.tokens(question.shape, len(samples))):
            raise Failed(RUN_ENDED)
        entry = await self._promised(question, samples, attempt)
        try:
            completions = await client.complete(call)
        except client.Unavailable as busy:
            self._ledger.settle(entry, [str(busy)] * len(samples), None if busy.may_be_billed else 0.0)
            raise
        except client.Refused as refused:
            self._ledger.settle(entry, [f"refused with status {refused.status}"] * len(samples), 0.0)
            raise
        except BaseException:
            self._ledger.settle(entry, ["interrupted"] * len(samples), None)
            raise
        costs = [self.meter.usd(question.shape, completion) for completion in completions]
        usd = None if None in costs else sum(cost for cost in costs if cost is not None)
        prompt, completion = completions[0].prompt_tokens, sum(each.completion_tokens for each in completions)
        try:
            for sample, answer, cost in zip(samples, completions, costs, strict=False):
                keep(sample, answer, cost)
        finally:
            self._ledger.settle(entry, [each.fault or ANSWERED for each in completions], usd, prompt, completion)
        if entry.is_exceeded_by(usd):
            self._overrun = f"a call was billed with {prompt} prompt and {completion} completion tokens, more than"
        self.meter.learn(question.shape, completions[0])
        return completions

    async def _promised(self, question: Question, samples: Sequence[int], attempt: int) -> Entry:
        """The call's entry in the ledger, once calls under way leave enough of the budget."""
        while True:
            if self._overrun is not None and self._ledger.has_budget:
                raise UsageError(
                    f"external.models.{self._number}.image_tokens: {self.model.image_tokens or 'null'}: "
                    f"{self.model.name}: {self._overrun} the bound that the budget relies on; raise image_tokens or "
                    "max_tokens, whichever was exceeded"
                )
            try:
                most = self.meter.most_usd(question.shape, len(samples))
                return self._ledger.promise(self.model.name, question.name, samples, attempt, most)
            except Exhausted as exhausted:
                if not exhausted.may_change:
                    raise
            await asyncio.sleep(POLL_S)

    def _does_without(self, refused: client.Refused, call: client.Call) -> bool:
        """Whether what was refused is left out from now on: n > 1, or a parameter where the settings allow that."""
        parameter = refused.parameter
        if parameter == "n" and call.choices > 1:
            self._ask_singly(f"refuses {call.choices} answers in one call")
            return True
        if parameter is None or parameter not in call.parameters or self.model.on_refused != "drop":
            return False
        if parameter in LIMITS:  # without them nothing bounds an answer
            return False
        if parameter not in self._dropped:
            self._dropped.add(parameter)
            self._ledger.drop(self.model.name, parameter)
            self._say(f"refuses {parameter}, which is left out from now on (on_refused: drop)")
        return True

    def _ask_singly(self, why: str) -> None:
        if self.choices > 1:
            self.choices = 1
            self._say(f"{why}; from now on it is asked for one at a time (choices: 1)")

    def _say(self, what: str) -> None:
        print(f"ekipl: warning: external model {self.model.name}: {what}", file=sys.stderr)

    def _call(self, question: Question, samples: Sequence[int]) -> client.Call:
        call = client.Call(
            model=self.model.model,
            messages=question.messages,
            parameters={key: value for key, value in self.parameters.items() if key not in self._dropped},
            api_base=self.model.api_base,
            api_key=self._key,
            timeout_s=self._timeout_s,
            choices=len(samples),
        )
        if not self.model.is_simulated:
            return call
        # THE GOLD ANSWER LEAVES THIS PROCESS FOR NOBODY. A real model that saw it would copy it, and the reward
        # would teach the policy nothing. Only experts simulated inside this process are told.
        return replace(call, known=simulated.known(question.problem, samples[0]))
