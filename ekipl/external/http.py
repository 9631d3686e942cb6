"""A guard around the HTTP answers of external calls: size, redirects and kind are checked while they arrive.

It sits in the transport, below LiteLLM and the SDKs, which would unpack and parse a body of any size and follow a
redirect with the whole request. It acts only inside a call that has an ``Exchange``.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx

from ekipl.external.request import Unavailable

MB = 10**6
PACKED = ("gzip", "deflate")  # the encodings that are asked for and unpacked here, within the limit
TOO_LARGE, WEB_PAGE, REDIRECTED = "answer too large", "web page instead of an answer", "redirected to another host"
UNREADABLE = "unreadable answer"
_HTML = re.compile(rb"\s*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}

Send = Callable[[Any, httpx.Request], Awaitable[httpx.Response]]


@dataclass
class Exchange:
    """What one call has sent and received.

    Attributes:
        limit: most bytes of a body, as it arrives and unpacked.
        sent: whether a request was handed to the network.
        status: of the last answer; 0 = none.
        body: of the last answer, unpacked.
        fault: why the guard ended the call.
    """

    limit: int
    sent: bool = False
    status: int = 0
    body: bytes = b""
    fault: Unavailable | None = None

    def parsed(self) -> Any:
        """The body as JSON values; None where it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    async def receive(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        """The answer with its whole body in memory. Raises Unavailable when it must not be used."""
        try:
            address = shown(request.url)
            _refuse_stranger(request.url, response, address)
            packed = await _arrived(response, self.limit, address)
            self.body, self.status = _unpacked(packed, response, self.limit, address), response.status_code
            if response.is_success and (
                "html" in response.headers.get("content-type", "").lower() or _HTML.match(self.body)
            ):
                raise Unavailable(
                    WEB_PAGE,
                    may_be_billed=True,
                    detail=f"{address} answers with a web page (HTML) and status {self.status}",
                    misdirected=True,
                )
        except Unavailable as fault:
            self.fault = fault
            raise
        left_out = ("content-encoding", "content-length", "transfer-encoding")
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in left_out]
        return httpx.Response(self.status, headers=headers, content=self.body, request=request)


EXCHANGE: ContextVar[Exchange | None] = ContextVar("ekipl_exchange", default=None)


def guard(*transports: Any) -> None:
    """Let each of these classes of httpx transports check its answers, in calls that have an ``Exchange``."""
    for transport in transports:
        transport.handle_async_request = _guarded(transport.handle_async_request)


def _guarded(send: Send) -> Send:
    async def handle_async_request(self: Any, request: httpx.Request) -> httpx.Response:
        exchange = EXCHANGE.get()
        if exchange is None:
            return await send(self, request)
        request.headers["accept-encoding"] = ", ".join(PACKED)
        # httpx has made a header of them; aiohttp would refuse to send both
        request.url = request.url.copy_with(username=None, password=None)
        exchange.sent = True
        response = await send(self, request)
        try:
            return await exchange.receive(request, response)
        finally:
            await response.aclose()

    return handle_async_request


def shown(url: httpx.URL) -> str:
    """The address without user, password and query."""
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.host}{port}{url.path}"


def _refuse_stranger(url: httpx.URL, response: httpx.Response, address: str) -> None:
    """Raises Unavailable for a redirect to another origin; http may become https on the same host."""
    if not response.has_redirect_location:
        return
    try:
        target = url.join(response.headers["location"])
    except (httpx.InvalidURL, ValueError):
        raise Unavailable(REDIRECTED, again=False, detail=f"{address} redirects to no address") from None
    origins = [(each.scheme, each.host, each.port or _DEFAULT_PORTS.get(each.scheme)) for each in (url, target)]
    secured = origins == [("http", url.host, 80), ("https", url.host, 443)]
    if origins[0] != origins[1] and not secured:
        raise Unavailable(
            REDIRECTED,
            again=False,
            detail=f"{address} redirects to {shown(target)}, where nothing was sent",
            misdirected=True,
        )


async def _arrived(response: httpx.Response, limit: int, address: str) -> bytes:
    """The body as it was sent."""
    told = response.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise _too_large(limit, address)
    parts, size = [], 0
    async with aclosing(aiter(response.stream)) as stream:  # type: ignore[arg-type, type-var]
        async for part in stream:
            size += len(part)
            if size > limit:
                raise _too_large(limit, address)
            parts.append(part)
    return b"".join(parts)


def _unpacked(body: bytes, response: httpx.Response, limit: int, address: str) -> bytes:
    for name in reversed([name.strip().lower() for name in response.headers.get("content-encoding", "").split(",")]):
        if name in ("", "identity") or not body:
            continue
        if name.removeprefix("x-") not in PACKED:
            detail = f"{address} packs its answer as {name[:20]}, which was not asked for"
            raise Unavailable(UNREADABLE, may_be_billed=True, again=False, detail=detail)
        body = _inflated(body, limit, address)
    return body


def _inflated(body: bytes, limit: int, address: str) -> bytes:
    for bits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # gzip or zlib by its header; without header
        unpacker = zlib.decompressobj(bits)
        try:
            found = unpacker.decompress(body, limit + 1)
        except zlib.error:
            continue
        if len(found) > limit:
            raise _too_large(limit, address)
        if unpacker.eof:
            return found
    raise Unavailable(UNREADABLE, may_be_billed=True, detail=f"{address}: its packed answer is broken")


def _too_large(limit: int, address: str) -> Unavailable:
    detail = f"{address} sends more than external.max_body_mb={limit / MB:g}"
    return Unavailable(TOO_LARGE, may_be_billed=True, again=False, detail=detail)
