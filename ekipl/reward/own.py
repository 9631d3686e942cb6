"""A reward of the user's own: a function of a problem and a completion, or of many (docs/rewards.md)."""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from ekipl.algorithm.seams import Asked
from ekipl.algorithm.types import Reward
from ekipl.errors import GraderError, UsageError
from ekipl.masking import masked

BATCH = "texts"  # a parameter of this name gets the completions of a whole batch
CONCURRENCY = 16  # calls of an async function in flight at once
SHARES = ("exact", "partial", "skill")  # scores of the built-in graders, which are shown as percent
TOLD = 5  # kinds of failure of which the first trace is shown
FRAMES = 3  # of a trace
_SHOWN = 200  # characters of an error
_PACKAGE = Path(__file__).parents[1]

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Value:
    """What one reward says of a completion.

    Attributes:
        total: its term of the sum, before its weight.
        accuracy: whether the answer is right, from 0 to 1; None: it does not say.
        format: whether the completion has its tags; None: it does not say.
        parts: its parts by name.
        detail: scores of the built-in graders that it passes on.
        alone: why ``total`` cannot stand for the accuracy where nothing else says what is right; None: it can.
    """

    total: float
    accuracy: float | None = None
    format: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, float] = field(default_factory=dict)
    alone: str | None = None


def misfit(function: object) -> str | None:
    """Why an imported object cannot be a reward, with the way out; None where it can."""
    form = f"define a function (problem, text), or (problems, {BATCH}) for a whole batch"
    if inspect.isclass(function) or not callable(function):
        return f"{'a class' if inspect.isclass(function) else type(function).__name__}, not a function; {form}"
    try:
        taken = inspect.signature(function)
    except ValueError:  # of a builtin, which tells nothing
        return None
    try:
        taken.bind(None, None)
    except TypeError:
        return f"takes {taken}; {form}"
    return None


def print_told(text: str) -> None:
    """Print a warning on standard error."""
    print(text, file=sys.stderr, flush=True)


class OwnReward:
    """A function of the user's own, which may be ``async`` and may take a batch; whatever it does wrong is told.

    What it raises, and a value that is no reward, leaves a completion ungraded. Where nothing at all of the first batch
    can be graded the function is wrong, and the command ends.
    """

    def __init__(self, key: str, name: str, function: Callable[..., Any], tell: Tell = print_told) -> None:
        """Calls nothing yet.

        Args:
            key: the setting, for messages.
            name: of the reward, in metrics and messages.
            function: for which ``misfit`` is None.
            tell: gets the first trace of each kind of failure.
        """
        self.name = name
        self._key, self._function, self._tell = key, function, tell
        self._batched = BATCH in _parameters(function)
        self._async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - of an object with an async __call__
        )
        self._loop: asyncio.AbstractEventLoop | None = None  # one for all batches: the function may keep connections
        self._told: set[str] = set()
        self._graded = False  # anything so far

    def values(self, asked: Sequence[Asked]) -> list[Value | GraderError]:
        """One for each completion. Raises UsageError when none of the first batch can be graded."""
        returned = self._batch(asked) if self._batched else self._singly(asked)
        found = [self._value(got) for got in returned]
        failures = [one for one in found if isinstance(one, GraderError)]
        if failures and len(failures) == len(found) and not self._graded:
            raise UsageError(
                f"{self._key}: {self.name}: none of the first {len(found)} completions could be graded: "
                f"{_traced(failures[0])}"
            )
        self._graded |= len(failures) < len(found)
        for failure in failures:
            self._tell_once(failure)
        return found

    def _singly(self, asked: Sequence[Asked]) -> list[Any]:
        if self._async and asked:
            found: list[Any] = self._wait(self._concurrently(asked))
            return found
        return [self._attempt(partial(self._function, *asks)) for asks in asked]

    def _batch(self, asked: Sequence[Asked]) -> list[Any]:
        """The values, or for all of them the same failure."""
        if not asked:
            return []
        problems, texts = (list(column) for column in zip(*asked, strict=True))
        got = self._attempt(partial(self._function, problems, texts))
        if isinstance(got, str | Mapping) or not isinstance(got, Iterable | GraderError):
            got = GraderError(f"{self.name} returned {_called(got)} for {len(texts)} texts; return a list of as many")
        if isinstance(got, Iterable):
            got = self._attempt(partial(list, got))
        if isinstance(got, list) and len(got) != len(texts):
            got = GraderError(f"{self.name} returned {len(got)} values for {len(texts)} texts; return one for each")
        return got if isinstance(got, list) else [got] * len(texts)

    def _attempt(self, call: Callable[[], Any]) -> Any:
        """What the call returns, awaited where that is due, or the GraderError that it becomes."""
        try:
            got = call()
            return self._wait(got) if inspect.isawaitable(got) else got
        except Exception as error:
            return self._failure(error)

    async def _concurrently(self, asked: Sequence[Asked]) -> list[Any]:
        slots = asyncio.Semaphore(CONCURRENCY)

        async def one(asks: Asked) -> Any:
            async with slots:
                try:
                    return await self._function(*asks)
                except Exception as error:
                    return self._failure(error)

        return await asyncio.gather(*map(one, asked))

    def _wait(self, work: Awaitable[Any]) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

    def _failure(self, error: Exception) -> GraderError:
        """Raises UsageError, which is meant for the user, again."""
        if isinstance(error, UsageError):
            raise error
        text = " ".join(str(error).split())[:_SHOWN]
        kind = "" if isinstance(error, GraderError) else type(error).__name__
        failure = GraderError(": ".join(filter(None, (self.name, kind, text))))
        failure.__cause__ = error
        return failure

    def _value(self, got: Any) -> Value | GraderError:
        try:
            return got if isinstance(got, GraderError) else value_of(self._key, self.name, got)
        except GraderError as error:
            return error

    def _tell_once(self, failure: GraderError) -> None:
        traced = _traced(failure)
        kind = traced.partition("\n")[2] or traced
        if kind not in self._told and len(self._told) < TOLD:
            self._told.add(kind)
            self._tell(masked(f"ekipl: warning: {self._key}: ungraded, and counted as such, not as 0: {traced}"))


