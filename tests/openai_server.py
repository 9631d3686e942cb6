"""A real HTTP server on loopback that speaks OpenAI's chat completions, images included.

In a test: ``with OpenAIServer(script) as server: ... server.url``. As a process: ``python tests/openai_server.py``
prints its URL and answers every question with a made-up digit until it is stopped.
"""

from __future__ import annotations

import base64
import json
import random
import select
import socket
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
    texts: tuple[str, ...] | None = None  # of several choices, in place of ``text``
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
        texts = (self.text,) * request.body.get("n", 1) if self.texts is None else self.texts
        prompt, completion = len(request.prompt.split()), sum(len((text or "").split()) for text in texts)
        messages = [{"role": "assistant", "content": text, **self.message} for text in texts]
        return json.dumps(
            {
                "id": f"chatcmpl-{request.number}",
                "object": "chat.completion",
                "created": int(request.time),
                "model": f"{request.body['model']}-{request.number}",  # an answer tells its request
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
            "no choices": Reply(texts=()),
            "two choices": Reply(texts=("one", "one")),
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


class _Server(ThreadingHTTPServer):
    request_queue_size = 512  # connections that come at once

    def __init__(self, *arguments: Any) -> None:
        self.connections = 0  # that are open
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self.connections += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        super().process_request_thread(request, client_address)
        with self._lock:
            self.connections -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet about clients that were killed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class OpenAIServer:
    """Serves on a free port from ``with`` to the end of the block; keeps every request, and the most it had at once.

    ``finished`` are the numbers of the requests whose reply was written to its end while the client was there, and
    ``left`` those whose client had hung up before.
    """

    def __init__(self, script: Callable[[Request], Reply] = digits, port: int = 0) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.most_in_flight = 0
        self.finished: set[int] = set()
        self.left: set[int] = set()
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
        """Waits until all is served that came before; the clients must have closed their connections."""
        with socket.create_connection(self._http.server_address[:2]) as last:  # connections are taken in their order
            last.sendall(b"PING / HTTP/1.0\r\n\r\n")
            last.recv(1)
        while self._http.connections:
            time.sleep(0.01)

    def serve(self) -> None:
        self._http.serve_forever()

    def _answer(
        self, path: str, headers: Mapping[str, str], body: bytes, wait: Callable[[float], object]
    ) -> tuple[Request, Reply, bytes]:
        with self._lock:
            request = Request(len(self.requests), time.time(), path, headers, json.loads(body))
            self.requests.append(request)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            reply = self.script(request)
            wait(reply.delay_s)
            return request, reply, reply.content(request)
        finally:
            with self._lock:
                self._in_flight -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:  # the client was killed
                    self.close_connection = True
                    return
                headers = {key.lower(): value for key, value in self.headers.items()}
                request, reply, content = server._answer(self.path, headers, body, self._is_left_within)
                try:
                    self._send(reply, content)
                    if not reply.reset:
                        server.finished.add(request.number)
                except ConnectionError:  # the client gave up waiting
                    server.left.add(request.number)
                    self.close_connection = True

            def _send(self, reply: Reply, content: bytes) -> None:
                self._refuse_to_write_to_nobody()
                self.send_response(reply.status)
                for key, value in {"content-type": "application/json", **reply.headers}.items():
                    self.send_header(key, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                if reply.reset:
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                    return
                for byte in content if reply.drip_s else b"":
                    self.wfile.write(bytes([byte]))
                    self._refuse_to_write_to_nobody(reply.drip_s)
                self.wfile.write(b"" if reply.drip_s else content)

            def _refuse_to_write_to_nobody(self, within_s: float = 0.0) -> None:
                """A first write after the client has closed succeeds, so one has to look."""
                if self._is_left_within(within_s):
                    raise ConnectionResetError

            def _is_left_within(self, seconds: float) -> bool:
                """Whether the client closes the connection in this time; if it does not, the time passes."""
                readable, _, _ = select.select([self.connection], [], [], seconds)
                try:
                    return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
                except ConnectionResetError:
                    return True

            def log_message(self, *_: object) -> None: ...

        return Handler


if __name__ == "__main__":
    process = OpenAIServer(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(process.url, flush=True)
    process.serve()
