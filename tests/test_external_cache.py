"""The cache of answers: none is paid for twice, whatever is killed and however many ask at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ekipl.algorithm.seams import Decoding
from ekipl.errors import UsageError
from ekipl.external import caller, store
from ekipl.external.caller import ModelCaller
from ekipl.external.ledger import Ledger, read_spending
from ekipl.external.pool import LiteLLMPool
from ekipl.external.request import Completion, Question, digest
from ekipl.external.settings import ExternalModel
from ekipl.external.store import Cache, key_of
from tests.openai_server import OpenAIServer, Reply, Request, digits
from tests.test_external import problem, texts

COMPLETION = Completion("<think>a</think>\n<answer>1</answer>", "stop", 7, 5, "m-2026")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    made = Cache(tmp_path / "deep" / "cache.sqlite")
    yield made
    made.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """One file for all examples of a property."""
    made = Cache(tmp_path_factory.mktemp("many") / "c.sqlite")
    yield made
    made.close()


def pool_of(server: OpenAIServer, file: Path, *names: str, **changes: Any) -> LiteLLMPool:
    settings = {"api_base": server.url, **changes}
    models = [ExternalModel(name, **{"model": f"openai/{name}", **settings}) for name in names or ("a", "b")]
    return LiteLLMPool(models, Decoding(max_tokens=64), 10, cache=file)


# Keys


def key(**changes: Any) -> str:
    asked = changes.pop("problem", problem())
    parts = {
        "model": "openai/m",
        "api_base": None,
        "messages": Question(asked).fingerprint,
        "parameters": {"temperature": 1.0, "max_tokens": 5},
        "sample": 0,
    }
    return key_of(**{**parts, **changes})  # type: ignore[arg-type]


def test_equal_questions_have_equal_keys() -> None:
    assert key() == key(problem=problem(), parameters={"max_tokens": 5, "temperature": 1.0})
    assert key() == key(problem=problem(answer="another", metadata={}, split="id"))  # nobody is told these


def test_keys_never_change() -> None:
    """Another key for the same question would make every answer in existing caches be paid for again."""
    params = {"top_p": None, "reasoning_effort": "low"}
    plain = ExternalModel("a", "openai/gpt-4o")
    drop = ExternalModel("a", "openai/x", api_base="http://h/v1", on_refused="drop", params=params, temperature=0.3)
    keys = [
        ModelCaller("external.models.0", model, Decoding(0.7, 0.9, 5, 99), 10, 0, Ledger(None, None, 1.0)).key(
            Question(asked), sample
        )
        for model in (plain, drop)
        for asked, sample in ((problem(images=2), 3), (problem("ü\u2028"), 0))
    ]
    assert [key(), *keys] == [
        "df03ce5999be58b1bfcbcf99c259190fc69f1b191619333b9d8e455bc778b457",
        "7b1352f0ffb37332cc510cc6e6e1e0ff13b1223bb4bd3177dafb5a445b349f12",
        "ac03a5d84c6af2a8f9d8da01c53584567e40315e38f094ae7caee9b4490ca33d",
        "3a7a12e3e7ebca6a4b739d302945f235e4cfbe52ec1a6e9d15cbfe81feffa083",
        "d4561458356892ef526da209e43cbb4f4da904f5a9b3c6256ab0c4669e9b704f",
    ]


def one_pixel_off() -> Any:
    asked = problem()
    image = asked.images[0].copy()
    image.putpixel((8, 6), (1, 2, 3))
    return replace(asked, images=(image,))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "openai/n"},
        {"api_base": "http://127.0.0.1:9/v1"},
        {"parameters": {"temperature": 0.9, "max_tokens": 5}},
        {"parameters": {"temperature": 1.0, "max_tokens": 5, "reasoning_effort": "low"}},
        {"sample": 1},
        {"problem": problem(prompt="p0: how many cubes?")},
        {"problem": problem(images=2)},
        {"problem": replace(problem(), images=problem("p1").images)},
        {"problem": one_pixel_off()},
    ],
)
def test_whatever_an_answer_depends_on_changes_its_key(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_images_of_other_shapes_with_the_same_bytes_differ() -> None:
    assert digest(Image.new("RGB", (6, 4))) != digest(Image.new("RGB", (4, 6)))


# The file


@given(
    st.text(st.characters(exclude_categories=[])),
    st.sampled_from(["stop", "length"]),
    st.sampled_from([None, "content filter"]),
)
def test_what_is_put_in_comes_out_character_for_character(
    many: Cache, text: str, finish: Any, fault: str | None
) -> None:
    if any(0xD800 <= ord(a) < 0xDC00 <= ord(b) < 0xE000 for a, b in zip(text, text[1:], strict=False)):
        return  # JSON has one spelling for such a pair and for the character it stands for
    completion, key = Completion(text, finish, 3, 4, "v", fault), uuid4().hex
    assert many.get(key) is None
    many.put(key, completion, 0.25)
    assert many.get(key) == completion
    many.put(key, COMPLETION, None)
    assert many.get(key) == completion, "the first answer stays"


def test_values_are_json_with_price_version_and_time(cache: Cache) -> None:
    cache.put("k", COMPLETION, 0.25)
    ((value,),) = cache._database.rows("SELECT value FROM answers")
    row = json.loads(value)
    assert abs(row.pop("time") - time.time()) < 60
    assert row == {
        "text": COMPLETION.text, "finish": "stop", "prompt_tokens": 7, "completion_tokens": 5,
        "version": "m-2026", "fault": None, "shared": 1, "usd": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize("content", [b"not a database, surely" * 50, None])
def test_a_file_that_cannot_be_used_is_told_in_words(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UsageError, match=f"external.cache: {path}: .*; .*another file"):
        Cache(path)
    with pytest.raises(UsageError, match="external.cache: .*File exists; name another file"):
        Cache(Path(__file__) / "c.sqlite")


def _fill(path: Path, name: str) -> None:
    cache = Cache(path)
    for number in range(200):
        cache.put(f"{name}{number}", COMPLETION, None)
        cache.put(f"shared{number}", replace(COMPLETION, text=name), None)
    cache.close()


def test_many_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"  # which they all want to make, too
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_fill, args=(path, name)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(300)
    assert [writer.exitcode for writer in writers] == [0] * 4
    cache = Cache(path)
    assert all(cache.get(f"{name}{number}") == COMPLETION for name in "abcd" for number in range(200))
    assert cache._database.rows("SELECT count(*) FROM answers") == [(1000,)]  # 4 x 200 + 200
    cache.close()


def test_on_a_file_system_that_machines_share_no_memory_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one stands in for NFS."""
    named = subprocess.run(["df", "--output=fstype", tmp_path], capture_output=True, text=True, check=True).stdout
    assert store.file_system(tmp_path) == named.split()[-1]
    path = tmp_path / "c.sqlite"
    Cache(path).close()  # made in the other mode, by an earlier version
    monkeypatch.setattr(store, "NETWORK", {named.split()[-1]})
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_fill, args=(path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        # Byte 18 of the file is its mode; until the first writer has changed it to 1, there is shared memory.
        assert path.read_bytes()[18] != 1 or not list(tmp_path.glob("*-shm"))
        time.sleep(0.01)
    assert [writer.exitcode for writer in writers] == [0] * 3
    cache = Cache(path)
    assert cache._database.rows("PRAGMA journal_mode") == [("delete",)]
    assert cache._database.rows("SELECT count(*) FROM answers") == [(800,)]  # 3 x 200 + 200
    cache.close()


KILLED = """
import sys
from pathlib import Path
from ekipl.external.store import Cache
from tests.test_external_cache import COMPLETION
cache = Cache(Path(sys.argv[1]))
assert cache.claim("c1a1")
for number in range(10**9):
    cache.put(str(number), COMPLETION, None)
    print(number, flush=True)
"""


def test_a_killed_process_leaves_all_it_has_put_and_no_claim(cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(50):
            last = int(process.stdout.readline())
        assert not cache.claim("c1a1")
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()  # empty when nothing was written between the last line read and the kill
        last = int(rest[-1]) if rest else last
    assert last >= 49
    assert all(cache.get(str(number)) == COMPLETION for number in range(last + 1))
    assert cache._database.rows("PRAGMA integrity_check") == [("ok",)]
    assert cache.claim("c1a1")
    assert not cache.claim("c1a1")
    cache.release("c1a1")
    assert cache.claim("c1a1")


# The pool


def test_what_was_answered_once_is_not_asked_again_by_any_pool(tmp_path: Path) -> None:
    problems = [problem(f"p{i}") for i in range(3)]
    with OpenAIServer() as server:
        for names, n in [(("a", "b"), 4), (("a", "b"), 4), (("b",), 2), (("a",), 3)]:
            pool = pool_of(server, tmp_path / "c.sqlite", *names)
            answers = pool.sample(problems, n)
            pool.close()
            assert [len(answer.actions) for answer in answers] == [n * len(names)] * 3
            assert len(server.requests) == 24  # 3 problems x 2 models x 4 samples
            assert len({action.text for answer in answers for action in answer.actions}) == 3 * n * len(names)
        pool = pool_of(server, tmp_path / "c.sqlite", "a")
        first = pool.sample(problems, 5)
        assert len(server.requests) == 24 + 3  # one more sample of each
        assert pool.sample(problems, 5) == first
        pool.close()


def test_an_empty_answer_was_paid_for_too_but_a_failure_is_asked_again(tmp_path: Path) -> None:
    replies = [Reply(None), Reply("half", finish="content_filter"), Reply(status=429, headers={"retry-after": "99"})]
    with OpenAIServer(lambda request: replies[min(request.number, 2)]) as server:
        for requests in (3, 4):
            pool = pool_of(server, tmp_path / "c.sqlite", "a", concurrency=1)
            failed = {"empty answer": 1, "content filter": 1, "rate limited": 1}
            assert pool.sample([problem()], 3)[0].failed == failed
            assert len(server.requests) == requests
            pool.close()


def test_the_same_question_twice_at_once_is_asked_once(tmp_path: Path) -> None:
    with OpenAIServer(lambda request: Reply(f"{request.number}", delay_s=0.1)) as server:
        pool = pool_of(server, tmp_path / "c.sqlite", "a")
        first, second = pool.sample([problem(), problem()], 3)
        pool.close()
    assert first == second
    assert len(server.requests) == 3


ASKING = """
import json, sys
from pathlib import Path
from ekipl.external.settings import ExternalModel
from ekipl.external.pool import LiteLLMPool
from ekipl.algorithm.seams import Decoding
from tests.test_external import problem, texts
model = ExternalModel("a", "openai/a", api_base=sys.argv[1])
pool = LiteLLMPool([model], Decoding(max_tokens=64), 60, cache=Path(sys.argv[2]))
print(json.dumps(texts(pool.sample([problem(), problem("p1")], 8))))
pool.close()
"""


def test_two_processes_that_want_the_same_at_once_ask_once(tmp_path: Path) -> None:
    asked = threading.Event()

    def script(request: Request) -> Reply:
        asked.set()
        both_want.wait(60)
        return Reply(f"{request.number}")

    both_want = threading.Event()
    with OpenAIServer(script) as server:
        file = tmp_path / "c.sqlite"
        line = [sys.executable, "-c", ASKING, server.url, str(file)]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
            assert asked.wait(60)
            pool = LiteLLMPool(
                [ExternalModel("a", "openai/a", api_base=server.url)], Decoding(max_tokens=64), 60, cache=file
            )
            threading.Timer(0.5, both_want.set).start()  # the other one is asking, and this one wants the same
            here = texts(pool.sample([problem(), problem("p1")], 8))
            pool.close()
            there = json.loads(process.communicate(timeout=300)[0])
    assert here == there
    assert len(server.requests) == 16


def test_after_a_refusal_calls_under_way_end_and_are_kept(tmp_path: Path) -> None:
    def script(request: Any) -> Reply:
        return Reply(status=401) if request.body["model"] == "bad" else Reply("paid for", delay_s=0.5)

    with OpenAIServer(script) as server:
        pool = pool_of(server, tmp_path / "c.sqlite", "good", "bad")
        with pytest.raises(UsageError, match="401"):
            pool.sample([problem()], 3)
        pool.close()
        good = pool_of(server, tmp_path / "c.sqlite", "good")
        asked = len(server.requests)
        assert len(good.sample([problem()], 3)[0].actions) == 3
        assert len(server.requests) == asked
        good.close()


def test_after_a_refusal_nothing_is_asked_a_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "FIRST_WAIT_S", 3600.0)
    has_failed = threading.Event()

    def script(request: Request) -> Reply:
        if request.body["model"] == "busy":
            has_failed.set()
            return Reply(status=503)
        has_failed.wait(60)
        return Reply(status=401)

    with OpenAIServer(script) as server:
        pool = pool_of(server, tmp_path / "c.sqlite", "busy", "bad", requests_per_minute=0.01)
        with pytest.raises(UsageError, match="401"):
            pool.sample([problem()], 3)  # two of each wait for their turn, and the busy one for its second attempt
        pool.close()
        assert len(server.requests) == 2


def test_an_answer_is_kept_though_the_ledger_fails(tmp_path: Path) -> None:
    files = {"cache": tmp_path / "c.sqlite", "ledger": tmp_path / "run" / "ledger.sqlite"}

    def script(request: Request) -> Reply:
        with sqlite3.connect(files["ledger"]) as other:  # while the call is under way
            other.execute("DROP TABLE IF EXISTS spent")
        return digits(request)

    with OpenAIServer(script) as server:
        pool = LiteLLMPool([ExternalModel("a", "openai/a", api_base=server.url)], Decoding(), 10, **files)
        with pytest.raises(UsageError, match=r"ledger\.sqlite: no such table: spent"):
            pool.sample([problem()], 1)
        pool.close()
        again = pool_of(server, files["cache"], "a")
        assert texts(again.sample([problem()], 1)) == texts(again.sample([problem()], 1))
        again.close()


def test_on_a_full_disk_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROOM", 2**62)
    with OpenAIServer() as server:
        pool = pool_of(server, tmp_path / "c.sqlite", "a")
        with pytest.raises(UsageError, match=r"external\.cache: .*c\.sqlite: less than .* MiB are free.*; make room"):
            pool.sample([problem()], 3)
        pool.close()
        assert server.requests == []


def test_a_file_that_cannot_grow_ends_the_run_and_the_ledger_knows_what_was_paid(tmp_path: Path) -> None:
    with OpenAIServer(lambda _: Reply("x" * 100_000)) as server:
        model = ExternalModel("a", "openai/a", api_base=server.url, concurrency=1)
        pool = LiteLLMPool([model], Decoding(), 10, cache=tmp_path / "c.sqlite", ledger=tmp_path / "ledger.sqlite")
        assert pool._cache is not None
        pool._cache._database.rows("PRAGMA max_page_count = 40")  # of 4 KiB: one answer, and not two
        with pytest.raises(UsageError, match=r"external\.cache: .*full; make room"):
            pool.sample([problem()], 5)
        pool.close()
        assert len(server.requests) == 2
    (sums,) = read_spending(tmp_path).models
    assert (sums.source, sums.requests, sums.retries, sums.answers) == ("a", 2, 0, 2)


def test_simulated_experts_leave_no_file(tmp_path: Path) -> None:
    pool = LiteLLMPool([ExternalModel("a", "simulated/a")], Decoding(), 10, cache=tmp_path / "c.sqlite")
    pool.sample([problem()], 1)
    pool.close()
    assert list(tmp_path.iterdir()) == []
