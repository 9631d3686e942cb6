"""The only file that knows LiteLLM: it sends one call and returns completions or one of two kinds of failure."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

from ekipl.external import simulated
from ekipl.external.http import EXCHANGE, UNREADABLE, Exchange, guard
from ekipl.external.reply import FILTERED, completions, native_reasons, openai_answers
from ekipl.external.request import Call, Completion, Rejected, Unavailable
from ekipl.masking import masked

LOST, NOT_SENT = "connection lost", "not sent"
_FILTERED = {"content_filter", "content_policy_violation"}
_NO_ANSWER = "Error converting to valid response"  # LiteLLM's words for an unreadable body; its status is made up
_GATEWAY_TIMEOUTS = (504, 524)  # the model behind the gateway may have answered
_SHOWN = 300  # characters of a provider's message in ours
_A_DAY = re.compile(r"(?i)per[ _-]?day|\b[RT]PD\b")  # Gemini's PerDay, OpenAI's "requests per day (RPD)"
_N = re.compile(r"['\"`]n['\"`]|\bn ?[=>]|(?i:candidate)")  # how messages about n > 1 name it
# How providers say that the question is at fault, and that the model takes no pictures at all.
_ROW_CODES = re.compile(r"(?i)context_length|string_above_max|image|payload|too_large|too_long")
_ROW = re.compile(
    r"(?i)context.{0,3}(length|window|size)|(prompt|input|messages|question).{0,60}"
    r"(too (long|large|many)|exceed|longer than)|too (long|many) (prompt|input)? ?tokens"
    r"|image|picture|pixel|base64|data url"
)
_NO_PICTURES = re.compile(
    r"(?i)(not|n't) (support|accept|take|have)\w* (\w+ )?(image|vision|picture|multi)|no (vision|image) support"
    r"|not a (multi-?modal|vision)"
)


async def complete(call: Call) -> list[Completion]:
    """Send the call once; return 1 to ``call.choices`` completions, which may be faulty.

    Raises:
        Rejected, Unavailable: as their docstrings say.
    """
    litellm, openai = _libraries()
    request = litellm.acompletion(
        **_sent(call),
        model=call.model,
        messages=list(call.messages),
        api_base=call.api_base,
        api_key=call.api_key,
        timeout=call.timeout_s,
        metadata=call.known,
        max_retries=0,  # only the caller retries; with three layers of retries the attempts would multiply
        num_retries=0,
    )
    exchange = Exchange(call.max_body)
    token = EXCHANGE.set(exchange)
    try:
        # LiteLLM's own timeout restarts with every byte that arrives.
        response = await asyncio.wait_for(request, call.timeout_s)
    except asyncio.TimeoutError:
        raise exchange.fault or Unavailable("timeout", may_be_billed=True) from None
    except openai.OpenAIError as error:  # the base of every LiteLLM exception
        if call.known is not None:
            raise  # a bug in a simulated expert
        if answers := _read(exchange, call.choices):
            return answers  # LiteLLM could not read what can be read
        if exchange.fault is None and _is_filtered(error):
            return [Completion("", "stop", 0, 0, fault=FILTERED)]
        raise exchange.fault or _failure(error, call, exchange) from None  # the original error holds the key
    finally:
        EXCHANGE.reset(token)
    return _read(exchange, call.choices) or _of_litellm(response, native_reasons(exchange.parsed()), call.choices)


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
    import httpx
    import litellm
    import openai
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

    guard(LiteLLMAiohttpTransport, httpx.AsyncHTTPTransport)
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


def _read(exchange: Exchange, most: int) -> list[Completion] | None:
    """The answers of an OpenAI-style body; None for another format. Raises Unavailable where it is not to be read."""
    if exchange.fault is not None or exchange.status != 200:
        return None
    try:
        return openai_answers(exchange.parsed(), most)
    except ValueError as error:
        raise Unavailable(UNREADABLE, may_be_billed=True, again=False, detail=str(error)) from None


def _of_litellm(response: Any, reasons: Sequence[object], most: int) -> list[Completion]:
    """The first ``most`` answers of a response as LiteLLM reads it, with the provider's own finish reasons."""
    usage, choices = response.usage, response.choices[:most]
    own = [*reasons, *(choice.finish_reason for choice in choices[len(reasons) :])]
    read = [
        (choice.message.content or "", "content_filter" if choice.finish_reason == "content_filter" else reason, False)
        for choice, reason in zip(choices, own, strict=False)
    ]
    prompt, billed = max(0, usage.prompt_tokens or 0), max(0, usage.completion_tokens or 0)
    return completions(read, prompt, billed, str(response.model or ""))


