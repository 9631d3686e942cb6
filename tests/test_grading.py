from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekipl.errors import GraderError, UsageError
from ekipl.reward import equivalence
from ekipl.reward.graders import grade

ROOT = Path(__file__).resolve().parent.parent
BOMB = "9^{9^{9}}"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Each test starts without a grading process and with nothing remembered."""
    equivalence.close()
    equivalence.forget()
    yield
    equivalence.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    """Waits for the end of the process, with a minute as the last resort."""
    end = time.monotonic() + 60
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def test_plain_answers_start_no_process() -> None:
    cases = [("3", "3", "number"), ("3.0 cm", "3", "number"), ("4", "3", "number"), ("(B)", "B", "choice")]
    cases += [("1/2", "0.5", "number"), ("12", "B", "choice"), ("words", "3", "number")]
    for answer, gold, kind in cases:
        for scoring in ("strict", "reason_rft_reward"):
            grade(f"<think></think><answer>{answer}</answer>", gold, kind, scoring)  # type: ignore[arg-type]
    assert equivalence._current is None


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        (r"\sqrt{50}", r"5\sqrt{2}", True),
        (r"\frac{\sqrt{10}}{5}", r"\sqrt{\frac{2}{5}}", True),
        (r"2\pi", "6.283185", True),
        (r"2\pi", "6.2832", False),
        ("5", r"5\sqrt{2}", False),
        (r"\{3, 4\}", "4", False),
        ("x > 3", "3", False),
        (r"\frac{1}{0}", "3", False),
    ],
)
def test_equivalence(answer: str, gold: str, same: bool) -> None:
    assert equivalence.equal(answer, gold, latex=True) is same


def test_bombs_are_errors_in_time_and_the_run_goes_on() -> None:
    assert equivalence.equal(r"\frac{2}{4}", r"\frac{1}{2}", latex=True)  # the process is there
    for bomb in (BOMB, BOMB + "+1"):
        before = sum(os.times()[:4])
        with pytest.raises(GraderError, match=r"no answer within 1\.8 s"):
            equivalence.equal(bomb, "3", latex=True)
        assert sum(os.times()[:4]) - before < 1  # no computing in this process: it only waits
        assert equivalence.equal(r"\frac{2}{4}", rf"\frac{{{len(bomb)}}}{{{2 * len(bomb)}}}", latex=True)


def test_a_bomb_in_an_answer_is_no_reward() -> None:
    for answer, scoring in ((BOMB, "strict"), ("9**9**9", "reason_rft")):
        with pytest.raises(GraderError):
            grade(f"<think></think><answer>{answer}</answer>", "3", "number", scoring)


def test_one_process_serves_all_and_is_asked_once() -> None:
    for answer in (r"\sqrt{4}", r"\sqrt{4}", r"\sqrt{9}", "\x00\ud800", "\n", "'\"\\"):
        equivalence.equal(answer, "2", latex=False)
    assert equivalence._current is not None
    pid = equivalence._current.process.pid
    assert equivalence._remembered.cache_info().hits == 1
    equivalence.equal(r"\sqrt{16}", "4", latex=True)
    assert equivalence._current.process.pid == pid


def test_text_too_long_is_not_sent() -> None:
    with pytest.raises(GraderError, match="longer than"):
        equivalence.equal("1" * (equivalence.LONGEST + 1), "3", latex=False)
    assert equivalence._current is None


def test_a_long_text_is_graded_but_not_remembered() -> None:
    prose = "There are 7 of them, or so. " * 4000 + "It is 3"  # 112,007 characters, as cheap as they are many
    assert equivalence.equal(prose, "3", latex=False)
    assert equivalence._remembered.cache_info().currsize == 0


def test_a_killed_process_is_replaced() -> None:
    equivalence.equal(r"\sqrt{4}", "2", latex=True)
    assert equivalence._current is not None
    os.kill(equivalence._current.process.pid, signal.SIGKILL)
    assert gone(equivalence._current.process.pid)
    assert equivalence.equal(r"\sqrt{9}", "3", latex=True)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_a_fork_killed_between_questions_answers_none() -> None:
    equivalence.equal(r"\sqrt{4}", "2", latex=True)
    assert equivalence._current is not None
    child = equivalence._current.process.pid
    fork = int(Path(f"/proc/{child}/task/{child}/children").read_text())
    os.kill(fork, signal.SIGKILL)
    assert gone(child)
    assert equivalence.equal(r"\sqrt{9}", "3", latex=True)
    assert not equivalence.equal(r"\sqrt{9}", "4", latex=True)


def test_many_threads() -> None:
    results: dict[int, bool] = {}

    def ask(n: int) -> None:
        results[n] = equivalence.equal(rf"\sqrt{{{n * n}}}", str(n % 3), latex=True)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: n == n % 3 for n in range(12)}


def test_a_forked_process_starts_its_own() -> None:
    assert equivalence.equal(r"\sqrt{4}", "2", latex=True)
    assert equivalence._current is not None
    inherited = equivalence._current.process.pid
    child = os.fork()
    if child == 0:
        try:
            right = equivalence.equal(r"\sqrt{9}", "3", latex=True)
            own = equivalence._current.process.pid
            equivalence.close()
            os._exit(0 if right and own != inherited else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert alive(inherited)
    assert equivalence.equal(r"\sqrt{16}", "4", latex=True)


PARENT = """
import sys
from ekipl.reward import equivalence
from ekipl.errors import GraderError
equivalence.equal(r"\\sqrt{4}", "2", latex=True)
print(equivalence._current.process.pid, flush=True)
if sys.argv[1] == "busy":
    equivalence.DEADLINE_S = 60.0
    equivalence.equal(r"9^{9^{9}}", "2", latex=True)
if sys.argv[1] == "idle":
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
@pytest.mark.parametrize(("state", "sent"), [("ends", None), ("idle", signal.SIGKILL), ("idle", signal.SIGTERM)])
def test_no_orphan(state: str, sent: signal.Signals | None) -> None:
    _orphan(state, sent)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_no_orphan_that_computes() -> None:
    _orphan("busy", signal.SIGKILL)  # until its CPU time is spent, however busy the machine


def _orphan(state: str, sent: signal.Signals | None) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    if sent:
        time.sleep(0.5 if state == "busy" else 0)
        assert alive(worker)
        parent.send_signal(sent)
    parent.wait(timeout=300)
    assert gone(worker)
    parent.communicate()


def test_it_says_when_math_verify_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('No module named math_verify')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UsageError, match="No module named math_verify"):
        equivalence.equal("1", "2", latex=True)


def test_files_in_the_working_directory_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('hostile')")
    (tmp_path / "json.py").write_text("raise ImportError('hostile')")
    monkeypatch.chdir(tmp_path)
    assert equivalence.equal(r"\sqrt{4}", "2", latex=True)


def test_importing_the_scorers_loads_nothing_heavy() -> None:
    code = (
        "import sys, ekipl.reward.equivalence, ekipl.reward.graders, ekipl.tasks.counting\n"
        "import ekipl.tasks.structure, ekipl.tasks.spatial\n"
        "heavy = {'torch', 'sympy', 'math_verify', 'transformers', 'datasets', 'numpy', 'hydra', 'litellm'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)  # must not raise
