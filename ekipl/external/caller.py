"""One external model: its calls, with retries, and what their failures mean for the problem, the model and the run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from ekipl.algorithm.seams import Decoding
from ekipl.errors import UsageError
from ekipl.external import client, simulated
from ekipl.external.budget import Meter, Pace
from ekipl.external.health import Health, warn
from ekipl.external.ledger import ANSWERED, Entry, Exhausted, Ledger
from ekipl.external.reply import LASTING, UNFINISHED
from ekipl.external.request import Call, Completion, Question, Rejected, Unavailable
from ekipl.external.settings import ExternalModel
from ekipl.external.spec import LIMITS, key_to, limit_of, misdirection, parameters, price_of, rejection
from ekipl.external.store import key_of

ATTEMPTS = 5
FIRST_WAIT_S = 1.0  # doubles with every attempt
LONGEST_WAIT_S = 60.0  # a provider that asks for a longer pause loses this sample and is set aside for so long
POLL_S = 0.1  # while calls in flight hold the rest of the budget
SET_ASIDE, RUN_ENDED = "set aside", "run ended"
OF_ONE_PROBLEM = (400, 413, 414, 415, 422, 431)  # HTTP statuses that may concern this problem alone
UNCLEAR = 8  # problems that are refused for no stated reason before a first answer; then the settings are wrong
TOLD = 5  # failures of single problems that are printed; all of them stand in the ledger
Keep = Callable[[int, Completion, float | None], None]  # stores a sample's answer and its cost in US dollars


class Failed(Exception):
    """The samples of a call have no answer; the argument is the reason under which they are counted."""


class ModelCaller:
    """Requests completions from one model.

    Every call has a deadline and is entered in the ledger before it is sent. Nothing below this class retries.
    """

    def __init__(
        self,
        here: str,
        model: ExternalModel,
        decoding: Decoding,
        timeout_s: float,
        seed: int,
        ledger: Ledger,
        max_body: int = 8 * 10**6,
    ) -> None:
        """``here`` is where the model's settings stand (``external.models.0``); the rest as in ``LiteLLMPool``."""
        self.model = model
        self.parameters = parameters(model, decoding, seed)
        self.meter = Meter(model.model, price_of(model), limit_of(self.parameters), model.image_tokens)
        self.slots = asyncio.Semaphore(model.concurrency)
        self.choices = 1 if model.is_simulated else model.choices  # per call; 1 once the provider has sent fewer
        self._here = here
        self._key = key_to(model)
        self._timeout_s, self._max_body = timeout_s, max_body
        self._rng = random.Random(f"{seed}/{model.name}")
        self._ledger = ledger
        self._pace = Pace(model.requests_per_minute, model.tokens_per_minute)
        self._health = Health(model.name)
        self._dropped: set[str] = set()
        self._refused: dict[str, str] = {}  # problems that are not asked again, by name, with the reason
        self._unclear: set[str] = set()  # of them those for which the provider gave no reason
        self._told = 0
        self._overrun: str | None = None  # describes a bill above its bound

    def samples(self, n: int) -> int:
        """The model's own number of actions for a problem, else ``n``."""
        return n if self.model.samples is None else self.model.samples

    def key(self, question: Question, sample: int) -> str:
        """The cache key of a sample.

        With ``on_refused=drop`` the key differs, because the answer may have been produced without some parameters.
        """
        sent = {**self.parameters, "on_refused": "drop"} if self.model.on_refused == "drop" else self.parameters
        return key_of(self.model.model, self.model.api_base, question.fingerprint, sent, sample)

    def learn(self, question: Question, known: Completion) -> None:
        """Takes token counts from an answer in the cache, and the fact that the model has answered before."""
        self.meter.learn(question.shape, known)
        self._health.has_answered |= known.fault is None

    async def request(self, question: Question, samples: Sequence[int], keep: Keep) -> list[Completion]:
        """Completions for the first of these samples, at least one; fewer than all where the provider ignores ``n``.

        Each completion goes to ``keep`` before anything else can fail, because it has been paid for.

        Raises:
            Failed: none of these samples has an answer.
            Exhausted: the budget does not allow the call.
            UsageError: the API rejects a call before the model's first answer, and not because of its problem, so the
                settings are wrong; or a bill was above its bound, and there is a budget.
        """
        if question.name in self._refused:
            self.give_up(question, samples, self._refused[question.name])
            raise Failed(self._refused[question.name])
        if not self._health.admits():
            self.give_up(question, samples, SET_ASIDE)
            raise Failed(SET_ASIDE)
        try:
            completions = await self._with_retries(question, samples, keep)
        except Failed as failed:
            self._health.failed(str(failed))
            raise
        except Rejected as rejected:
            reason = f"refused with status {rejected.status}"
            self._judge(rejected, question)
            self._tell(question, samples[:1], f"{reason} ({rejected})")
            raise Failed(reason) from None
        except BaseException:
            self._health.cancelled()
            raise
        faults = [completion.fault for completion in completions if completion.fault is not None]
        for sample, answer in zip(samples, completions, strict=False):
            if answer.fault is not None and answer.fault.startswith(UNFINISHED):
                self._tell(question, [sample], f"{answer.fault}: no answer")
        if len(faults) < len(completions):
            self._health.answered()
        else:
            self._health.failed(faults[0])
        return completions

    def give_up(self, question: Question, samples: Sequence[int], reason: str) -> None:
        """Enters in the ledger that no request is sent for these samples."""
        for sample in samples:
            self._ledger.give_up(self.model.name, question.name, sample, reason)

    def end(self) -> None:
        """Sends no further call; calls in flight finish."""
        self._pace.end()

    def _judge(self, rejected: Rejected, question: Question) -> None:
        """Decide whether a refusal concerns this problem, the model, or the settings: then raise UsageError."""
        error = rejection(self._here, self.model, rejected, question.name)
        answered, may_be_row = self._health.has_answered, rejected.status in OF_ONE_PROBLEM
        if not answered and may_be_row and rejected.of_row is None:
            self._unclear.add(question.name)
            may_be_row = len(self._unclear) < UNCLEAR
        if not answered and (not may_be_row or rejected.of_row is False):
            self._health.cancelled()
            raise error from None
        if may_be_row:
            self._refused[question.name] = f"refused with status {rejected.status}"
        # The settings were right, so this is a spent quota, a revoked key or an unacceptable problem.
        self._health.failed(str(error), permanent=not may_be_row)

    def _tell(self, question: Question, samples: Sequence[int], reason: str) -> None:
        """Enter in the ledger why these samples have no answer, and print the first few."""
        for sample in samples:
            self._ledger.explain(self.model.name, question.name, sample, reason)
            self._told += 1
            if self._told <= TOLD:
                warn(self.model.name, f"{question.name}, sample {sample}: {reason}; the run goes on without it")
            if self._told == TOLD:
                warn(self.model.name, "further failures of this kind are not printed; ledger.sqlite has them (faults)")

    async def _with_retries(self, question: Question, samples: Sequence[int], keep: Keep) -> list[Completion]:
        """Up to ``ATTEMPTS`` calls with doubling, jittered pauses, on top of the pause that the provider asks for."""
        attempt = 1
        while True:
            together = samples[: self.choices]
            call = self._call(question, together)
            try:
                completions = await self._once(call, question, together, attempt, keep)
                if len(completions) < len(together):
                    self._request_singly(f"asked for {len(together)} answers in one call, got {len(completions)}")
                return completions
            except Rejected as rejected:
                if not self._drops(rejected, call):
                    raise
            except Unavailable as busy:
                if busy.misdirected and not self._health.has_answered:
                    raise misdirection(self._here, self.model, busy) from None
                if not busy.again:
                    self._tell(question, samples[:1], f"{busy}: {busy.detail}")
                    raise Failed(str(busy)) from None
                if busy.retry_after_s > LONGEST_WAIT_S:
                    self._health.rest(str(busy), busy.retry_after_s)
                    raise Failed(str(busy)) from None
                self._pace.pause(busy.retry_after_s)
                wait_s = busy.retry_after_s + FIRST_WAIT_S * 2 ** (attempt - 1) * self._rng.uniform(0.5, 1)
                if attempt == ATTEMPTS or await self._pace.is_ended_within(wait_s):
                    raise Failed(str(busy)) from None
                attempt += 1

    async def _once(
        self, call: Call, question: Question, samples: Sequence[int], attempt: int, keep: Keep
    ) -> list[Completion]:
        """One call: wait for its turn, reserve its cost, send it, store the answers, settle the cost."""
        if not await self._pace.turn(self.meter.tokens(question.shape, len(samples))):
            raise Failed(RUN_ENDED)
        entry = await self._reserved(question, samples, attempt)
        try:
            completions = await client.complete(call)
        except Unavailable as busy:
            self._ledger.settle(entry, [str(busy)] * len(samples), None if busy.may_be_billed else 0.0)
            raise
        except Rejected as rejected:
            self._ledger.settle(entry, [f"refused with status {rejected.status}"] * len(samples), 0.0)
            raise
        except BaseException:
            self._ledger.settle(entry, ["interrupted"] * len(samples), None)
            raise
        costs = [self.meter.usd(question.shape, completion) for completion in completions]
        usd = None if None in costs else sum(cost for cost in costs if cost is not None)
        prompt, completion = completions[0].prompt_tokens, sum(each.completion_tokens for each in completions)
        try:
            for sample, answer, cost in zip(samples, completions, costs, strict=False):
                if answer.fault is None or answer.fault in LASTING:
                    keep(sample, answer, cost)
        finally:
            self._ledger.settle(entry, [each.fault or ANSWERED for each in completions], usd, prompt, completion)
        if entry.is_exceeded_by(usd):
            self._overrun = f"a call was billed with {prompt} prompt and {completion} completion tokens, more than"
        self.meter.learn(question.shape, completions[0])
        return completions

    async def _reserved(self, question: Question, samples: Sequence[int], attempt: int) -> Entry:
        """The call's entry in the ledger; waits while calls in flight may still free enough of the budget."""
        while True:
            if self._overrun is not None and self._ledger.has_budget:
                raise UsageError(
                    f"{self._here}.image_tokens: {self.model.image_tokens or 'null'}: "
                    f"{self.model.name}: {self._overrun} the bound that the budget relies on; raise image_tokens or "
                    "max_tokens, whichever was exceeded"
                )
            try:
                most = self.meter.most_usd(question.shape, len(samples))
                return self._ledger.reserve(self.model.name, question.name, samples, attempt, most)
            except Exhausted as exhausted:
                if not exhausted.may_change:
                    raise
            await asyncio.sleep(POLL_S)

    def _drops(self, rejected: Rejected, call: Call) -> bool:
        """Whether later calls leave the rejected parameter out: ``n``, or any with ``on_refused=drop`` but a limit."""
        parameter = rejected.parameter
        if parameter == "n" and call.choices > 1:
            self._request_singly(f"refuses {call.choices} answers in one call")
            return True
        if parameter is None or parameter not in call.parameters or self.model.on_refused != "drop":
            return False
        if parameter in LIMITS:  # nothing else bounds an answer
            return False
        if parameter not in self._dropped:
            self._dropped.add(parameter)
            self._ledger.drop(self.model.name, parameter)
            warn(self.model.name, f"refuses {parameter}, which is left out from now on (on_refused: drop)")
        return True

    def _request_singly(self, why: str) -> None:
        if self.choices > 1:
            self.choices = 1
            warn(self.model.name, f"{why}; from now on it is asked for one at a time (choices: 1)")

    def _call(self, question: Question, samples: Sequence[int]) -> Call:
        sent = {key: value for key, value in self.parameters.items() if key not in self._dropped}
        model, choices = self.model, len(samples)
        call = Call(
            model.model,
            question.messages,
            sent,
            model.api_base,
            self._key,
            self._timeout_s,
            choices=choices,
            max_body=self._max_body,
        )
        if not model.is_simulated:
            return call
        # THE GOLD ANSWER LEAVES THIS PROCESS FOR NOBODY. A real model that saw it would copy it, and the reward
        # would teach the policy nothing. Only experts simulated inside this process get it.
        return replace(call, known=simulated.known(question.problem, samples[0]))