def _body(error: Any) -> Mapping[str, Any]:
    body = getattr(error, "body", None)
    return body if isinstance(body, dict) else {}


def _is_filtered(error: Any) -> bool:
    litellm, _ = _libraries()
    return _body(error).get("code") in _FILTERED or isinstance(error, litellm.ContentPolicyViolationError)


def _failure(error: Any, call: Call, exchange: Exchange) -> Exception:
    """The LiteLLM exception as ``Rejected`` or ``Unavailable``."""
    body, headers = _body(error), getattr(error, "litellm_response_headers", None)
    status, message = _status(error, exchange), str(error)
    told = redact(message, call.api_key)
    if status == 408:
        return Unavailable("timeout", may_be_billed=True)
    if _NO_ANSWER in message or (exchange.status == 200 and _told(exchange) is None):
        return Unavailable(UNREADABLE, may_be_billed=True, again=exchange.parsed() is None, detail=told)
    spent = is_spent(status, body.get("code"), message)
    if status == 429 and not spent:
        return Unavailable("rate limited", retry_after(headers, message))
    if status >= 500 or status == 409:
        reason = "server error" if headers is not None or status != 500 else _without_status(error)
        if reason == UNREADABLE and not exchange.sent:
            return Unavailable(NOT_SENT, again=False, detail=told)  # LiteLLM or the SDK could not write the request
        billed = reason in (LOST, UNREADABLE) or status in _GATEWAY_TIMEOUTS
        return Unavailable(reason, retry_after(headers, message), may_be_billed=billed)
    parameter = named_parameter(_sent(call), body.get("param"), message) if status in (400, 422) else None
    of_row = is_of_row(status, body, message, parameter)
    return Rejected(status, None if of_row else parameter, told, is_spent=spent, of_row=of_row)


def is_of_row(status: int, body: Mapping[str, Any], message: str, parameter: str | None) -> bool | None:
    """Whether a refusal is about the question and not the settings; None where the provider does not say."""
    field, message = str(body.get("param") or ""), str(body.get("message") or message)
    if _NO_PICTURES.search(message) or (parameter is not None and parameter == field):
        return False
    if status in (413, 415) or field.startswith(("messages", "input", "content")):
        return True
    if _ROW_CODES.search(str(body.get("code") or "")) or _ROW.search(message):
        return True
    return None if parameter is None else False


def _status(error: Any, exchange: Exchange) -> int:
    """The HTTP status; where an error comes with status 200 (as from OpenRouter), the status in its body."""
    if (code := _told(exchange)) is not None:
        return code
    return error.status_code if isinstance(getattr(error, "status_code", None), int) else 500


def _told(exchange: Exchange) -> int | None:
    """The status that the body of an error names."""
    try:
        code = exchange.parsed()["error"]["code"]
    except (LookupError, TypeError):
        return None
    return code if isinstance(code, int) and 400 <= code < 600 else None


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
    """A provider's message as one printable line of at most 300 characters, without ``api_key`` or other secrets."""
    line = " ".join(masked(message, [api_key or ""]).split())
    return "".join(c if c.isprintable() else " " for c in line)[:_SHOWN]
