"""M external models asked over the network: the samples of Eq. 5."""

from __future__ import annotations

import asyncio
import base64
import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image

from ekipl.actions import POLICY, Action, Problem
from ekipl.errors import UsageError
from ekipl.external import client, simulated
from ekipl.external.loop import LoopThread
from ekipl.interfaces import Decoding, External

ATTEMPTS = 5
FIRST_WAIT_S = 1.0  # doubles with every attempt
LONGEST_WAIT_S = 60.0  # a provider that asks for a longer pause loses this sample

RESERVED = {  # parameters that have their own place, or would break what the pool promises
    *("model", "messages", "n", "stream", "metadata", "api_base", "base_url", "api_key", "timeout"),
    *("max_retries", "num_retries", "fallbacks", "logger_fn"),
}


@dataclass(frozen=True)
class ExternalModel:
    """One external model.

    Attributes:
        name: the source of its actions, in records and figures.
        model: LiteLLM's name of it: ``openai/gpt-4o-2024-11-20``, ``gemini/gemini-2.5-pro``, ``simulated/careful``.
        samples: actions a problem; None = N.
        api_base: address of an OpenAI-compatible server; None = the provider's own.
        api_key_env: NAME of the environment variable with the key. None = the provider's usual variable, or no key at
            all where ``api_base`` is given, so that a key never goes to a server it was not meant for.
        temperature: None = the pool's, as for the next two.
        top_p: in (0, 1].
        max_tokens: of an answer.
        concurrency: calls in flight at a time.
        params: further parameters, passed on as they are; a null leaves out even ``temperature``, ``top_p`` or
            ``max_tokens``. For ``simulated/`` models: the settings of ``ekipl.external.simulated.Expert``.
    """

    name: str
    model: str
    samples: int | None = None
    api_base: str | None = None
    api_key_env: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    concurrency: int = 16
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_simulated(self) -> bool:
        return self.model.startswith(simulated.PREFIX)


def first(models: Sequence[ExternalModel], m: int) -> tuple[ExternalModel, ...]:
    """The M external models that are used. Raises UsageError when fewer are configured."""
    if not 0 <= m <= len(models):
        names = ", ".join(model.name for model in models) or "none"
        raise UsageError(
            f"M: {m}: only {len(models)} external models are configured ({names}); "
            f"add models to external.models or set M<={len(models)}"
        )
    return tuple(models[:m])


