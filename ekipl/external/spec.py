"""The settings of an external model: what can be wrong with them, and what they mean for a call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ekipl.algorithm.seams import Decoding
from ekipl.algorithm.types import POLICY
from ekipl.errors import UsageError
from ekipl.external import client, simulated
from ekipl.external.prices import Price, documented

RESERVED = {  # parameters that have their own place, or would break what the pool promises
    *("model", "messages", "n", "stream", "metadata", "api_base", "base_url", "api_key", "timeout"),
    *("max_retries", "num_retries", "fallbacks", "logger_fn"),
}
LIMITS = ("max_tokens", "max_completion_tokens")  # of an answer, the second by its newer name


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
        choices: answers asked for in one call, where the provider honours the API's ``n``.
        image_tokens: the most that one image can count, for budgets; None = as the provider documents it.
        on_refused: whether a parameter that the provider refuses ends the run (``stop``), or is left out from then on,
            told and noted in the ledger (``drop``).
        price: ``input`` and ``output``, US dollars for a million tokens; None = by LiteLLM's list.
        requests_per_minute: None = without limit; likewise the next.
        tokens_per_minute: of prompts and answers, each call at the most that it can have.
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
    choices: int = 1
    image_tokens: int | None = None
    on_refused: Literal["stop", "drop"] = "stop"
    price: Mapping[str, float] | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_simulated(self) -> bool:
        return self.model.startswith(simulated.PREFIX)


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


def limit_of(sent: Mapping[str, Any]) -> int | None:
    """Tokens that an answer may have; None = without limit."""
    return max((sent[key] for key in LIMITS if key in sent), default=None)


def key_to(model: ExternalModel) -> str | None:
    """The key to send; None leaves the search to LiteLLM."""
    if model.api_key_env:
        return os.environ.get(model.api_key_env, "").strip()
    return "none" if model.api_base or model.is_simulated else None  # LiteLLM would send the provider's own key


def price_of(model: ExternalModel) -> Price | None:
    """What its tokens cost; None = unknown."""
    if model.is_simulated:
        return Price(0.0, 0.0)
    listed = client.listed_price(model.model) if model.price is None else None
    return Price(*listed) if listed is not None else Price(**model.price) if model.price is not None else None


def budget_mistakes(number: int, model: ExternalModel, decoding: Decoding) -> Iterator[str]:
    """Why nobody can say what a call of model ``number`` costs at most, one line each."""
    here = f"external.models.{number}"
    price = price_of(model)
    if price is None:
        yield (
            f"{here}.price: null: a budget is set, and LiteLLM lists no price of {model.model}; "
            f"set {here}.price={{input: DOLLARS, output: DOLLARS}} for a million tokens (0 for a server of your own)"
        )
    elif price.input and model.image_tokens is None and documented(model.model) is None:
        yield (
            f"{here}.image_tokens: null: a budget is set, and how many tokens {model.model} counts for an image is not "
            f"known; set {here}.image_tokens to the most that one image can count"
        )
    if limit_of(parameters(model, decoding)) is None:
        yield f"{here}.params.max_tokens: null: a budget is set, and this call has no limit; leave it out of params"


def mistakes(number: int, models: Sequence[ExternalModel], *, dry: bool = False) -> Iterator[str]:
    """What is wrong with model ``number``, one line each; a ``dry`` run asks nobody and needs no keys."""
    model, here = models[number], f"external.models.{number}"
    if not model.name or model.name in [POLICY, *(other.name for other in models[:number])]:
        yield f"{here}.name: {model.name!r}: empty, the policy's own or taken by another model; give it another"
    counts = {key: getattr(model, key) for key in ("samples", "concurrency", "choices", "image_tokens")}
    for what, count in counts.items():
        if count is not None and count < 1:
            yield f"{here}.{what}: {count}: too few; give at least 1"
    for parameter in sorted(RESERVED & set(model.params)):
        yield f"{here}.params.{parameter}: the pool sets this itself; leave it out"
    if model.is_simulated:
        yield from _expert_mistakes(model, here)
        return
    if "seed" in model.params:
        yield f"{here}.params.seed: one seed for all samples makes them the same; leave it out"
    key = "none" if dry else key_to(model)
    if model.api_key_env and not key:
        yield (
            f"{here}.api_key_env: {model.api_key_env}: this environment variable is not set, and {model.model} needs "
            "its key; export it, or name the variable that holds the key"
        )
    elif key and not (key.isascii() and key.isprintable()):
        yield f"{here}.api_key_env: {model.api_key_env}: its value holds characters that no key has; export it again"
    elif reason := client.unusable(model.model, has_key=key is not None):
        yield f"{here}.model: {model.model}: {reason}"


def _expert_mistakes(model: ExternalModel, here: str) -> Iterator[str]:
    """What is wrong with the settings of a simulated expert."""
    for key in sorted(set(model.params) - set(simulated.SETTINGS)):
        yield f"{here}.params.{key}: no setting of a simulated expert; there are {', '.join(simulated.SETTINGS)}"
    settings = {key: value for key, value in model.params.items() if key in simulated.SETTINGS}
    try:
        simulated.Expert(model.model.removeprefix(simulated.PREFIX), **settings)
    except ValueError as error:
        yield f"{here}.params.{error}"


def refusal(number: int, model: ExternalModel, refused: client.Refused) -> UsageError:
    """What the user can do about a refusal."""
    where, way_out = f"external.models.{number}", "see what the provider says"
    if refused.status in (401, 403):
        way_out = f"check the key in {model.api_key_env or 'the environment'} and what it is allowed to use"
    elif refused.status == 404:
        way_out = "check the model's name and api_base"
    elif refused.is_spent:
        way_out = "the quota is spent: wait, pay, or take the model out"
    elif refused.parameter:
        where += f".{refused.parameter}"
        way_out = (
            f"change {refused.parameter}, leave it out with params: {{{refused.parameter}: null}}, or let whatever is "
            "refused be left out with on_refused: drop"
        )
    return UsageError(
        f"{where}: {model.name} ({model.model}): refused with status {refused.status} ({refused}); {way_out}"
    )
