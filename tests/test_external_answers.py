"""What counts as an answer, what concerns one row alone, and servers that are hostile: against a real HTTP server."""

from __future__ import annotations

import gzip
import json
import re
import resource
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ekipl.algorithm.seams import Decoding, ExternalSamples
from ekipl.errors import UsageError
from ekipl.external import caller
from ekipl.external.ledger import read_spending
from ekipl.external.pool import LiteLLMPool
from ekipl.external.settings import ExternalModel
from tests.openai_server import OpenAIServer, Reply, Request, digits
from tests.test_external import problem, texts

MODELS = ("openai/a", "gemini/gemini-2.5-flash")
LIMIT = 200_000  # bytes


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-test-4f9a8b7c6d5e")
    monkeypatch.setattr(caller, "FIRST_WAIT_S", 0.01)


def asked(
    server: OpenAIServer, n: int = 1, rows: int = 1, folder: Path | None = None, **changes: Any
) -> list[ExternalSamples]:
    """n samples of each of these rows, by a pool of its own."""
    made = {"model": "openai/a", "api_base": server.url, "api_key_env": "TEST_KEY", "concurrency": 1, **changes}
    files = {} if folder is None else {"cache": folder / "c.sqlite", "ledger": folder / "ledger.sqlite"}
    with closing(LiteLLMPool([ExternalModel("a", **made)], Decoding(), 20, max_body=LIMIT, **files)) as pool:
        return pool.sample([problem(f"p{row}") for row in range(rows)], n)


