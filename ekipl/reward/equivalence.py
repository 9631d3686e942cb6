"""Mathematical equivalence, decided by math-verify in a process that can be killed.

math-verify's own deadline is a signal that works in the main thread only, and elsewhere turns into a silent "no". Here
it runs without one, in three generations: this process; a child that imports sympy once, when it is first needed; and
the child's fork, which answers through the child's pipes. The kernel ends the fork after ``DEADLINE_S`` of computing,
however busy the machine is; the child says so and forks another within milliseconds. Child and fork end with their
parent: at the end of their input, or when the time for the question is spent.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NoReturn

from ekipl.errors import GraderError, UsageError

DEADLINE_S = 1.8  # of computing, for one question
PATIENCE_S = 60.0  # on the clock: for that much computing, or for importing sympy, on a very busy machine
LONGEST = 2_000_000  # characters of what is compared: the deadline bounds the time, this the memory
REMEMBERED = 20_000  # characters of a question whose answer is remembered
MEMORY_BYTES = 2 << 30  # address space of the fork
ENDS: dict[int, str] = {  # signals by which a question ends the fork; by any other it may have ended between questions
    signal.SIGPROF: f"no answer within {DEADLINE_S:g} s",
    signal.SIGSEGV: "the grading process died",
    signal.SIGABRT: "the grading process died",
}
WARM_UP = (  # what sympy and the parser of LaTeX load or learn at the first question of a kind
    ("1/2", "0.5"),
    (r"\frac{4}{3}", r"\frac{3}{4}"),
    (r"$\frac{2\sqrt{5}}{5}$", r"$\pi^{2}+x$"),
    ("48.0^2", "27"),
)


def equal(answer: str, gold: str, latex: bool) -> bool:
    r"""Whether math-verify finds ``answer`` and ``gold`` equal (decimals to six places).

    With ``latex`` each string is one LaTeX expression. Without it math-verify searches both texts for numbers and
    formulas, as in Reason-RFT: the last number of a sentence counts, and 5 stands for an undelimited ``5\sqrt{2}``.

    Raises:
        GraderError: no answer before the deadline, or the grading process failed.
    """
    size = len(answer) + len(gold)
    if size > LONGEST:
        raise GraderError(f"longer than {LONGEST} characters")
    return (_remembered if size <= REMEMBERED else _ask)(answer, gold, latex)


def _ask(answer: str, gold: str, latex: bool) -> bool:
    with _lock:
        reply = _worker().ask({"answer": answer, "gold": gold, "latex": latex})
    if "error" in reply:
        raise GraderError(reply["error"])
    return bool(reply["equal"])


_remembered = lru_cache(maxsize=2048)(_ask)
forget = _remembered.cache_clear


class _Worker:
    """The parent's end of one grading process."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        package = Path(__file__).resolve().parents[2]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ekipl.reward.equivalence"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=package,  # -m imports from the working directory first: it must hold ekipl, and no stranger's files
        )
        ready = self._reply()
        if "error" in ready:
            self.close()
            raise UsageError(f"math-verify: {ready['error']}: install it with ekipl's own requirements")

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The child's answer, or an ``error``; after an error of the process itself the child is gone."""
        try:
            _pipe(self.process.stdin).write(json.dumps(question).encode() + b"\n")
            _pipe(self.process.stdin).flush()
        except BrokenPipeError:
            return {"error": "the grading process died"}
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        pipe = _pipe(self.process.stdout).fileno()
        poll, line, end = select.poll(), b"", time.monotonic() + PATIENCE_S
        poll.register(pipe, select.POLLIN)
        while not line.endswith(b"\n"):
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                self.close()
                return {"error": f"no answer within {PATIENCE_S:g} s on the clock"}
            piece = os.read(pipe, 4096)
            if not piece:
                self.close()
                return {"error": "the grading process died"}
            line += piece
        reply: dict[str, Any] = json.loads(line)
        return reply

    @property
    def usable(self) -> bool:
        """Alive, and not inherited through a fork: two processes must not share the pipes."""
        return self.owner == os.getpid() and self.process.poll() is None

    def close(self) -> None:
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()
            with contextlib.suppress(BrokenPipeError):  # a question that it never read
                _pipe(self.process.stdin).close()
            _pipe(self.process.stdout).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # Popen was asked for it
    return stream


_lock = threading.Lock()
_current: _Worker | None = None


def _worker() -> _Worker:
    global _current
    if _current is None or not _current.usable:
        _current = _Worker()
    return _current


@atexit.register
def close() -> None:
    """End the grading process; the next question starts another."""
    global _current
    if _current is not None:
        _current.close()
    _current = None


# --- the child ---


def _equal(answer: str, gold: str, latex: bool) -> bool:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    if not latex:  # as Reason-RFT calls it: in its order, which is not the library's, and with errors that say no
        wide = [LatexExtractionConfig(), ExprExtractionConfig()]
        found = [parse(text, wide, parsing_timeout=None) for text in (answer, gold)]
        return bool(verify(*found, timeout_seconds=None))
    found = [parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None) for text in (gold, answer)]
    try:
        return bool(verify(*found, timeout_seconds=None, raise_on_error=True))
    except (TypeError, ValueError):  # one of them has no value, as 1/0
        return False


def _answer(replies: int) -> NoReturn:
    """Answer until the questions end. The kernel's default for SIGPROF is to end the process, deep in C code too."""
    import resource

    with contextlib.suppress(ValueError, OSError):  # not every system limits address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, DEADLINE_S)
        try:
            reply: dict[str, Any] = {"equal": _equal(**json.loads(line))}
        except Exception as error:  # reported to the parent, which raises it
            reply = {"error": f"{type(error).__name__}: {error}"[:200]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write(replies, reply)
    os._exit(0)


def _write(replies: int, reply: dict[str, Any]) -> None:
    os.write(replies, json.dumps(reply).encode() + b"\n")


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; this process ends with its input
    replies = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no reply
    try:
        for answer, gold in WARM_UP:
            for latex in (False, True):
                _equal(answer, gold, latex)
    except Exception as error:  # reported to the parent, which raises it
        _write(replies, {"error": f"{type(error).__name__}: {error}"})
        return
    gc.collect()
    gc.freeze()  # what is loaded by now stays: its forks need not go through it again
    _write(replies, {})
    while True:
        pid = os.fork()
        if pid == 0:
            _answer(replies)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if -ended not in ENDS:
            os._exit(0)  # no more questions; nothing is to be tidied up, and sympy takes long to
        _write(replies, {"error": ENDS[-ended]})


if __name__ == "__main__":
    _serve()
