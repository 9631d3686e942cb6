"""Headless Chromium over a pipe, for tests and screenshots of our own pages: the Chrome DevTools protocol, no library.

Chromium reads commands from file descriptor 3 and writes answers and events to 4, as JSON that ends with a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WATCH = "window.violations = []; addEventListener('securitypolicyviolation', (e) => violations.push(e.blockedURI));"
FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"),  # containers have neither
)
# Gives two pipes the numbers that Chromium wants, whatever they are here, and becomes Chromium.
PLUG = """
import os, sys
from fcntl import F_DUPFD, fcntl
above = [fcntl(int(number), F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(above[0], 3)
os.dup2(above[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 120.0  # seconds for one answer


def chromium() -> str | None:
    """The path of Chromium: $CHROMIUM, or one of its names in PATH."""
    return os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)


class PageError(Exception):
    """The page or the browser answered with an error."""


@dataclass
class Tab:
    """A page. ``requests`` and ``errors`` grow as the page sends and fails, ``window.violations`` in it too."""

    pipe: Pipe
    session: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come before it are noted."""
        number = self.pipe.send(method, parameters, self.session)
        while True:
            message = self.pipe.receive()
            self._note(message)
            if message.get("id") == number:
                if "error" in message:
                    raise PageError(f"{method}: {message['error'].get('message')}")
                result: dict[str, Any] = message.get("result", {})
                return result

    def _note(self, message: dict[str, Any]) -> None:
        name, about = message.get("method"), message.get("params", {})
        if name == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details.get("text", ""))
        elif name == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])

    def open(self, address: str) -> None:
        """Load an address and wait until it is complete."""
        self.requests.clear()
        self.errors.clear()
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """The JSON value of an expression, awaited if it is a promise. Raises PageError when it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise PageError(str(answer["exceptionDetails"].get("exception", {}).get("description")))
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until the expression is true. Raises PageError after two minutes."""
        end = time.monotonic() + PATIENCE
        while not self.js(expression):
            if time.monotonic() > end:
                raise PageError(f"never true: {expression}; errors of the page: {self.errors}")
            time.sleep(0.02)

    def key(self, key: str, code: int = 0) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def size(self, width: int, height: int, dark: bool = False, scale: float = 1.0) -> None:
        """Set the window's size in CSS pixels, and whether the reader prefers dark pages."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self) -> bytes:
        """What is to be seen, as PNG."""
        self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


class Pipe:
    """Two file descriptors to Chromium."""

    def __init__(self, into: int, out: int) -> None:
        self._into, self._out, self._number, self._left = into, out, 0, b""

    def send(self, method: str, parameters: dict[str, Any], session: str | None = None) -> int:
        """Send a command; returns its number."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        line = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while line:
            line = line[os.write(self._into, line) :]
        return self._number

    def receive(self) -> dict[str, Any]:
        """The next answer or event. Raises PageError when none comes."""
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._out], [], [], PATIENCE)
            part = os.read(self._out, 2**20) if ready else b""
            if not part:
                raise PageError("Chromium does not answer")
            self._left += part
        line, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


class Browser:
    """Chromium with a profile of its own, which is removed at the end."""

    def __init__(self, path: str) -> None:
        """Starts it."""
        self._profile = tempfile.mkdtemp(prefix="ekipl-chromium-")
        for_it, into = os.pipe()
        out, from_it = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", PLUG, str(for_it), str(from_it), path, *FLAGS, f"--user-data-dir={self._profile}"],
            pass_fds=(for_it, from_it),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(for_it)
        os.close(from_it)
        self._ends = (into, out)
        self._pipe = Pipe(into, out)

    def tab(self) -> Tab:
        """A new empty page."""
        root = Tab(self._pipe, "")
        target = root.call("Target.createTarget", url="about:blank")["targetId"]
        session = root.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self._pipe, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(f"{domain}.enable")
        tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        return tab

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with suppress(PageError, OSError):
            Tab(self._pipe, "").call("Browser.close")
        for end in self._ends:
            os.close(end)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)


@contextmanager
def opened(page: Path) -> Iterator[Tab]:
    """A tab that shows a file. Raises PageError where there is no Chromium."""
    path = chromium()
    if path is None:
        raise PageError("no Chromium: install one, or set CHROMIUM to its path")
    with Browser(path) as browser:
        tab = browser.tab()
        tab.open(page.resolve().as_uri())
        yield tab
