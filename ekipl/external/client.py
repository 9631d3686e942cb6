"""The one file that knows LiteLLM: a call goes in; a completion, or one of two kinds of failure, comes out."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

from ekipl.actions import Finish
from ekipl.external import simulated

_SHOWN = 300  # characters of a provider's message in one of ours
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
_SECRET_SHAPE = re.compile(r"(?i)\b(?:sk-|AIza|Bearer\s+)[^\s\"',;]+")
LOST, UNREADABLE = "connection lost", "unreadable answer"
_FILTERED = {"content_filter", "content_policy_violation"}


@dataclass(frozen=True)
class Call:
    """One request for one completion.

    Attributes:
        model: as LiteLLM writes it, ``provider/model``.
        messages: of the OpenAI chat format.
        parameters: decoding and whatever else the provider understands.
        api_base: another address than the provider's own.
        api_key: None leaves the search to LiteLLM.
        timeout_s: seconds until the answer must be complete.
        known: what a simulated expert knows; None for a real model.
    """

    model: str
    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    parameters: Mapping[str, Any]
    api_base: str | None
    api_key: str | None = field(repr=False)
    timeout_s: float
    known: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Completion:
    """A model's answer, character for character, and the tokens that its provider counted (0: not told).

    ``fault`` says why there is nothing in it to learn from, ``version`` which model the provider says has answered.
    """

    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    version: str = ""
    fault: str | None = None


class Refused(Exception):
    """Asking again gives the same: a bad key, an unknown model, a refused parameter, a spent quota.

    ``status`` is the HTTP status, ``parameter`` the one that was refused where the provider names it.
    """

    def __init__(self, status: int, parameter: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.parameter = status, parameter


class Unavailable(Exception):
    """Asking again may help, not before ``retry_after_s`` seconds.

    ``may_be_billed``: the request arrived, and no error was told; the provider may have answered and will say so on
    its bill.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0, *, may_be_billed: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s, self.may_be_billed = retry_after_s, may_be_billed


async def complete(call: Call) -> Completion:
    """Asks once.

    Raises:
        Refused, Unavailable: see there.
    """
    litellm, openai = _libraries()
    replies: list[str] = []

    def keep(details: Mapping[str, Any]) -> None:
        if details.get("log_event_type") == "post_api_call":
            replies.append(str(details.get("original_response")))

    asked = litellm.acompletion(
        **call.parameters,
        model=call.model,
        messages=list(call.messages),
        api_base=call.api_base,
        api_key=call.api_key,
        timeout=call.timeout_s,
        metadata=call.known,
        logger_fn=keep,
        max_retries=0,  # retries are the pool's, or three layers of them would multiply
        num_retries=0,
    )
    try:
        # LiteLLM's own timeout starts anew with every byte that arrives.
        response = await asyncio.wait_for(asked, call.timeout_s)
    except asyncio.TimeoutError:
        raise Unavailable("timeout", may_be_billed=True) from None
    except openai.OpenAIError as error:  # every exception of LiteLLM is one
        if call.known is not None:
            raise  # our own code failed
        if _is_filtered(error):
            return Completion("", "stop", 0, 0, fault="content filter")
        raise _failure(error, call) from None  # the original holds the request with its key
    return _completion(response, replies[-1] if replies else "")


def unusable(model: str, *, has_key: bool) -> str | None:
    """Why LiteLLM cannot call ``model``, found out without a call; None when nothing is missing."""
    litellm, openai = _libraries()
    try:
        litellm.get_llm_provider(model)
    except openai.OpenAIError:
        return "LiteLLM knows no such provider; write provider/model, for example openai/gpt-4o-2024-11-20"
    if has_key:
        return None
    missing = [name for name in litellm.validate_environment(model)["missing_keys"] if name.endswith("_API_KEY")]
    if not missing:
        return None
    return f"the environment variable {' or '.join(missing)} is not set; set it, or name another under api_key_env"


def listed_price(model: str) -> tuple[float, float] | None:
    """Dollars for a million prompt and completion tokens by LiteLLM's list; None where the model is not in it."""
    litellm, _ = _libraries()
    provider, _, name = model.partition("/")
    for known in (model, name):
        entry = litellm.model_cost.get(known, {})
        costs = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
        if entry.get("litellm_provider") == provider and None not in costs:
            thoughts = entry.get("output_cost_per_reasoning_token") or 0.0
            return 1e6 * costs[0], 1e6 * max(costs[1], thoughts)
    return None


async def close() -> None:
    """Closes the connections that LiteLLM holds."""
    litellm, _ = _libraries()
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()  # or a later loop could be handed a closed client


