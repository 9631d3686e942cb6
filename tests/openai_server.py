"""A real HTTP server on loopback that speaks OpenAI's chat completions, images included.

In a test: ``with OpenAIServer(script) as server: ... server.url``. As a process: ``python tests/openai_server.py``
prints its URL and answers every question with a made-up digit until it is stopped.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PNG = "data:image/png;base64,"


@dataclass(frozen=True)
class Request:
    """One request as it arrived; ``number`` counts all requests from 0."""

    number: int
    time: float
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def parts(self) -> list[dict[str, Any]]:
        return self.body["messages"][-1]["content"]

    @property
    def images(self) -> list[bytes]:
        urls = [part["image_url"]["url"] for part in self.parts if part["type"] == "image_url"]
        return [base64.b64decode(url.removeprefix(PNG), validate=True) for url in urls]

    @property
    def prompt(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "text")


@dataclass(frozen=True)
class Reply:
    """What to answer: a completion with ``text``, an OpenAI error for another status, or exactly ``body``."""

    text: str | None = None
    status: int = 200
    texts: tuple[str, ...] = ()  # of several choices, in place of ``text``
    finish: str | None = "stop"
    message: Mapping[str, Any] = field(default_factory=dict)  # further fields of the assistant's message
    error: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    usage: Mapping[str, int] = field(default_factory=dict)  # in place of the words counted
    body: bytes | None = None
    delay_s: float = 0.0  # before the answer
    drip_s: float = 0.0  # between the bytes of the answer
    reset: bool = False  # hang up in the middle of the answer

    def content(self, request: Request) -> bytes:
        if self.body is not None:
            return self.body
        if self.status != 200:
            return json.dumps({"error": {"message": "no", "type": "error", "param": None, **self.error}}).encode()
        texts = self.texts or (self.text,) * request.body.get("n", 1)
        prompt, completion = len(request.prompt.split()), sum(len((text or "").split()) for text in texts)
        messages = [{"role": "assistant", "content": text, **self.message} for text in texts]
        return json.dumps(
            {
                "id": f"chatcmpl-{request.number}",
                "object": "chat.completion",
                "created": int(request.time),
                "model": request.body["model"],
                "choices": [
                    {"index": i, "message": message, "finish_reason": self.finish} for i, message in enumerate(messages)
                ],
                "usage": {
                    "prompt_tokens": prompt,
                    "completion_tokens": completion,
                    "total_tokens": prompt + completion,
                    **self.usage,
                },
            }
        ).encode()


def digits(request: Request) -> Reply:
    """Another digit for every request, and for every choice in it."""
    seen = f"{len(request.images)} images"

    def text(choice: int) -> str:
        digit = (request.number + choice) % 10
        return f"<think>request {request.number} with {seen}</think>\n<answer>{digit}</answer>"

    return Reply(texts=tuple(text(choice) for choice in range(request.body.get("n", 1))))


class Faults:
    """Answers like ``digits``, but for a share of the requests something goes wrong, in one of many ways.

    ``answers`` are the numbers of the replies that a provider would charge for; ``sent`` counts all by kind.
    """

    def __init__(self, seed: int, share: float, hang_s: float) -> None:
        self.seed, self.share = seed, share
        self.answers: set[int] = set()
        self.sent: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._kinds = {
            "429": Reply(status=429),
            "429 with Retry-After": Reply(status=429, headers={"retry-after": "0.1"}),
            "500": Reply(status=500),
            "503": Reply(status=503),
            "hang": Reply("late", delay_s=hang_s),
            "slow drip": Reply("drop by drop", drip_s=hang_s / 200),
            "reset in mid-body": Reply("half " * 100, reset=True),
            "invalid JSON": Reply(body=b'{"choices": [{"message"'),
            "not UTF-8": Reply(body=b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
        }
        self._answers = {
            "no choices": Reply(body=b'{"id": "x", "object": "chat.completion", "model": "m", "choices": []}'),
            "two choices": Reply("one", body=_two_choices()),
            "content filter": Reply("half", finish="content_filter"),
            "refusal": Reply(None, message={"refusal": "I cannot"}),
            "1 MB": Reply("x" * 1_000_000, finish="length"),
        }

    def __call__(self, request: Request) -> Reply:
        rng = random.Random(f"{self.seed}/{request.number}")
        kind = rng.choice([*self._kinds, *self._answers]) if rng.random() < self.share else "answer"
        with self._lock:
            self.sent[kind] += 1
            if kind not in self._kinds:
                self.answers.add(request.number)
        return {**self._kinds, **self._answers}.get(kind) or digits(request)


def _two_choices() -> bytes:
    choices = [
        {"index": i, "message": {"role": "assistant", "content": "one"}, "finish_reason": "stop"} for i in (0, 1)
    ]
    return json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": choices}).encode()


class _Server(ThreadingHTTPServer):
    request_queue_size = 512  # connections that come at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet about clients that were killed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class OpenAIServer:
    """Serves on a free port from ``with`` to the end of the block; keeps every request, and the most it had at once."""

    def __init__(self, script: Callable[[Request], Reply] = digits, port: int = 0) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.most_in_flight = 0
        self.finished: set[int] = set()  # numbers of the requests whose reply was written to its end
        self._open = 0  # requests that are being served
        self._in_flight = 0
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", port), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> OpenAIServer:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def settle(self) -> None:
        """Waits until no request is being served."""
        while self._open:
            time.sleep(0.01)

    def serve(self) -> None:
        self._http.serve_forever()

    def _answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[Request, Reply, bytes]:
        with self._lock:
            request = Request(len(self.requests), time.time(), path, headers, json.loads(body))
            self.requests.append(request)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            reply = self.script(request)
            time.sleep(reply.delay_s)
            return request, reply, reply.content(request)
        finally:
            with self._lock:
                self._in_flight -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                with server._lock:
                    server._open += 1
                try:
                    self._serve()
                finally:
                    with server._lock:
                        server._open -= 1

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {key.lower(): value for key, value in self.headers.items()}
                request, reply, content = server._answer(self.path, headers, body)
                try:
                    self.send_response(reply.status)
                    for key, value in {"content-type": "application/json", **reply.headers}.items():
                        self.send_header(key, value)
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    if reply.reset:
                        self.wfile.write(content[: len(content) // 2])
                        self.close_connection = True
                        return
                    if reply.drip_s:
                        for byte in content:
                            self.wfile.write(bytes([byte]))
                            time.sleep(reply.drip_s)
                    self.wfile.write(b"" if reply.drip_s else content)
                    server.finished.add(request.number)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client gave up waiting

            def log_message(self, *_: object) -> None: ...

        return Handler


if __name__ == "__main__":
    process = OpenAIServer(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(process.url, flush=True)
    process.serve()
