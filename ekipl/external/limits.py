"""When a model may be asked: so many requests and tokens a minute, and not while it keeps failing."""

from __future__ import annotations

import asyncio
import sys
import time

MINUTE_S = 60.0
IN_A_ROW = 20  # calls given up after which a model is set aside; more than one problem's share of them
FIRST_REST_S = 60.0  # doubles whenever the model still fails after it
LONGEST_REST_S = 960.0


class Pace:
    """Spaces calls evenly, so that no minute has more than its share."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        """None = without limit."""
        self._request_s = MINUTE_S / requests_per_minute if requests_per_minute else 0.0
        self._token_s = MINUTE_S / tokens_per_minute if tokens_per_minute else 0.0
        self._next = 0.0
        self._queue = asyncio.Lock()
        self._ended = asyncio.Event()

    async def turn(self, tokens: int) -> bool:
        """Waits until a call of so many tokens, prompt and completion, may be sent; False: no more calls at all."""
        async with self._queue:  # one looks at the clock; a pause then holds for all who wait
            self._next = max(self._next, time.monotonic())
            while (left := self._next - time.monotonic()) > 0:
                if await self.is_ended_within(left):
                    return False
            self._next += max(self._request_s, self._token_s * tokens)
            return not self._ended.is_set()

    def pause(self, seconds: float) -> None:
        """No further call before so many seconds have passed: the provider said so to one of them."""
        self._next = max(self._next, time.monotonic() + seconds)

    def end(self) -> None:
        """No further call; whoever waits is told now."""
        self._ended.set()

    async def is_ended_within(self, seconds: float) -> bool:
        """Whether ``end`` is called in this time; if it is not, the time passes."""
        try:
            return await asyncio.wait_for(self._ended.wait(), seconds)
        except asyncio.TimeoutError:
            return False


class Health:
    """Sets a model aside that keeps failing, and lets single samples try whether it has recovered."""

    def __init__(self, name: str) -> None:
        """For messages: the model's ``name``."""
        self.has_answered = False
        self._name = name
        self._failures = 0  # in a row
        self._rest_s = FIRST_REST_S
        self._until: float | None = None  # set aside; None = it is not
        self._told_until = 0.0  # set aside because its provider said so
        self._is_tried = False

    def admits(self) -> bool:
        """Whether the model is asked now. Who is told yes reports ``answered``, ``failed`` or ``left``."""
        if self._until is None:
            return True
        if self._is_tried or time.monotonic() < self._until:
            return False
        self._is_tried = True
        return True

    def known(self) -> None:
        """There is an answer from before: the settings are fine."""
        self.has_answered = True

    def answered(self) -> None:
        """There is an answer."""
        self.has_answered = True
        if time.monotonic() < self._told_until:  # it was asked for before
            return
        if self._until is not None:
            self._say("answers again")
        self._is_tried = False
        self._failures, self._until, self._rest_s = 0, None, FIRST_REST_S

    def failed(self, reason: str, *, for_good: bool = False) -> None:
        """A sample failed; ``for_good``: others would fail alike."""
        self._failures += 1
        resting = self._until is not None and not self._is_tried  # was sent before the model was set aside
        if resting or not (self._is_tried or for_good or self._failures >= IN_A_ROW):
            return
        self._is_tried = False
        self._until = time.monotonic() + self._rest_s
        self._say(f"set aside for {self._rest_s:.0f} s ({reason}); the run goes on without it")
        self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)

    def told_to_wait(self, reason: str, seconds: float) -> None:
        """The provider wants no call for so long, and nobody waits so long for a sample."""
        until = time.monotonic() + seconds
        if self._until is None or until > self._until + 1.0:  # calls that were sent together are told alike
            self._until, self._told_until, self._is_tried = until, until, False
            self._say(f"set aside for {seconds:.0f} s, as its provider asks ({reason}); the run goes on without it")

    def left(self) -> None:
        """The sample was not asked to its end."""
        self._is_tried = False

    def _say(self, what: str) -> None:
        print(f"ekipl: warning: external model {self._name}: {what}", file=sys.stderr)
