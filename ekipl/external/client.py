"""The one file that knows LiteLLM: a call goes in; a completion, or one of two kinds of failure, comes out."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ekipl.algorithm.types import Finish
from ekipl.external import simulated
from ekipl.external.provider import is_spent, named_parameter, redact, retry_after

LOST, UNREADABLE = "connection lost", "unreadable answer"
_FILTERED = {"content_filter", "content_policy_violation"}
_NO_ANSWER = "Error converting to valid response"  # LiteLLM of a body that it cannot read, with a status of its own
_GATEWAY_TIMEOUTS = (504, 524)  # the model behind the gateway may have answered


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        model: as LiteLLM writes it, ``provider/model``.
        messages: of the OpenAI chat format.
        parameters: decoding and whatever else the provider understands.
        api_base: another address than the provider's own.
        api_key: None leaves the search to LiteLLM.
        timeout_s: seconds until the answer must be complete.
        known: what a simulated expert knows; None for a real model.
        choices: completions asked for, the API's ``n``.
    """

    model: str
    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    parameters: Mapping[str, Any]
    api_base: str | None
    api_key: str | None = field(repr=False)
    timeout_s: float
    known: Mapping[str, Any] | None = field(default=None, repr=False)
    choices: int = 1


@dataclass(frozen=True)
class Completion:
    """A model's answer, character for character, and the tokens that its provider counted (0: not told).

    ``fault`` says why there is nothing in it to learn from, ``version`` which model the provider says has answered,
    ``shared`` how many answers came for the one prompt whose tokens are counted here.
    """

    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    version: str = ""
    fault: str | None = None
    shared: int = 1


class Refused(Exception):
    """Asking again gives the same: a bad key, an unknown model, a refused parameter, a spent quota.

    ``status`` is the HTTP status, ``parameter`` the one that was refused where the provider names it, ``is_spent``
    whether it is the quota.
    """

    def __init__(self, status: int, parameter: str | None, message: str, *, is_spent: bool = False) -> None:
        super().__init__(message)
        self.status, self.parameter, self.is_spent = status, parameter, is_spent


class Unavailable(Exception):
    """Asking again may help, not before ``retry_after_s`` seconds.

    ``may_be_billed``: the request arrived, and no error was told; the provider may have answered and will say so on
    its bill.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0, *, may_be_billed: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s, self.may_be_billed = retry_after_s, may_be_billed


async def complete(call: Call) -> list[Completion]:
    """Asks once. As many completions as came, at least one (maybe faulty) and at most ``call.choices``.

    Raises:
        Refused, Unavailable: see there.
    """
    litellm, openai = _libraries()
    replies: list[str] = []

    def keep(details: Mapping[str, Any]) -> None:
        if details.get("log_event_type") == "post_api_call":
            replies.append(str(details.get("original_response")))

    asked = litellm.acompletion(
        **_sent(call),
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
            return [Completion("", "stop", 0, 0, fault="content filter")]
        raise _failure(error, call, replies[-1] if replies else "") from None  # the original holds the key
    return _completions(response, replies[-1] if replies else "", call.choices)


def _sent(call: Call) -> dict[str, Any]:
    """The parameters with ``n``, which some providers refuse even as 1."""
    return {**call.parameters, **({"n": call.choices} if call.choices > 1 else {})}


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
    warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)  # of nonsense that a server sent
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


def _completions(response: Any, reply: str, most: int) -> list[Completion]:
    """The answers that came, ``most`` at most: what is sent beyond is paid for, but no sample has its number."""
    usage, version = response.usage, redact(str(response.model or ""), None)
    prompt, told = max(0, usage.prompt_tokens or 0), max(0, usage.completion_tokens or 0)
    choices = response.choices[:most]
    if not choices:
        return [Completion("", "stop", prompt, told, version, "empty answer")]
    received = _received(reply)
    shares = [told // len(choices) + (place < told % len(choices)) for place in range(len(choices))]
    return [
        _completion(choice, received[place] if place < len(received) else {}, prompt, share, version, len(choices))
        for place, (choice, share) in enumerate(zip(choices, shares, strict=True))
    ]


def _completion(
    choice: Any, received: Mapping[str, Any], prompt: int, completion: int, version: str, shared: int
) -> Completion:
    text = received.get("content")
    text = text if isinstance(text, str) else choice.message.content or ""
    finish: Finish = "length" if choice.finish_reason == "length" else "stop"
    fault = None
    if choice.finish_reason == "content_filter":
        fault = "content filter"
    elif not text.strip():
        fault = "refusal" if received.get("refusal") else "empty answer"
    return Completion(text, finish, prompt, completion, version, fault, shared)


def _received(reply: str) -> list[Mapping[str, Any]]:
    """The messages in the body of an OpenAI-style reply; none for replies of other shapes (Gemini, Anthropic).

    LiteLLM takes a leading <think>...</think> out of the text, which is half of the format that the reward asks for.
    Its split cannot be undone: it forgets which spelling of the tags it took, and a reasoning field that the provider
    sent looks the same. Replies of other shapes it leaves alone.
    """
    try:
        messages = [choice["message"] for choice in json.loads(reply)["choices"]]
    except (ValueError, LookupError, TypeError):
        return []
    return [message if isinstance(message, dict) else {} for message in messages]


def _body(error: Any) -> Mapping[str, Any]:
    body = getattr(error, "body", None)
    return body if isinstance(body, dict) else {}


def _is_filtered(error: Any) -> bool:
    litellm, _ = _libraries()
    return _body(error).get("code") in _FILTERED or isinstance(error, litellm.ContentPolicyViolationError)


def _failure(error: Any, call: Call, reply: str) -> Exception:
    """Which of the two failures an exception of LiteLLM stands for."""
    body, headers = _body(error), getattr(error, "litellm_response_headers", None)
    status, message = _status(error, reply), str(error)
    if status == 408:
        return Unavailable("timeout", may_be_billed=True)
    if _NO_ANSWER in message:
        return Unavailable(UNREADABLE, may_be_billed=True)
    spent = is_spent(status, body.get("code"), message)
    if status == 429 and not spent:
        return Unavailable("rate limited", retry_after(headers, message))
    if status >= 500 or status == 409:
        reason = "server error" if headers is not None or status != 500 else _without_status(error)
        billed = reason in (LOST, UNREADABLE) or status in _GATEWAY_TIMEOUTS
        return Unavailable(reason, retry_after(headers, message), may_be_billed=billed)
    parameter = named_parameter(_sent(call), body.get("param"), message) if status in (400, 422) else None
    return Refused(status, parameter, redact(message, call.api_key), is_spent=spent)


def _status(error: Any, reply: str) -> int:
    """The HTTP status; that of the body, where an error comes as an answer with status 200 (OpenRouter does that)."""
    try:
        code = json.loads(reply)["error"]["code"]
    except (ValueError, LookupError, TypeError):
        code = None
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return error.status_code if isinstance(getattr(error, "status_code", None), int) else 500


def _without_status(error: BaseException) -> str:
    """What went wrong where no HTTP status was told; LiteLLM makes a status 500 of all of it."""
    import httpx

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any(isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout) for cause in causes):
        return "no connection"
    return LOST if any(isinstance(cause, httpx.TransportError) for cause in causes) else UNREADABLE
