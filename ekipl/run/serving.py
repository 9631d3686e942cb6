"""``ekipl view --live``: the page on 127.0.0.1, made anew when the run has written.

It answers two addresses, the page and its data, and only under its own name: a site that makes its name point to
127.0.0.1 (DNS rebinding) sends another Host and gets nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from ekipl.errors import UsageError
from ekipl.report.html.encode import in_script
from ekipl.report.html.page import page, policy
from ekipl.run.viewing import view_data

WATCHED = ("metrics.jsonl", "scores.json", "passk.json", "actions.jsonl", "config.yaml")
REST = 5  # the making of a page is followed by so many times its seconds without another


@dataclass
class Page:
    """The page of some folders, kept until they change.

    Attributes:
        paths: the folders.
        max_bytes: of the page.
        now: the clock, in seconds.
    """

    paths: Sequence[Path]
    max_bytes: int
    now: Callable[[], float] = time.monotonic
    _lock: Lock = field(default_factory=Lock)
    _made: tuple[object, bytes, bytes, str] | None = None
    _again: float = 0.0

    def current(self) -> tuple[bytes, bytes, str]:
        """The page, its data and a tag of them. Raises UsageError."""
        with self._lock:
            state = self._state()
            if self._made is None or (state != self._made[0] and self.now() >= self._again):
                start = self.now()
                data, _, _ = view_data(self.paths, self.max_bytes)
                text = in_script(data).encode()
                tag = f'"{hashlib.sha256(text).hexdigest()[:32]}"'
                self._made = (state, page(data, live=True).encode(errors="replace"), text, tag)
                self._again = self.now() + REST * (self.now() - start)
            return self._made[1:]

    def _state(self) -> object:
        """Changes when a run has written: names, sizes and times of its files."""
        files = [file for path in self.paths for name in WATCHED for file in (path / name, *path.glob(f"*/{name}"))]
        return [
            (str(file), stat.st_size, stat.st_mtime_ns) for file in files if file.is_file() and (stat := file.stat())
        ]


class Server(ThreadingHTTPServer):
    """Serves one page to this machine."""

    daemon_threads = True

    def __init__(self, shown: Page, port: int) -> None:
        """Raises OSError when the port is taken."""
        super().__init__(("127.0.0.1", port), Handler)
        self.shown = shown

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of the page and of its data."""

    server: Server
    server_version, sys_version = "ekipl", ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        port = self.server.server_port
        if self.headers.get_all("Host") not in ([f"127.0.0.1:{port}"], [f"localhost:{port}"]):
            return self._send(403, "text/plain", b"asked under another name\n")
        if self.path not in ("/", "/data.json"):
            return self._send(404, "text/plain", b"nothing here\n")
        try:
            html, data, tag = self.server.shown.current()
        except UsageError as error:
            return self._send(503, "text/plain", f"{error}\n".encode(errors="replace"))
        if self.path == "/":
            return self._send(200, "text/html", html)
        if self.headers.get("If-None-Match") == tag:
            return self._send(304, "application/json", b"", tag)
        return self._send(200, "application/json", data, tag)

    def _send(self, status: int, kind: str, body: bytes, tag: str | None = None) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": f"{policy(live=True)}; frame-ancestors 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            **({} if tag is None else {"ETag": tag}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET" and status != 304:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: each page asks every few seconds."""


def serve(paths: Sequence[Path], max_bytes: int, port: int, ready: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C. ``ready`` gets its address.

    Raises:
        UsageError: a folder is no run, or the port is taken.
    """
    shown = Page(paths, max_bytes)
    shown.current()
    try:
        server = Server(shown, port)
    except OSError as error:
        raise UsageError(f"ekipl view: --port: {port}: {error.strerror}; leave it out to take a free one") from error
    with server:
        ready(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