def value_of(key: str, name: str, got: Any) -> Value:
    """What a function has returned: a number, numbers by name, or a Reward.

    Raises:
        GraderError: it is none of these, or not finite.
        UsageError: an accuracy outside 0 to 1.
    """
    if isinstance(got, Reward):
        for what, number in {"format": got.format, "accuracy": got.accuracy, **got.detail}.items():
            _number(f"{name} returned a Reward with {what}", number)
        shares = {part: score for part, score in got.detail.items() if part in SHARES}
        parts = {part: float(score) for part, score in got.detail.items() if part not in SHARES}
        return Value(got.total, got.accuracy, got.format, {**parts, **got.parts}, shares)
    if isinstance(got, Mapping):
        return _of_parts(key, name, got)
    number = _number(f"{name} returned", got)
    alone = f"returned {number:g}, and a number that stands alone is the accuracy, from 0 to 1"
    return Value(number, alone=None if 0 <= number <= 1 else alone)


def _of_parts(key: str, name: str, got: Mapping[Any, Any]) -> Value:
    if not got:
        raise GraderError(f"{name} returned an empty dict")
    if strange := [part for part in got if not isinstance(part, str)]:
        raise GraderError(f"{name} returned a part that is named by {_called(strange[0])}; name parts by text")
    parts = {part: _number(f"{name} returned for its part {part}", number) for part, number in got.items()}
    accuracy = parts.get("accuracy")
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise UsageError(
            f"{key}: {name}: returned {accuracy:g} for its part accuracy, which says what is right, from 0 to 1; give "
            "the part another name, or its value that range"
        )
    alone = f"returned the parts {', '.join(parts)}, and none of them is named accuracy"
    return Value(math.fsum(parts.values()), accuracy, parts.get("format"), parts, alone=alone)


def _number(what: str, got: Any) -> float:
    """A finite number; True is 1. Raises GraderError."""
    if not isinstance(got, Real) and callable(getattr(got, "item", None)):  # a scalar of numpy or torch
        try:
            got = got.item()
        except Exception as error:
            raise GraderError(f"{what} {_called(got)} with several values; return a number") from error
    if not isinstance(got, Real):
        missing = " (is a return missing?)" if got is None else ""
        raise GraderError(f"{what} {_called(got)}{missing}; return a number, a dict of numbers or a Reward")
    try:
        number = float(got)
    except OverflowError as error:
        raise GraderError(f"{what} a number beyond all floats") from error
    if not math.isfinite(number):
        raise GraderError(f"{what} {number}")
    return number


def _called(got: object) -> str:
    return "None" if got is None else f"a {type(got).__name__}"


def _parameters(function: Callable[..., Any]) -> Iterable[str]:
    try:
        return inspect.signature(function).parameters
    except ValueError:
        return ()


def _traced(failure: GraderError) -> str:
    """The failure, and the last lines of code outside of this package that led to it."""
    cause = failure.__cause__
    frames = traceback.extract_tb(cause.__traceback__) if cause is not None else []
    own = [frame for frame in frames if not Path(frame.filename).is_relative_to(_PACKAGE)][-FRAMES:]
    return "\n".join([str(failure), *(f"  {f.filename}:{f.lineno} in {f.name}: {f.line}" for f in own)])