class LiteLLMPool:
    """Implements ``ExternalPool`` for whatever LiteLLM can call.

    Every sample is one call for one completion (``n`` > 1 is refused by some providers and ignored by others), every
    call has a deadline, and what fails for a while is asked again here and nowhere else.
    """

    def __init__(self, models: Sequence[ExternalModel], decoding: Decoding, timeout_s: float, seed: int = 0) -> None:
        """Checks what can be checked without a call; takes seconds, for it imports LiteLLM.

        Args:
            models: in the order of their actions.
            decoding: of every model that says nothing else.
            timeout_s: seconds that one call may take.
            seed: of simulated experts that have none of their own, and of the pauses between attempts.

        Raises:
            UsageError: a model cannot be called as configured, for example because its key is not in the environment.
        """
        if wrong := [line for number in range(len(models)) for line in _problems(number, models)]:
            raise UsageError("\n".join(wrong))
        self.names = tuple(model.name for model in models)
        self._models = tuple(models)
        self._keys = [_key(model) for model in models]
        self._parameters = [parameters(model, decoding, seed) for model in models]
        self._timeout_s = timeout_s
        self._rng = random.Random(seed)
        self._slots = [asyncio.Semaphore(model.concurrency) for model in models]
        self._loop = LoopThread("ekipl-external")

    def sample(self, problems: Sequence[Problem], n: int) -> list[External]:
        """n actions a problem from each model: by problem, then by model, then by number of the sample.

        Calls that fail for good, empty and filtered answers are counted in ``failed``, and the problem goes on with
        fewer actions.

        Raises:
            UsageError: a model refuses the key, its own name or a parameter: then every call of it would fail.
        """
        return self._loop.run(self._sample(list(problems), n))

    def close(self) -> None:
        """Ends connections and the thread. Closing twice is fine."""
        if self._loop.is_alive:
            self._loop.run(client.close())
            self._loop.close()

    async def _sample(self, problems: Sequence[Problem], n: int) -> list[External]:
        counts = [n if model.samples is None else model.samples for model in self._models]
        tasks = [
            [
                asyncio.create_task(self._action(which, problem, messages, index))
                for which, count in enumerate(counts)
                for index in range(count)
            ]
            for problem, messages in ((problem, question(problem)) for problem in problems)
        ]
        calls = [task for of_problem in tasks for task in of_problem]
        try:
            await asyncio.gather(*calls)
        finally:  # after a failure or Ctrl-C: ask no more
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        return [_external([task.result() for task in of_problem]) for of_problem in tasks]

    async def _action(
        self, which: int, problem: Problem, messages: Sequence[Mapping[str, Any]], index: int
    ) -> Action | str:
        """Sample ``index`` of a model for a problem, or the reason why there is none."""
        model = self._models[which]
        call = client.Call(
            model=model.model,
            messages=messages,
            parameters=self._parameters[which],
            api_base=model.api_base,
            api_key=self._keys[which],
            timeout_s=self._timeout_s,
            # THE GOLD ANSWER LEAVES THIS PROCESS FOR NOBODY. A real model that saw it would copy it, and the reward
            # would teach the policy nothing. Only experts simulated inside this process are told.
            known=simulated.known(problem, index) if model.is_simulated else None,
        )
        try:
            async with self._slots[which]:
                completion = await self._ask(call)
        except client.Refused as refused:
            raise _usage_error(which, model, refused) from None
        except (client.Unavailable, client.Withheld) as reason:
            return str(reason)
        return Action(problem.id, model.name, index, completion.text, completion.finish)

    async def _ask(self, call: client.Call) -> client.Completion:
        """Asks up to ``ATTEMPTS`` times; the pauses double, are spread, and respect what the provider tells."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await client.complete(call)
            except client.Unavailable as busy:
                if attempt == ATTEMPTS or busy.retry_after_s > LONGEST_WAIT_S:
                    raise
                pause = busy.retry_after_s + FIRST_WAIT_S * 2 ** (attempt - 1) * self._rng.uniform(0.5, 1)
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


def question(problem: Problem) -> list[dict[str, Any]]:
    """The problem as one user message: its images as PNG data URLs, then the prompt, and nothing else."""
    images = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in problem.images]
    return [{"role": "user", "content": [*images, {"type": "text", "text": problem.prompt}]}]


def data_url(image: Image.Image) -> str:
    """The image as PNG, every pixel as it is."""
    file = BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def parameters(model: ExternalModel, decoding: Decoding, seed: int = 0) -> dict[str, Any]:
    """What is sent with every call of ``model``."""
    chosen = {
        "temperature": decoding.temperature if model.temperature is None else model.temperature,
        "top_p": decoding.top_p if model.top_p is None else model.top_p,
        "max_tokens": decoding.max_tokens if model.max_tokens is None else model.max_tokens,
        "top_k": decoding.top_k or None,
        "seed": seed if model.is_simulated else None,
        **model.params,
    }
    return {key: value for key, value in chosen.items() if value is not None}


def _external(outcomes: Sequence[Action | str]) -> External:
    actions = tuple(outcome for outcome in outcomes if isinstance(outcome, Action))
    return External(actions, Counter(outcome for outcome in outcomes if isinstance(outcome, str)))


def _key(model: ExternalModel) -> str | None:
    """The key to send; None leaves the search to LiteLLM."""
    if model.api_key_env:
        return os.environ.get(model.api_key_env, "").strip()
    return "none" if model.api_base or model.is_simulated else None  # LiteLLM would send the provider's own key


def _problems(number: int, models: Sequence[ExternalModel]) -> Iterator[str]:
    """What is wrong with model ``number``, one line each."""
    model, here = models[number], f"external.models.{number}"
    if not model.name or model.name in [POLICY, *(other.name for other in models[:number])]:
        yield f"{here}.name: {model.name!r}: empty, the policy's own or taken by another model; give it another"
    for what, count in (("samples", model.samples), ("concurrency", model.concurrency)):
        if count is not None and count < 1:
            yield f"{here}.{what}: {count}: too few; give at least 1"
    for parameter in sorted(RESERVED & set(model.params)):
        yield f"{here}.params.{parameter}: the pool sets this itself; leave it out"
    if model.is_simulated:
        yield from _expert_problems(model, here)
        return
    if "seed" in model.params:
        yield f"{here}.params.seed: one seed for all samples makes them the same; leave it out"
    key = _key(model)
    if model.api_key_env and not key:
        yield (
            f"{here}.api_key_env: {model.api_key_env}: this environment variable is not set, and {model.model} needs "
            "its key; export it, or name the variable that holds the key"
        )
    elif key and not (key.isascii() and key.isprintable()):
        yield f"{here}.api_key_env: {model.api_key_env}: its value holds characters that no key has; export it again"
    elif reason := client.unusable(model.model, has_key=key is not None):
        yield f"{here}.model: {model.model}: {reason}"


def _expert_problems(model: ExternalModel, here: str) -> Iterator[str]:
    """What is wrong with the settings of a simulated expert."""
    for key in sorted(set(model.params) - set(simulated.SETTINGS)):
        yield f"{here}.params.{key}: no setting of a simulated expert; there are {', '.join(simulated.SETTINGS)}"
    settings = {key: value for key, value in model.params.items() if key in simulated.SETTINGS}
    try:
        simulated.Expert(model.model.removeprefix(simulated.PREFIX), **settings)
    except ValueError as error:
        yield f"{here}.params.{error}"


def _usage_error(number: int, model: ExternalModel, refused: client.Refused) -> UsageError:
    """What the user can do about a refusal."""
    where, way_out = f"external.models.{number}", "see what the provider says"
    if refused.status in (401, 403):
        way_out = f"check the key in {model.api_key_env or 'the environment'} and what it is allowed to use"
    elif refused.status == 404:
        way_out = "check the model's name and api_base"
    elif refused.status == 429:
        way_out = "the quota is spent: wait, pay, or take the model out"
    elif refused.parameter:
        where += f".{refused.parameter}"
        way_out = f"change {refused.parameter}, or leave it out with params: {{{refused.parameter}: null}}"
    return UsageError(
        f"{where}: {model.name} ({model.model}): refused with status {refused.status} ({refused}); {way_out}"
    )
