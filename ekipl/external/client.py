"""The only file that knows LiteLLM: it sends one call and returns completions or one of two kinds of failure."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

from ekipl.algorithm.types import Finish
from ekipl.external import simulated
from ekipl.external.request import Call, Completion, Rejected, Unavailable

LOST, UNREADABLE = "connection lost", "unreadable answer"
_FILTERED = {"content_filter", "content_policy_violation"}
_NO_ANSWER = "Error converting to valid response"  # LiteLLM's words for an unreadable body; its status is made up
_GATEWAY_TIMEOUTS = (504, 524)  # the model behind the gateway may have answered
_SHOWN = 300  # characters of a provider's message in ours
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
_SECRET_SHAPE = re.compile(r"(?i)\b(?:sk-|AIza|Bearer\s+)[^\s\"',;]+")
_A_DAY = re.compile(r"(?i)per[ _-]?day|\b[RT]PD\b")  # Gemini's PerDay, OpenAI's "requests per day (RPD)"
_N = re.compile(r"['\"`]n['\"`]|\bn ?[=>]|(?i:candidate)")  # how messages about n > 1 name it


async def complete(call: Call) -> list[Completion]:
    """Send the call once; return 1 to ``call.choices`` completions, which may be faulty.

    Raises:
        Rejected, Unavailable: as their docstrings say.
    """
    litellm, openai = _libraries()
    replies: list[str] = []

    def keep_reply(details: Mapping[str, Any]) -> None:
        if details.get("log_event_type") == "post_api_call":
            replies.append(str(details.get("original_response")))

    request = litellm.acompletion(
        **_sent(call),
        model=call.model,
        messages=list(call.messages),
        api_base=call.api_base,
        api_key=call.api_key,
        timeout=call.timeout_s,
        metadata=call.known,
        logger_fn=keep_reply,
        max_retries=0,  # only the caller retries; with three layers of retries the attempts would multiply
        num_retries=0,
    )
    try:
        # LiteLLM's own timeout restarts with every byte that arrives.
        response = await asyncio.wait_for(request, call.timeout_s)
    except asyncio.TimeoutError:
        raise Unavailable("timeout", may_be_billed=True) from None
    except openai.OpenAIError as error:  # the base of every LiteLLM exception
        if call.known is not None:
            raise  # a bug in a simulated expert
        if _is_filtered(error):
            return [Completion("", "stop", 0, 0, fault="content filter")]
        raise _failure(error, call, replies[-1] if replies else "") from None  # the original error holds the key
    return _completions(response, replies[-1] if replies else "", call.choices)


def unusable(model: str, *, has_key: bool) -> str | None:
    """The reason why LiteLLM cannot call ``model``, found without a call; None = it can."""
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
    """US dollars for a million prompt and completion tokens in LiteLLM's list; None = the model is not in it."""
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
    """Close LiteLLM's connections and forget its clients, so that no later event loop gets a closed client."""
    litellm, _ = _libraries()
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


@cache
def _libraries() -> tuple[Any, Any]:
    """LiteLLM, and the SDK whose exceptions it raises. Their import takes seconds, so it happens here."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the price list of the package, not of the network
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # otherwise LiteLLM loads any .env file in a parent folder
    import litellm
    import openai

    litellm.suppress_debug_info = True  # no prints
    litellm.telemetry = False
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)  # it logs a deprecation warning for each call
    # LiteLLM creates the request's coroutine in another thread; a cancelled call may leave it without an await.
    warnings.filterwarnings("ignore", r"coroutine '\w+\.a(sync_)?completion' was never awaited", RuntimeWarning)
    warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)  # for malformed replies of a server
    litellm.custom_provider_map.append(
        {"provider": simulated.PREFIX.rstrip("/"), "custom_handler": _SimulatedProvider(litellm.Usage)}
    )
    return litellm, openai


class _SimulatedProvider:
    """LiteLLM's handler of ``simulated/NAME``. It has the one method of ``litellm.CustomLLM`` that is called."""

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
        expert, seed = simulated.Expert(model, **settings), optional_params.get("seed", 0)
        text = simulated.reply(expert, litellm_params["metadata"], seed)
        model_response.choices[0].message.content = text
        model_response.choices[0].finish_reason = "stop"
        characters = sum(len(part.get("text", "")) for message in messages for part in message["content"])
        prompt, completion = characters // 4, len(text) // 4  # about four characters a token; images count 0
        model_response.usage = self._usage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        )
        return model_response