@cache
def _libraries() -> tuple[Any, Any]:
    """LiteLLM and the SDK it raises the exceptions of; imported late, for it takes seconds."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its price list from the package, not from the network
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # otherwise it loads any .env file above it
    import litellm
    import openai

    litellm.suppress_debug_info = True  # no prints
    litellm.telemetry = False
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)  # one deprecation warning a call
    # It makes the request's coroutine in another thread; a call cancelled meanwhile never comes to await it.
    warnings.filterwarnings("ignore", r"coroutine '\w+\.a(sync_)?completion' was never awaited", RuntimeWarning)
    litellm.custom_provider_map.append(
        {"provider": simulated.PREFIX.rstrip("/"), "custom_handler": _SimulatedProvider(litellm.Usage)}
    )
    return litellm, openai


class _SimulatedProvider:
    """What LiteLLM calls for ``simulated/NAME``: the one method of ``litellm.CustomLLM`` that is used."""

    def __init__(self, usage: Any) -> None:
        self._usage = usage

    async def acompletion(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        model_response: Any,
        optional_params: Mapping[str, Any],
        litellm_params: Mapping[str, Any],
        **_: Any,
    ) -> Any:
        settings = {key: optional_params[key] for key in simulated.SETTINGS if key in optional_params}
        text = simulated.reply(simulated.Expert(model, **settings), litellm_params["metadata"])
        model_response.choices[0].message.content = text
        model_response.choices[0].finish_reason = "stop"
        asked = sum(len(part.get("text", "")) for message in messages for part in message["content"])
        prompt, completion = asked // 4, len(text) // 4  # about four characters a token; images are not counted
        model_response.usage = self._usage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        )
        return model_response


def _completion(response: Any, reply: str) -> Completion:
    usage, version = response.usage, redact(str(response.model or ""), None)
    tokens = (usage.prompt_tokens or 0, usage.completion_tokens or 0)
    if not response.choices:
        return Completion("", "stop", *tokens, version, "empty answer")
    choice = response.choices[0]
    received = _received(reply)
    text = received.get("content")
    text = text if isinstance(text, str) else choice.message.content or ""
    finish: Finish = "length" if choice.finish_reason == "length" else "stop"
    fault = None
    if choice.finish_reason == "content_filter":
        fault = "content filter"
    elif not text.strip():
        fault = "refusal" if received.get("refusal") else "empty answer"
    return Completion(text, finish, *tokens, version, fault)


def _received(reply: str) -> Mapping[str, Any]:
    """The message in the body of an OpenAI-style reply; empty for replies of other shapes (Gemini, Anthropic).

    LiteLLM takes a leading <think>...</think> out of the text, which is half of the format that the reward asks for.
    Its split cannot be undone: it forgets which spelling of the tags it took, and a reasoning field that the provider
    sent looks the same. Replies of other shapes it leaves alone.
    """
    try:
        message = json.loads(reply)["choices"][0]["message"]
    except (ValueError, LookupError, TypeError):
        return {}
    return message if isinstance(message, dict) else {}


def _body(error: Any) -> Mapping[str, Any]:
    body = getattr(error, "body", None)
    return body if isinstance(body, dict) else {}


def _is_filtered(error: Any) -> bool:
    litellm, _ = _libraries()
    return _body(error).get("code") in _FILTERED or isinstance(error, litellm.ContentPolicyViolationError)


def _failure(error: Any, call: Call) -> Exception:
    """Which of the two failures an exception of LiteLLM stands for."""
    status = error.status_code if isinstance(getattr(error, "status_code", None), int) else 500
    body, headers = _body(error), getattr(error, "litellm_response_headers", None)
    message = str(error)
    if status == 408:
        return Unavailable("timeout", may_be_billed=True)
    is_spent = body.get("code") == "insufficient_quota" or "PerDay" in message  # Gemini's name for a daily quota
    if status == 429 and not is_spent:
        return Unavailable("rate limited", _retry_after(headers, message))
    if status >= 500 or status == 409:
        reason = "server error" if headers is not None else _without_status(error)
        return Unavailable(reason, _retry_after(headers, message), may_be_billed=reason in (LOST, UNREADABLE))
    named = [key for key in call.parameters if key == body.get("param") or re.search(rf"\b{re.escape(key)}\b", message)]
    parameter = named[0] if named and status in (400, 422) else None
    return Refused(status, parameter, redact(message, call.api_key))


def _without_status(error: BaseException) -> str:
    """What went wrong where no HTTP status was told; LiteLLM makes a status 500 of all of it."""
    import httpx

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any(isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout) for cause in causes):
        return "no connection"
    return LOST if any(isinstance(cause, httpx.TransportError) for cause in causes) else UNREADABLE


def _retry_after(headers: Mapping[str, str] | None, message: str) -> float:
    """Seconds to wait: the header's number or date, or Gemini's retryDelay in the body; 0 where none is told."""
    told = (headers or {}).get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", told):
        return float(told)
    if told:
        try:
            return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
        except ValueError:
            return 0.0
    delay = re.search(r'"retryDelay":\s*"(\d+(?:\.\d+)?)s"', message)
    return float(delay[1]) if delay else 0.0


def redact(message: str, api_key: str | None) -> str:
    """A provider's message in one short printable line without keys: not ours, not one from the environment."""
    secrets = {value.strip() for name, value in os.environ.items() if _SECRET_NAME.search(name)} | {api_key or ""}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 8:  # shorter ones are no keys, and would tear words apart
            message = message.replace(secret, "[key]")
    line = " ".join(_SECRET_SHAPE.sub("[key]", message).split())
    return "".join(c if c.isprintable() else " " for c in line)[:_SHOWN]
