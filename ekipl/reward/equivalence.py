"""Mathematical equivalence, decided by math-verify or sympy in a process that can be killed.

math-verify's own deadline is a signal that works in the main thread only; in other threads it returns a silent "not
equal". Here it runs without that deadline, in three generations of processes:

    this process  --starts-->  child: imports sympy once  --forks-->  worker: replies through the child's pipes

The kernel kills the worker after ``DEADLINE_S`` of CPU time, however busy the machine is. The child then replies with
an error and forks another worker within milliseconds. Child and worker exit when their input ends, that is, with this
process; a worker that is computing exits at its deadline.
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
from typing import IO, Any, Literal, NoReturn

from ekipl.errors import GraderError, UsageError

DEADLINE_S = 1.8  # seconds of CPU time for one question
PATIENCE_S = 60.0  # seconds on the clock for a reply or for importing sympy, on a very busy machine
LONGEST = 2_000_000  # characters of answer and gold: bounds the memory, as the deadline bounds the time
REMEMBERED = 20_000  # characters of answer and gold whose result is cached
MEMORY_BYTES = 2 << 30  # address space of the worker
ENDS: dict[int, str] = {  # exit signals that mean "this question killed the worker"
    signal.SIGPROF: f"no answer within {DEADLINE_S:g} s",
    signal.SIGSEGV: "the grading process died",
    signal.SIGABRT: "the grading process died",
}
How = Literal[
    "published",  # math-verify finds the texts equal
    "value",  # equal, or near where one of them has decimals
    "proportional",  # equal up to a constant factor
    "in proportion",  # equal up to a constant factor above 0
]
WARM_UP = (  # sympy and the LaTeX parser load modules at the first question of each kind
    ("1/2", "0.5"),
    (r"\frac{4}{3}", r"\frac{3}{4}"),
    (r"$\frac{2\sqrt{5}}{5}$", r"$\pi^{2}+x$"),
    ("48.0^2", "27"),
)


def equal(answer: str, gold: str, latex: bool) -> bool:
    r"""Whether ``answer`` and ``gold`` are equal.

    With ``latex`` each string is one expression, and decimals equal exact values to six places. Without it math-verify
    searches both texts for numbers and formulas, as in Reason-RFT: the last number of a sentence counts, and 5 stands
    for an undelimited ``5\sqrt{2}``.

    Raises:
        GraderError: no answer before the deadline, or the grading process failed.
    """
    return decide("value" if latex else "published", answer, gold)


def decide(how: How, answer: str, gold: str) -> bool:
    """One of the questions of ``How`` about two expressions, or two texts for ``published``. Raises as ``equal``."""
    size = len(answer) + len(gold)
    if size > LONGEST:
        raise GraderError(f"longer than {LONGEST} characters")
    return (_remembered if size <= REMEMBERED else _ask)(how, answer, gold)


def _ask(how: How, answer: str, gold: str) -> bool:
    with _lock:
        reply = _child().ask({"how": how, "answer": answer, "gold": gold})
    if "error" in reply:
        raise GraderError(reply["error"])
    return bool(reply["equal"])


_remembered = lru_cache(maxsize=2048)(_ask)
forget = _remembered.cache_clear


class _Child:
    """The child, as this process sees it."""

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
        """The reply, or an ``error``; after an error of the process itself the child has ended."""
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
        """Whether the child is alive and was started by this process: a fork of this process must not use its pipes."""
        return self.owner == os.getpid() and self.process.poll() is None

    def close(self) -> None:
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()
            with contextlib.suppress(BrokenPipeError):  # a question that the child did not read
                _pipe(self.process.stdin).close()
            _pipe(self.process.stdout).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # Popen was called with PIPE
    return stream


_lock = threading.Lock()
_current: _Child | None = None


def _child() -> _Child:
    global _current
    if _current is None or not _current.usable:
        _current = _Child()
    return _current


@atexit.register
def close() -> None:
    """Kill the child; the next question starts another one."""
    global _current
    if _current is not None:
        _current.close()
    _current = None


# --- the child ---


def _equal(how: How, answer: str, gold: str) -> bool:
    if how == "published":  # as Reason-RFT calls it: its order of arguments, and False after an error
        from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

        wide = [LatexExtractionConfig(), ExprExtractionConfig()]
        found = [parse(text, wide, parsing_timeout=None) for text in (answer, gold)]
        return bool(verify(*found, timeout_seconds=None))
    from ekipl.reward import algebra, expression, writing

    ours, wanted = (expression.parse(writing.respelled(text)) for text in (answer, gold))
    if ours is None or wanted is None:
        return False
    try:
        if how == "value":
            return algebra.equal(ours, wanted, expression.may_be_rounded(ours, wanted))
        return algebra.proportional(ours, wanted, positive=how == "in proportion")
    except (ArithmeticError, TypeError, ValueError, NotImplementedError):
        return False  # one of them has no value, such as 1/0


def _answer(replies: int) -> NoReturn:
    """Reply until the input ends. By default SIGPROF kills the process, even inside C code."""
    import resource

    with contextlib.suppress(ValueError, OSError):  # some systems do not limit the address space
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C; this process exits when its input ends
    replies = os.dup(1)
    os.dup2(2, 1)  # the prints of a library are no replies
    try:
        for answer, gold in WARM_UP:
            _equal("published", answer, gold)
            _equal("value", answer, gold)
        _equal("proportional", "x+2y", "2x+4y")
    except Exception as error:  # reported to the parent, which raises it
        _write(replies, {"error": f"{type(error).__name__}: {error}"})
        return
    gc.collect()
    gc.freeze()  # forks need not collect the objects that are loaded by now
    _write(replies, {})
    while True:
        pid = os.fork()
        if pid == 0:
            _answer(replies)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if -ended not in ENDS:
            os._exit(0)  # the input has ended; a normal exit would spend time on freeing sympy
        _write(replies, {"error": ENDS[-ended]})


if __name__ == "__main__":
    _serve()