def _sent(call: Call) -> dict[str, Any]:
    """The parameters, with ``n`` only where it is above 1: some providers reject even ``n=1``."""
    return {**call.parameters, **({"n": call.choices} if call.choices > 1 else {})}


def _completions(response: Any, reply: str, most: int) -> list[Completion]:
    """The first ``most`` answers of a response: surplus answers are paid for, but no sample number is theirs."""
    usage, version = response.usage, redact(str(response.model or ""), None)
    prompt, billed = max(0, usage.prompt_tokens or 0), max(0, usage.completion_tokens or 0)
    choices = response.choices[:most]
    if not choices:
        return [Completion("", "stop", prompt, billed, version, "empty answer")]
    received = _received(reply)
    shares = [billed // len(choices) + (place < billed % len(choices)) for place in range(len(choices))]
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
    """The messages in the raw body of an OpenAI-style reply; none for other formats (Gemini, Anthropic).

    LiteLLM removes a leading <think>...</think> from the text, which is half of the format that the reward checks.
    The removal cannot be undone: LiteLLM forgets how the tags were spelled, and a reasoning field of the provider
    looks the same. It does not touch replies in other formats.
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
    """The LiteLLM exception as ``Rejected`` or ``Unavailable``."""
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
    return Rejected(status, parameter, redact(message, call.api_key), is_spent=spent)


def _status(error: Any, reply: str) -> int:
    """The HTTP status; where an error comes with status 200 (as from OpenRouter), the status in its body."""
    try:
        code = json.loads(reply)["error"]["code"]
    except (ValueError, LookupError, TypeError):
        code = None
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return error.status_code if isinstance(getattr(error, "status_code", None), int) else 500


def _without_status(error: BaseException) -> str:
    """The reason of a failure without HTTP status, which LiteLLM reports as status 500."""
    import httpx

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any(isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout) for cause in causes):
        return "no connection"
    return LOST if any(isinstance(cause, httpx.TransportError) for cause in causes) else UNREADABLE


def is_spent(status: int, code: object, message: str) -> bool:
    """Whether the money or the day's quota is used up, so that a retry within seconds is useless."""
    return status == 402 or code == "insufficient_quota" or (status == 429 and _A_DAY.search(message) is not None)


def retry_after(headers: Mapping[str, str] | None, message: str) -> float:
    """Seconds to wait: the ``Retry-After`` header (number or date) or Gemini's retryDelay in the body; 0 = neither."""
    header = (headers or {}).get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", header):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        delay = re.search(r'"retryDelay":\s*"(\d+(?:\.\d+)?)s"', message)
        return float(delay[1]) if delay else 0.0


def named_parameter(sent: Mapping[str, object], param: object, message: str) -> str | None:
    """The parameter among ``sent`` that an error names: in its field ``param``, else the first found in its message."""
    if isinstance(param, str) and param in sent:
        return param
    patterns = {key: _N if key == "n" else re.compile(rf"\b{re.escape(key)}\b") for key in sent}
    return next((key for key, pattern in patterns.items() if pattern.search(message)), None)


def redact(message: str, api_key: str | None) -> str:
    """A provider's message as one printable line of at most 300 characters, without ``api_key`` or keys of the env."""
    secrets = {value.strip() for name, value in os.environ.items() if _SECRET_NAME.search(name)} | {api_key or ""}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 8:  # shorter values are no keys, and replacing them would cut words
            message = message.replace(secret, "[key]")
    line = " ".join(_SECRET_SHAPE.sub("[key]", message).split())
    return "".join(c if c.isprintable() else " " for c in line)[:_SHOWN]