def chat(content: object, finish: str | None = "stop", **message: object) -> Reply:
    """A reply in OpenAI's format with any content."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return Reply(body=json.dumps(body).encode())


def gemini(text: str, finish: str | None) -> Reply:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}}
    usage = {"promptTokenCount": 1, "totalTokenCount": 2}
    finished = candidate | ({} if finish is None else {"finishReason": finish})
    return Reply(body=json.dumps({"candidates": [finished], "usageMetadata": usage}).encode())


# Answers


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "<think>a</think>"}, {"type": "text", "text": "\n1"}], "<think>a</think>\n1"),
        ([{"type": "output_text", "text": "1"}], "1"),
        ([{"text": "1"}], "1"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hidden"}]}, {"type": "text", "text": "1"}], "1"),
    ],
)
def test_content_in_parts_is_one_answer_bought_once(content: object, text: str, tmp_path: Path) -> None:
    with OpenAIServer(lambda _: chat(content)) as server:
        for _ in range(2):
            assert texts(asked(server, folder=tmp_path)) == [[text]]
    assert len(server.requests) == 1
    (spent,) = read_spending(tmp_path).models
    assert (spent.answers, spent.prompt_tokens, spent.completion_tokens, spent.cached) == (1, 3, 4, 1)


@pytest.mark.parametrize("finish", ["error", "abort", "tool_calls", "function_call", "eos", "", None])
def test_only_stop_and_length_are_answers(
    finish: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = f"finish reason {'null' if finish is None else finish}"
    with OpenAIServer(lambda _: chat("<answer>1</answer>", finish)) as server:
        assert asked(server, folder=tmp_path) == [ExternalSamples((), {reason: 1})]
        assert len(server.requests) == 1  # asked once
        asked(server, folder=tmp_path)
        # a model that calls tools does so again; a failure on the way is asked again by the next run
        assert len(server.requests) == (1 if finish in ("tool_calls", "function_call") else 2)
    assert f"external model a: counting/train/p0, sample 0: {reason}" in capsys.readouterr().err
    assert read_spending(tmp_path).faults[0][:2] == ("a", "counting/train/p0")


@pytest.mark.parametrize(
    ("finish", "failed"),
    [
        ("STOP", {}),
        ("MAX_TOKENS", {}),
        ("MALFORMED_RESPONSE", {"finish reason MALFORMED_RESPONSE": 1}),
        ("SAFETY", {"content filter": 1}),
        (None, {"finish reason null": 1}),
    ],
)
def test_the_finish_reasons_of_gemini_are_read_as_it_sends_them(finish: str | None, failed: dict[str, int]) -> None:
    with OpenAIServer(lambda _: gemini("1", finish)) as server:
        assert asked(server, model=MODELS[1])[0].failed == failed


def test_of_several_choices_only_the_whole_ones_are_used() -> None:
    choices = [
        {"index": i, "message": {"role": "assistant", "content": f"{i}"}, "finish_reason": finish}
        for i, finish in enumerate(["stop", "error", "length"])
    ]
    with OpenAIServer(lambda _: Reply(body=json.dumps({"choices": choices}).encode())) as server:
        (answer,) = asked(server, n=3, choices=3)
    assert [(action.text, action.finish) for action in answer.actions] == [("0", "stop"), ("2", "length")]
    assert answer.failed == {"finish reason error": 1}
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b'{"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}', b'{"answer": "1"}', b"[]"],
)
def test_what_asking_again_cannot_mend_is_asked_once_and_said(
    body: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(lambda _: Reply(body=body)) as server:
        assert asked(server, folder=tmp_path)[0].failed == {"unreadable answer": 1}
    assert len(server.requests) == 1
    assert "counting/train/p0, sample 0: unreadable answer: " in capsys.readouterr().err
    assert read_spending(tmp_path).failed == [("a", "unreadable answer", 1)]


@pytest.mark.parametrize("body", [b'{"choices": [', b"[" * 100_000])
def test_a_broken_transfer_is_asked_again(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "ATTEMPTS", 2)
    with OpenAIServer(lambda _: Reply(body=body)) as server:
        assert asked(server)[0].failed == {"unreadable answer": 1}
    assert len(server.requests) == 2


# Refusals of one row


OF_A_ROW = [
    Reply(status=400, error={"message": "This model's maximum context length is 4096 tokens", "param": "messages"}),
    Reply(status=400, error={"message": "max_tokens is too large: 9. The maximum context length is 8 tokens"}),
    Reply(status=400, error={"message": "Could not process image", "code": "invalid_image_format"}),
    Reply(status=400, error={"message": "prompt is too long: 210000 tokens > 200000 maximum"}),
    Reply(status=413, error={"message": "Request Entity Too Large"}),
    Reply(status=415, error={"message": "no"}),
    Reply(status=422, error={"message": "no"}),
    Reply(status=400, error={"message": "no"}),
]


@pytest.mark.parametrize("reply", OF_A_ROW, ids=lambda reply: f"{reply.status} {reply.error['message'][:20]}")
def test_a_refusal_of_one_row_never_ends_the_run(
    reply: Reply, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = OF_A_ROW.index(reply) % 2  # the first call, or a later one

    def script(request: Request) -> Reply:
        return reply if request.prompt.startswith(f"p{bad}:") else digits(request)

    with OpenAIServer(script) as server:
        answers = asked(server, n=2, rows=3, folder=tmp_path)
    assert [len(answer.actions) for answer in answers] == [0 if row == bad else 2 for row in range(3)]
    assert answers[bad].failed == {f"refused with status {reply.status}": 2}
    assert len(server.requests) == 5  # the row is asked once, and its second sample not at all
    told = f"counting/train/p{bad}"
    assert f"external model a: {told}, sample 0: refused with status {reply.status}" in capsys.readouterr().err
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as ledger:
        ((source, row, reason),) = ledger.execute("SELECT source, problem, reason FROM faults")
    assert (source, row) == ("a", told)
    assert reply.error["message"] in reason


def test_rows_refused_for_their_pictures_never_end_the_run_however_many_come_first() -> None:
    def script(request: Request) -> Reply:
        return digits(request) if request.prompt.startswith("p11:") else OF_A_ROW[2]

    with OpenAIServer(script) as server:
        answers = asked(server, rows=12)
    assert len(answers[11].actions) == 1


@pytest.mark.parametrize(
    ("message", "most"),
    [("no", caller.UNCLEAR), ("This model does not support image input", 1), ("bad value of temperature", 1)],
)
def test_what_every_row_is_refused_for_ends_the_run(message: str, most: int) -> None:
    with OpenAIServer(lambda _: Reply(status=400, error={"message": message})) as server:
        with pytest.raises(UsageError, match=rf"refused with status 400 .*{message}.*, asked about counting/train/p\d"):
            asked(server, rows=12)
        assert len(server.requests) == most


def test_a_request_that_cannot_be_written_is_not_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAIServer() as server:
        made = ExternalModel("a", "openai/a", api_base=server.url, concurrency=1)
        with closing(LiteLLMPool([made], Decoding(), 20)) as pool:
            bad, good = pool.sample([problem("p0", prompt="lone \ud800"), problem("p1")], 1)
    assert (bad.failed, len(good.actions)) == ({"not sent": 1}, 1)
    assert len(server.requests) == 1
    assert "counting/train/p0, sample 0: not sent: " in capsys.readouterr().err


# Hostile servers


def bomb(size: int) -> bytes:
    return gzip.compress(b'{"choices": [{"message": {"content": "' + b"x" * size + b'"}}]}', 1)


def deflated(size: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(b"x" * size) + packer.flush()


BODIES = {
    "identity": b"x" * 20_000_000,
    "gzip": bomb(400_000_000),
    "deflate": deflated(20_000_000),
    "gzip, gzip": gzip.compress(bomb(10_000_000)),
}


@pytest.mark.parametrize(
    ("encoding", "model", "status"), [*((e, MODELS[0], 200) for e in BODIES), ("gzip", MODELS[1], 400)]
)
def test_a_body_above_the_limit_is_given_up_in_bounded_memory(
    encoding: str, model: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    reply = Reply(body=BODIES[encoding], status=status, headers={"content-encoding": encoding})
    with OpenAIServer(lambda _: reply) as server:
        assert asked(server, model=model)[0].failed == {"answer too large": 1}
        assert len(server.requests) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # of which imports are the most
    said = rf"counting/train/p0, sample 0: answer too large: {re.escape(server.url[:-3])}\S* sends more than "
    assert re.search(said + r"external\.max_body_mb=0\.2", capsys.readouterr().err)


def test_a_packed_answer_within_the_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "ATTEMPTS", 2)
    plain = chat("1").body
    assert plain is not None
    packed = {"gzip": gzip.compress(plain), "deflate": zlib.compress(plain), "br": plain, "x-gzip": b"broken"}
    got = {}
    for encoding, body in packed.items():
        reply = Reply(body=body, headers={"content-encoding": encoding})
        with OpenAIServer(lambda _, reply=reply: reply) as server:  # type: ignore[misc]
            got[encoding] = (texts(asked(server)), len(server.requests))
    assert got == {"gzip": ([["1"]], 1), "deflate": ([["1"]], 1), "br": ([[]], 1), "x-gzip": ([[]], 2)}


@pytest.mark.parametrize(("model", "status"), [(MODELS[0], 302), (MODELS[0], 307), (MODELS[1], 308)])
def test_a_redirect_to_another_host_is_not_followed(model: str, status: int, tmp_path: Path) -> None:
    with OpenAIServer() as other, OpenAIServer() as server:
        server.script = lambda request: Reply(status=status, body=b"", headers={"location": other.url + "/x?key=1234"})
        with pytest.raises(UsageError) as told:
            asked(server, rows=2, folder=tmp_path, model=model)
        assert len(server.requests) == 1
        assert other.requests == []
    line = str(told.value)
    assert line.startswith(f"external.models.0.api_base: {server.url}: a ({model}): {server.url[:-3]}")
    assert f" redirects to {other.url}/x, where nothing was sent; give the address of the API itself" in line
    with closing(sqlite3.connect(tmp_path / "c.sqlite")) as cache:
        assert cache.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_a_redirect_on_the_same_server_is_followed() -> None:
    def script(request: Request) -> Reply:
        moved = Reply(status=307, body=b"", headers={"location": "/v2/chat/completions"})
        return moved if request.path.startswith("/v1") else Reply("fine")

    with OpenAIServer(script) as server:
        assert texts(asked(server)) == [["fine"]]
    assert [request.path[:3] for request in server.requests] == ["/v1", "/v2"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"<!DOCTYPE html><html>Welcome</html>"),
        Reply(body=b"Please log in", headers={"content-type": "text/html; charset=utf-8"}),
    ],
)
def test_a_web_page_is_called_one_with_its_address(reply: Reply, model: str) -> None:
    with OpenAIServer(lambda _: reply) as server:
        with pytest.raises(UsageError) as told:
            asked(server, rows=3, model=model)
        assert len(server.requests) == 1
    line = str(told.value)
    assert line.startswith(f"external.models.0.api_base: {server.url}: ")
    assert re.search(rf"{re.escape(server.url[:-3])}/\S+ answers with a web page \(HTML\) and status 200", line)
    assert "\n" not in line


def test_a_broken_value_in_the_cache_is_one_line(tmp_path: Path) -> None:
    def spoil(value: str) -> Callable[[], object]:
        with closing(sqlite3.connect(tmp_path / "c.sqlite")) as cache, cache:
            cache.execute("UPDATE answers SET value = ?", (value,))
        return lambda: asked(server, folder=tmp_path)

    with OpenAIServer() as server:
        asked(server, folder=tmp_path)
        for value in ("{", "[]", '{"text": 5}', '{"text": "x"}', "\x00", "[" * 10_000):
            again = spoil(value)
            with pytest.raises(UsageError, match=r"external\.cache: \S+c\.sqlite: the value of the key \w{64} is"):
                again()
    assert len(server.requests) == 1
