"""The meaning of an external model's settings: parameters, key, price, and the checks that need no call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ekipl.algorithm.seams import Decoding
from ekipl.errors import UsageError
from ekipl.external import client, simulated
from ekipl.external.budget import Price, documented
from ekipl.external.request import Rejected, Unavailable
from ekipl.external.settings import ExternalModel
from ekipl.masking import without_password

RESERVED = {  # parameters that the pool sets itself, or that would break its guarantees
    *("model", "messages", "n", "stream", "metadata", "api_base", "base_url", "api_key", "timeout"),
    *("max_retries", "num_retries", "fallbacks", "logger_fn"),
}
LIMITS = ("max_tokens", "max_completion_tokens")  # parameters that bound an answer; the second is the newer name


def parameters(model: ExternalModel, decoding: Decoding, seed: int = 0) -> dict[str, Any]:
    """The parameters of every call of ``model``."""
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
    """The most tokens that an answer may have; None = without limit."""
    return max((sent[key] for key in LIMITS if key in sent), default=None)


def key_to(model: ExternalModel) -> str | None:
    """The API key to send; None = LiteLLM looks for the provider's own in the environment."""
    if model.api_key_env:
        return os.environ.get(model.api_key_env, "").strip()
    return "none" if model.api_base or model.is_simulated else None  # None would send the provider's key to api_base


def price_of(model: ExternalModel) -> Price | None:
    """The price of its tokens; None = unknown."""
    if model.is_simulated:
        return Price(0.0, 0.0)
    if model.price is not None:
        return model.price
    listed = client.listed_price(model.model)
    return None if listed is None else Price(*listed)


def budget_errors(here: str, model: ExternalModel, decoding: Decoding) -> Iterator[str]:
    """One line for each reason why the cost of a call of the model whose settings stand at ``here`` has no bound."""
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


def model_errors(here: str, model: ExternalModel, *, dry: bool = False) -> Iterator[str]:
    """One line for each setting at ``here`` with which the model cannot be called; a ``dry`` run needs no keys.

    The types of the settings and ``config/rules.py`` have checked names and counts.
    """
    for parameter in sorted(RESERVED & set(model.params)):
        yield f"{here}.params.{parameter}: the pool sets this itself; leave it out"
    if model.is_simulated:
        yield from _expert_errors(model, here)
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


def _expert_errors(model: ExternalModel, here: str) -> Iterator[str]:
    known = {key: value for key, value in model.params.items() if key in simulated.SETTINGS}
    try:
        TypeAdapter(simulated.Expert).validate_python({"name": model.name, **known})
    except ValidationError as error:
        for details in error.errors():
            yield f"{here}.params.{details['loc'][0]}: {details['input']}: {details['msg']}"
    for key in sorted(set(model.params) - set(simulated.SETTINGS)):
        yield f"{here}.params.{key}: no setting of a simulated expert; there are {', '.join(simulated.SETTINGS)}"


def rejection(here: str, model: ExternalModel, rejected: Rejected, problem: str) -> UsageError:
    """The error for the user when the API rejects a call of the model at ``here``, with the way out."""
    where, way_out = here, "see what the provider says"
    if rejected.status in (401, 403):
        way_out = f"check the key in {model.api_key_env or 'the environment'} and what it is allowed to use"
    elif rejected.status == 404:
        way_out = "check the model's name and api_base"
    elif rejected.is_spent:
        way_out = "the quota is spent: wait, pay, or take the model out"
    elif rejected.parameter:
        where += f".{rejected.parameter}"
        way_out = (
            f"change {rejected.parameter}, leave it out with params: {{{rejected.parameter}: null}}, or let whatever "
            "is refused be left out with on_refused: drop"
        )
    return UsageError(
        f"{where}: {model.name} ({model.model}): refused with status {rejected.status} ({rejected}), "
        f"asked about {problem}; {way_out}"
    )


def misdirection(here: str, model: ExternalModel, found: Unavailable) -> UsageError:
    """The error for the user when something else than the API answers at the address of the model at ``here``."""
    given = without_password(model.api_base) if model.api_base else "null"
    return UsageError(
        f"{here}.api_base: {given}: {model.name} ({model.model}): {found.detail}; "
        "give the address of the API itself (of an OpenAI-compatible server it often ends in /v1)"
    )
