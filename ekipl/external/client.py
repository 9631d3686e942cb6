"""The one file that knows LiteLLM: a call goes in; a completion, or one of three kinds of failure, comes out."""

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
    """A model's answer, character for character, and the tokens that its provider counted."""

    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int


class Refused(Exception):
    """Asking again gives the same: a bad key, an unknown model, a refused parameter, a spent quota.

    ``status`` is the HTTP status, ``parameter`` the one that was refused where the provider names it.
    """

    def __init__(self, status: int, parameter: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.parameter = status, parameter


class Unavailable(Exception):
    """Asking again may help, not before ``retry_after_s`` seconds."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Withheld(Exception):
    """There is an answer, and nothing in it to learn from."""


async def complete(call: Call) -> Completion:
    """Asks once.

    Raises:
        Refused, Unavailable, Withheld: see there.
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
        raise Unavailable("timeout") from None
    except openai.OpenAIError as error:  # every exception of LiteLLM is one
        if call.known is not None:
            raise  # our own code failed
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
    if not response.choices:
        raise Withheld("empty answer")
    choice, usage = response.choices[0], response.usage
    if choice.finish_reason == "content_filter":
        raise Withheld("content filter")
    text = _received(reply) or choice.message.content
    if not text or not text.strip():
        raise Withheld("empty answer")
    finish: Finish = "length" if choice.finish_reason == "length" else "stop"
    return Completion(text, finish, usage.prompt_tokens, usage.completion_tokens)


def _received(reply: str) -> str | None:
    """The text in the body of an OpenAI-style reply.

    LiteLLM takes a leading <think>...</think> out of the text, which is half of the format that the reward asks for.
    Its split cannot be undone: it forgets which spelling of the tags it took, and a reasoning field that the provider
    sent looks the same. Replies of other shapes (Gemini, Anthropic) it leaves alone.
    """
    try:
        text = json.loads(reply)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None
    return text if isinstance(text, str) else None


def _failure(error: Any, call: Call) -> Exception:
    """Which of the three failures an exception of LiteLLM stands for."""
    litellm, _ = _libraries()
    status = error.status_code if isinstance(getattr(error, "status_code", None), int) else 500
    body = error.body if isinstance(getattr(error, "body", None), dict) else {}
    headers = getattr(error, "litellm_response_headers", None)
    message = str(error)
    if body.get("code") in _FILTERED or isinstance(error, litellm.ContentPolicyViolationError):
        return Withheld("content filter")
    if status == 408:
        return Unavailable("timeout")
    is_spent = body.get("code") == "insufficient_quota" or "PerDay" in message  # Gemini's name for a daily quota
    if status == 429 and not is_spent:
        return Unavailable("rate limited", _retry_after(headers, message))
    if status >= 500 or status == 409:
        return Unavailable("server error", _retry_after(headers, message))
    named = [key for key in call.parameters if key == body.get("param") or re.search(rf"\b{re.escape(key)}\b", message)]
    parameter = named[0] if named and status in (400, 422) else None
    return Refused(status, parameter, redact(message, call.api_key))


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
