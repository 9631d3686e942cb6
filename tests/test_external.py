"""The external pool against a real HTTP server on loopback, simulated experts, recordings."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from ekipl.algorithm.seams import Decoding, ExternalSamples
from ekipl.algorithm.types import Action, Problem
from ekipl.errors import UsageError
from ekipl.external import caller, client
from ekipl.external.ledger import Ledger, Spending
from ekipl.external.pool import LiteLLMPool
from ekipl.external.request import Call, Completion, Question, data_url
from ekipl.external.settings import ExternalModel
from tests.openai_server import OpenAIServer, Reply, Request, digits

KEY = "sk-test-4f9a8b7c6d5e"
GOLD = "GOLD-7781"
MakePool = Callable[..., LiteLLMPool]


def problem(name: str = "p0", images: int = 1, **changes: Any) -> Problem:
    rng = random.Random(name)
    made = tuple(Image.frombytes("RGB", (9, 7), rng.randbytes(9 * 7 * 3)) for _ in range(images))
    base = Problem(name, "counting", "train", made, "How many?", f"{name}: how many?", GOLD, "number", {"cot": GOLD})
    return replace(base, **changes)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr(caller, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    """A pool of models behind one server; further models by ``models``."""
    made: list[LiteLLMPool] = []

    def make(
        server: OpenAIServer, *names: str, timeout_s: float = 10, decoding: Decoding | None = None, **changes: Any
    ) -> LiteLLMPool:
        settings = {"api_base": server.url, "api_key_env": "TEST_KEY", **changes}
        models = [ExternalModel(name, **{"model": f"openai/{name}", **settings}) for name in names or ("gpt4o",)]
        made.append(LiteLLMPool(models, decoding or Decoding(), timeout_s))
        return made[-1]

    yield make
    for one in made:
        one.close()


def in_turn(*replies: Reply) -> Callable[[Request], Reply]:
    """The replies one after the other; the last one for all further requests."""
    return lambda request: replies[min(request.number, len(replies) - 1)]


def warm_up() -> None:
    """Makes a first call, in which LiteLLM imports its larger part: that may take longer than a short deadline."""
    with OpenAIServer() as server:
        pool = LiteLLMPool([ExternalModel("a", "openai/a", api_base=server.url)], Decoding(), 60)
        pool.sample([problem()], 1)
        pool.close()


def texts(answers: list[ExternalSamples]) -> list[list[str]]:
    return [[action.text for action in answer.actions] for answer in answers]


# What is sent, and what comes back


def test_images_arrive_byte_for_byte_before_the_prompt_and_nothing_else_is_sent(make_pool: MakePool) -> None:
    asked = problem(images=2)
    with OpenAIServer() as server:
        make_pool(server, decoding=Decoding(0.7, 0.9, 0, 99)).sample([asked], 1)
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert [part["type"] for part in request.parts] == ["image_url", "image_url", "text"]
    assert request.prompt == asked.prompt
    for sent, image in zip(request.images, asked.images, strict=True):
        assert sent == base64.b64decode(data_url(image).split(",")[1])
        assert Image.open(BytesIO(sent)).tobytes() == image.tobytes()
    assert {key: value for key, value in request.body.items() if key != "messages"} == {
        "model": "gpt4o",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 99,
    }
    assert [message["role"] for message in request.body["messages"]] == ["user"]
    assert GOLD not in json.dumps([request.body, request.headers]), "a real model was told the answer"


def test_a_model_overrides_the_decoding_of_the_pool_and_null_leaves_a_parameter_out(make_pool: MakePool) -> None:
    with OpenAIServer() as server:
        changes = {"temperature": 0.0, "max_tokens": 7, "params": {"top_p": None, "presence_penalty": 0.5}}
        make_pool(server, decoding=Decoding(top_k=5), **changes).sample([problem()], 1)
    sent = {key: value for key, value in server.requests[0].body.items() if key not in ("model", "messages")}
    assert sent == {"temperature": 0.0, "max_tokens": 7, "presence_penalty": 0.5, "top_k": 5}


@pytest.mark.parametrize(
    "text",
    [
        "<think>two cubes</think>\n<answer>2</answer>",  # LiteLLM takes the first pair of tags out of these
        "<thinking>two cubes</think>\n<answer>2</answer>",
        "<think>a</think><think>b</think>",
        "\n <think>two cubes</think> <answer>2</answer> \n\t",
        "no tags, <|im_end|><|image_pad|> \u2028 \x00 ü 你好",
    ],
)
def test_the_text_is_exactly_what_was_received(make_pool: MakePool, text: str) -> None:
    with OpenAIServer(lambda _: Reply(text)) as server:
        (answer,) = make_pool(server).sample([problem()], 1)
    assert answer == ExternalSamples((Action("p0", "gpt4o", 0, text, "stop"),), {})


def test_hidden_reasoning_is_ignored(make_pool: MakePool) -> None:
    reply = Reply("<think>a</think> 1", message={"reasoning_content": "hidden", "reasoning": "hidden too"})
    with OpenAIServer(lambda _: reply) as server:
        assert texts(make_pool(server).sample([problem()], 1)) == [["<think>a</think> 1"]]


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_an_answer_that_was_cut_says_so(make_pool: MakePool, finish: str) -> None:
    with OpenAIServer(lambda _: Reply("<think>and so on and", finish=finish)) as server:
        (answer,) = make_pool(server).sample([problem()], 1)
    assert [action.finish for action in answer.actions] == [finish]


def test_the_order_is_problem_model_sample_however_late_an_answer_is(make_pool: MakePool) -> None:
    def late_first(request: Request) -> Reply:
        return Reply(f"{request.prompt} {request.body['model']} {request.number}", delay_s=0.3 - 0.02 * request.number)

    problems = [problem(f"p{i}") for i in range(2)]
    with OpenAIServer(late_first) as server:
        answers = make_pool(server, "b", "a").sample(problems, 3)
    assert len(server.requests) == 12  # 2 problems x 2 models x 3 samples: one request each
    told = [(a.problem_id, a.source, a.index) for answer in answers for a in answer.actions]
    assert told == [(f"p{i}", name, k) for i in range(2) for name in "ba" for k in range(3)]
    for action in (a for answer in answers for a in answer.actions):
        assert action.text.startswith(f"{action.problem_id}: how many? {action.source} ")
    assert len({a.text for answer in answers for a in answer.actions}) == 12


def test_a_model_may_have_its_own_number_of_samples(make_pool: MakePool) -> None:
    with OpenAIServer() as server:
        (answer,) = make_pool(server, samples=1).sample([problem()], 4)
        assert [action.index for action in answer.actions] == [0]
        assert make_pool(server, "none").sample([problem()], 0) == [ExternalSamples((), {})]


def test_a_completion_carries_the_tokens_that_the_provider_counted() -> None:
    with OpenAIServer(lambda _: Reply("four words in it")) as server:
        call = Call("openai/m", Question(problem()).messages, {}, server.url, KEY, 10)
        (completion,) = asyncio.run(client.complete(call))
    assert completion == Completion("four words in it", "stop", 3, 4, "m-0")  # prompt: "p0: how many?"
    assert KEY not in repr(call)


def test_gemini_answers_and_failures(make_pool: MakePool) -> None:
    """The other protocol of the paper's pair: images inline, text whole, pauses told in the body."""
    text = "<think>two</think>\n<answer>2</answer>"
    good = {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP"}]}
    busy = {"code": 429, "message": "quota", "details": [{"@type": "RetryInfo", "retryDelay": "0.4s"}]}
    spent = {"code": 429, "message": "quota", "details": [{"violations": [{"quotaId": "RequestsPerDayPerModel"}]}]}
    replies = [
        Reply(status=429, body=json.dumps({"error": busy}).encode()),
        Reply(body=json.dumps({**good, "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1}}).encode()),
        Reply(status=429, body=json.dumps({"error": spent}).encode()),
    ]
    asked = problem()
    with OpenAIServer(in_turn(*replies)) as server:
        gemini = make_pool(server, model="gemini/gemini-2.5-flash")
        assert texts(gemini.sample([asked], 1)) == [[text]]
        waited = server.requests[1].time - server.requests[0].time
        parts = server.requests[1].body["contents"][0]["parts"]
        assert base64.b64decode(parts[0]["inline_data"]["data"]) == base64.b64decode(
            data_url(asked.images[0]).split(",")[1]
        )
        assert parts[1] == {"text": asked.prompt}
        assert waited >= 0.4
        assert gemini.sample([asked], 1)[0].failed == {"refused with status 429": 1}  # at once, and the run goes on
        with pytest.raises(UsageError, match="quota is spent"):
            make_pool(server, model="gemini/gemini-2.5-flash").sample([asked], 1)
    assert len(server.requests) == 4


# What fails for a while


def test_a_rate_limit_is_waited_out_and_asked_again_once(make_pool: MakePool) -> None:
    with OpenAIServer(in_turn(Reply(status=429, headers={"retry-after": "1"}), Reply("<think>"))) as server:
        assert texts(make_pool(server).sample([problem()], 1)) == [["<think>"]]
    one, two = server.requests
    assert two.time - one.time >= 1.0


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529, 409])
def test_what_stays_unavailable_is_asked_a_fixed_number_of_times_and_counted(make_pool: MakePool, status: int) -> None:
    def script(request: Request) -> Reply:
        return Reply(status=status) if "bad" in request.prompt else digits(request)

    with OpenAIServer(script) as server:
        bad, good = make_pool(server).sample([problem("bad"), problem("good")], 2)
    assert bad == ExternalSamples((), {"rate limited" if status == 429 else "server error": 2})
    assert len(good.actions) == 2
    assert good.failed == {}
    assert len(server.requests) == 2 * caller.ATTEMPTS + 2  # no other layer multiplies the attempts


def test_a_pause_that_is_too_long_loses_the_sample_and_is_respected(
    make_pool: MakePool, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = Reply(status=429, headers={"retry-after": "3600"})
    with OpenAIServer(lambda request: busy if request.body["model"] == "busy" else digits(request)) as server:
        pool = make_pool(server, "busy", "idle", concurrency=1)
        (first,) = pool.sample([problem()], 2)
        assert (len(first.actions), first.failed) == (2, {"rate limited": 1, "set aside": 1})
        (second,) = pool.sample([problem("p1")], 2)
        assert (len(second.actions), second.failed) == (2, {"set aside": 2})
    assert sum(request.body["model"] == "busy" for request in server.requests) == 1
    told = capsys.readouterr().err
    assert told.count("external model busy: set aside for 3600 s, as its provider asks (rate limited)") == 1


@pytest.mark.parametrize("reply", [Reply("late", delay_s=9), Reply("drop by drop", drip_s=0.05)])
def test_the_deadline_holds_for_the_whole_answer(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    monkeypatch.setattr(caller, "ATTEMPTS", 2)
    warm_up()
    with OpenAIServer(lambda _: reply) as server:
        slow = make_pool(server, timeout_s=1.0)
        start = time.monotonic()
        assert slow.sample([problem()], 1) == [ExternalSamples((), {"timeout": 1})]
        assert time.monotonic() - start >= 2.0  # 2 attempts of 1 s
        server.settle()
        assert server.left == {0, 1}  # the client hung up, and did not wait for the whole answer


def test_a_server_that_is_not_there_is_counted(make_pool: MakePool) -> None:
    with OpenAIServer() as server:
        nobody = make_pool(server)
    assert nobody.sample([problem()], 2) == [ExternalSamples((), {"no connection": 2})]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("half an ans", finish="content_filter"), "content filter"),
        (Reply(status=400, error={"code": "content_filter", "message": "filtered"}), "content filter"),
        (Reply(None), "empty answer"),
        (Reply(None, message={"refusal": "I cannot"}), "refusal"),
        (Reply(" \n", finish="length"), "empty answer"),
        (Reply(body=b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[]}'), "empty answer"),
        (Reply(body=b"<html>busy</html>"), "web page instead of an answer"),
        (Reply(body=b'{"choices":[{"message":{"content":"\xff"}}]}'), "unreadable answer"),
    ],
)
def test_answers_with_nothing_in_them_are_counted(make_pool: MakePool, reply: Reply, reason: str) -> None:
    with OpenAIServer(in_turn(Reply("fine"), reply)) as server:
        (answer,) = make_pool(server, concurrency=1).sample([problem()], 3)
    assert [action.text for action in answer.actions] == ["fine"]
    assert answer.failed == {reason: 2}


# What is refused for good


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # the client filters it; pytest resets filters
@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(status=401, error={"message": f"Incorrect API key: {KEY}"}), ["401", "TEST_KEY"]),
        (Reply(status=403, error={"message": f"Bearer {KEY} may not"}), ["403", "TEST_KEY"]),
        (Reply(status=404, error={"message": "no model gpt4o"}), ["404", "no model gpt4o", "api_base"]),
        (
            Reply(status=400, error={"message": "Unsupported value", "param": "temperature"}),
            ["external.models.0.temperature", "400", "params: {temperature: null}"],
        ),
        (Reply(status=422, error={"message": "max_tokens: too large"}), ["external.models.0.max_tokens", "422"]),
        (Reply(status=429, error={"message": "billing", "code": "insufficient_quota"}), ["429", "quota is spent"]),
    ],
)
def test_a_refusal_ends_the_run_and_names_the_way_out(make_pool: MakePool, reply: Reply, told: list[str]) -> None:
    with OpenAIServer(lambda _: reply) as server:
        refused = make_pool(server, concurrency=2)
        with pytest.raises(UsageError) as caught:
            refused.sample([problem(f"p{i}") for i in range(20)], 2)
        shown = str(caught.value)
        assert all(words in shown for words in ["external.models.0", "gpt4o (openai/gpt4o)", *told])
        assert KEY not in shown
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert "\n" not in shown
        assert len(server.requests) <= 8  # of 40 calls: those in flight when the first refusal came


def test_a_parameter_that_litellm_itself_refuses_is_named_and_can_be_left_out(make_pool: MakePool) -> None:
    with OpenAIServer() as server:
        with pytest.raises(UsageError, match=r"external\.models\.0\.top_p: .* params: \{top_p: null\}"):
            make_pool(server, "gpt-5").sample([problem()], 1)
        with pytest.raises(UsageError, match=r"external\.models\.0\.temperature"):
            make_pool(server, "gpt-5", params={"top_p": None}, temperature=0.3).sample([problem()], 1)
        assert server.requests == []
        assert make_pool(server, "gpt-5", params={"top_p": None}).sample([problem()], 1)[0].failed == {}


def test_messages_are_short_printable_and_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_OTHER_API_KEY", "abcd1234wxyz")
    shown = client.redact(f"\x1b[31m{KEY} abcd1234wxyz AIzaSyFoo Bearer zzz\nsk-ab***yz " + "x" * 999, KEY)
    assert shown.startswith(" [31m[key] [key] [key] [key] [key] xxx")
    assert len(shown) == 300


# What is wrong before the first call


def test_a_missing_key_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    models = [
        ExternalModel("gpt4o", "openai/gpt-4o", api_key_env="MY_UNSET_KEY"),
        ExternalModel("gpt", "openai/gpt-4o"),
        ExternalModel("gemini", "gemini/gemini-1.5-pro-002"),
    ]
    with pytest.raises(UsageError) as caught:
        LiteLLMPool(models, Decoding(), 10)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "external.models.0.api_key_env: MY_UNSET_KEY" in lines[0]
    assert "openai/gpt-4o" in lines[0]
    assert "OPENAI_API_KEY is not set" in lines[1]
    assert "GEMINI_API_KEY is not set" in lines[2]
    assert not [thread for thread in threading.enumerate() if thread.name == "ekipl-external"]


def test_every_mistake_in_the_models_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN_KEY", "two\nlines-of-secret")
    models = [
        ExternalModel("a", "bogus/model"),
        ExternalModel("b", "openai/x", api_base="http://127.0.0.1:9", params={"n": 4, "api_key": "x", "seed": 1}),
        ExternalModel("c", "openai/x", api_key_env="BROKEN_KEY"),
        ExternalModel("d", "simulated/d", params={"accuracy": 1.5}),
        ExternalModel("e", "simulated/e", params={"accuracy": "high"}),
        ExternalModel("f", "simulated/f", params={"acuracy": 0.5, "style": "loud"}),
    ]
    with pytest.raises(UsageError) as caught:
        LiteLLMPool(models, Decoding(), 10)
    told = [line.split(": ")[0].removeprefix("external.models.") for line in str(caught.value).splitlines()]
    assert told == [
        "0.model", "1.params.api_key", "1.params.n", "1.params.seed",
        "2.api_key_env", "3.params.accuracy", "4.params.accuracy", "5.params.style", "5.params.acuracy",
    ]  # fmt: skip
    assert "secret" not in str(caught.value)


def test_a_server_of_ones_own_never_sees_the_key_of_openai(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-real-one-123")
    with OpenAIServer() as server:
        make_pool(server, api_key_env=None).sample([problem()], 1)
    assert "sk-the-real-one-123" not in json.dumps(dict(server.requests[0].headers))


# Threads and loops


def test_no_more_calls_in_flight_than_the_model_allows(make_pool: MakePool) -> None:
    with OpenAIServer(lambda _: Reply("x", delay_s=0.2)) as server:
        make_pool(server, concurrency=3).sample([problem(f"p{i}") for i in range(6)], 2)
    assert len(server.requests) == 12
    assert server.most_in_flight == 3


def test_one_pool_serves_many_calls_and_threads(make_pool: MakePool) -> None:
    with OpenAIServer() as server:
        shared = make_pool(server, concurrency=2)
        got: list[list[ExternalSamples]] = []
        threads = [threading.Thread(target=lambda: got.append(shared.sample([problem()], 3))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        got.append(shared.sample([problem()], 3))
        assert [len(answers[0].actions) for answers in got] == [3, 3, 3, 3]

        async def inside_a_loop() -> list[ExternalSamples]:
            return shared.sample([problem()], 1)

        assert len(asyncio.run(inside_a_loop())[0].actions) == 1
    assert server.most_in_flight <= 2


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_close_leaves_no_thread_and_the_next_pool_works(make_pool: MakePool) -> None:
    def ours() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "ekipl-external"]

    with OpenAIServer() as server:
        for _ in range(3):
            one = make_pool(server)
            assert len(one.sample([problem()], 2)[0].actions) == 2
            assert len(ours()) == 1
            one.close()
            one.close()
            assert ours() == []


def test_closing_ends_a_call_that_is_under_way(make_pool: MakePool) -> None:
    ended: list[BaseException] = []
    with OpenAIServer(lambda _: Reply("late", delay_s=9)) as server:
        slow = make_pool(server)

        def ask() -> None:
            try:
                slow.sample([problem()], 1)
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not server.requests:
            time.sleep(0.01)
        slow.close()
        thread.join()
        server.settle()
        assert server.left == {0}
    assert len(ended) == 1


def test_litellm_is_imported_by_the_pool_alone_and_reads_no_env_file(tmp_path: Any) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=from-the-file\n")
    code = """
import os, sys
import ekipl.external.offline, ekipl.external.pool, ekipl.external.simulated
assert "litellm" not in sys.modules
from ekipl.algorithm.seams import Decoding
ekipl.external.pool.LiteLLMPool([ekipl.external.settings.ExternalModel("a", "simulated/a")], Decoding(), 1).close()
assert "litellm" in sys.modules and "OPENAI_API_KEY" not in os.environ
"""
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "", "HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


# Several answers in one call


def test_n_is_asked_for_where_it_is_honoured_and_cached_sample_by_sample(make_pool: MakePool, tmp_path: Any) -> None:
    with OpenAIServer() as server:
        models = [ExternalModel("a", "openai/a", api_base=server.url, choices=3)]

        def sample(n: int, ledger: str) -> list[Action]:
            pool = LiteLLMPool(models, Decoding(), 10, cache=tmp_path / "c.sqlite", ledger=tmp_path / ledger)
            try:
                (answer,) = pool.sample([problem()], n)
                assert answer.failed == {}
                return list(answer.actions)
            finally:
                pool.close()

        first = sample(5, "one")
        assert sorted(request.body["n"] for request in server.requests) == [2, 3]
        assert [action.index for action in first] == list(range(5))
        assert len({action.text for action in first}) == 5
        assert sample(2, "two") == first[:2]
        assert sample(7, "three")[:5] == first
        assert [request.body.get("n", 1) for request in server.requests[2:]] == [1, 1]  # of 3..5 and of 6 the missing
        # a prompt of 3 words for three answers, another for two; an answer has 6 words
        assert spending(tmp_path / "one").models == [("a", 2, 0, 5, 6, 30, 0, None)]


def spending(path: Any) -> Spending:
    ledger = Ledger(path, None, 0.0)
    sums = ledger.spending()
    ledger.close()
    return sums


@pytest.mark.parametrize(("sent", "warning"), [(1, "got 1"), (2, "got 2"), (0, "got 1")])
def test_a_provider_that_ignores_n_is_asked_for_one_at_a_time(
    make_pool: MakePool, capsys: pytest.CaptureFixture[str], sent: int, warning: str
) -> None:
    empty = Reply(body=b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[]}')

    def script(request: Request) -> Reply:
        if "n" not in request.body:
            return Reply(f"single {request.number}")
        return Reply(texts=tuple(f"choice {i}" for i in range(sent))) if sent else empty

    with OpenAIServer(script) as server:
        pool = make_pool(server, choices=4)
        (answer,) = pool.sample([problem()], 4)
        assert len(answer.actions) == (4 if sent else 3)
        assert answer.failed == ({} if sent else {"empty answer": 1})
        assert len(server.requests) == 1 + 4 - max(sent, 1)
        pool.sample([problem("p1")], 4)
        assert all("n" not in request.body for request in server.requests[1:])
    told = capsys.readouterr().err
    assert told.count("from now on it is asked for one at a time") == 1
    assert f"asked for 4 answers in one call, {warning}" in told


def test_more_choices_than_asked_for_are_left_alone(make_pool: MakePool) -> None:
    with OpenAIServer(lambda _: Reply(texts=("one", "two", "three"))) as server:
        assert texts(make_pool(server, choices=2).sample([problem()], 2)) == [["one", "two"]]
        assert texts(make_pool(server).sample([problem()], 1)) == [["one"]]


def test_a_refusal_of_n_is_no_refusal_of_the_run(make_pool: MakePool, capsys: pytest.CaptureFixture[str]) -> None:
    def script(request: Request) -> Reply:
        told = {"message": "Only one candidate can be specified in the current model"}
        return Reply(status=400, error=told) if "n" in request.body else digits(request)

    with OpenAIServer(script) as server:
        (answer,) = make_pool(server, choices=4).sample([problem()], 4)
        assert len(answer.actions) == 4
        assert [request.body.get("n") for request in server.requests] == [4, None, None, None, None]
    assert "refuses 4 answers in one call" in capsys.readouterr().err


# Parameters that are refused


def refuses_top_p(request: Request) -> Reply:
    told = {"message": "Unsupported value: 'top_p' does not support 0.9 with this model.", "param": "top_p"}
    return Reply(status=400, error=told) if "top_p" in request.body else digits(request)


def test_a_refused_parameter_is_dropped_only_where_the_settings_say_so_and_then_recorded(
    make_pool: MakePool, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(refuses_top_p) as server:
        with pytest.raises(UsageError, match=r"external\.models\.0\.top_p: .*on_refused: drop"):
            make_pool(server, concurrency=1).sample([problem()], 2)
        assert len(server.requests) == 1
        drop = ExternalModel("a", "openai/a", api_base=server.url, concurrency=1, on_refused="drop")
        files = {"cache": tmp_path / "c.sqlite", "ledger": tmp_path / "l.sqlite"}
        for asked in (4, 4):  # one refusal and three answers; then nothing
            pool = LiteLLMPool([drop], Decoding(top_p=0.9), 10, **files)
            assert len(pool.sample([problem()], 3)[0].actions) == 3
            pool.close()
            assert len(server.requests) == 1 + asked
        told = capsys.readouterr().err
        assert told.count("external model a: refuses top_p, which is left out from now on (on_refused: drop)") == 1
        assert spending(tmp_path / "l.sqlite").dropped == [("a", "top_p")]
        # a run that does not allow it does not get these answers
        strict = LiteLLMPool([replace(drop, on_refused="stop")], Decoding(top_p=0.9), 10, **files)
        with pytest.raises(UsageError, match="top_p"):
            strict.sample([problem()], 1)
        strict.close()


def test_the_limit_of_an_answer_is_never_dropped(make_pool: MakePool) -> None:
    told = Reply(status=400, error={"message": "max_tokens is too large", "param": "max_tokens"})
    with OpenAIServer(lambda _: told) as server, pytest.raises(UsageError, match=r"external\.models\.0\.max_tokens"):
        make_pool(server, on_refused="drop").sample([problem()], 1)


def test_a_problem_that_is_refused_again_in_a_later_run_does_not_end_it(tmp_path: Any) -> None:
    def script(request: Request) -> Reply:
        return Reply(status=400, error={"message": "bad image"}) if "bad" in request.prompt else digits(request)

    problems = [problem("bad"), problem("good")]
    with OpenAIServer(script) as server:
        for known in (False, True):
            model = ExternalModel("a", "openai/a", api_base=server.url, concurrency=1)
            pool = LiteLLMPool([model], Decoding(), 10, cache=tmp_path / "c.sqlite")
            bad, good = reversed(pool.sample(problems[::-1], 1))
            assert (len(good.actions), bad.failed) == (1, {"refused with status 400": 1})
            pool.close()
            assert len(server.requests) == (3 if known else 2)  # the second run asks for the bad one alone


# What providers say


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after": "1.5"}, "", 1.5),
        ({"retry-after": "soon"}, '"retryDelay": "7s"', 7.0),
        ({}, '{"@type": "RetryInfo", "retryDelay": "0.25s"}', 0.25),
        (None, "no", 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, "", 0.0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str] | None, message: str, seconds: float) -> None:
    assert client.retry_after(headers, message) == seconds


@pytest.mark.parametrize(
    ("status", "code", "message", "spent"),
    [
        (402, None, "Insufficient credits", True),
        (429, "insufficient_quota", "", True),
        (429, None, "quotaId: GenerateRequestsPerDayPerProjectPerModel-FreeTier", True),
        (429, "rate_limit_exceeded", "Rate limit reached on requests per day (RPD): Limit 200", True),
        (429, None, "free-models-per-day", True),
        (429, "rate_limit_exceeded", "Rate limit reached on tokens per min (TPM)", False),
        (503, None, "per day", False),
    ],
)
def test_a_spent_quota_is_told_from_a_full_minute(status: int, code: str | None, message: str, spent: bool) -> None:
    assert client.is_spent(status, code, message) is spent


def test_an_error_inside_an_answer_is_an_error(make_pool: MakePool) -> None:
    """OpenRouter answers with status 200 and tells the true one in the body."""
    busy = Reply(body=b'{"error": {"code": 429, "message": "rate limited upstream"}}')
    with OpenAIServer(in_turn(busy, Reply("fine"))) as server:
        assert texts(make_pool(server).sample([problem()], 1)) == [["fine"]]
    broke = Reply(body=b'{"error": {"code": 402, "message": "credits"}}')
    with OpenAIServer(lambda _: broke) as server, pytest.raises(UsageError, match="402.*quota is spent"):
        make_pool(server).sample([problem()], 1)


@pytest.mark.parametrize("model", ["openai/m", "gemini/gemini-2.5-flash"])
@pytest.mark.parametrize(
    "body",
    [
        "null", "[]", '"text"', "{}", '{"choices": "x"}', '{"choices": [null]}', '{"choices": [{"message": 5}]}',
        '{"choices": [{"message": {"content": ["a"]}}]}', '{"candidates": 5}', '{"usage": "x", "choices": [{}]}',
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the client filters them; pytest resets filters
def test_no_nonsense_of_a_server_ends_a_run(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, model: str, body: str
) -> None:
    monkeypatch.setattr(caller, "ATTEMPTS", 1)
    with OpenAIServer(lambda _: Reply(body=body.encode())) as server:
        assert make_pool(server, model=model).sample([problem()], 1)[0].failed == {"unreadable answer": 1}


def test_all_calls_of_a_model_wait_when_one_is_told_to(make_pool: MakePool) -> None:
    with OpenAIServer(in_turn(Reply(status=429, headers={"retry-after": "0.5"}), Reply("x"))) as server:
        pool = make_pool(server, concurrency=2)
        pool.sample([problem(f"p{i}") for i in range(6)], 1)
        times = [request.time for request in server.requests]
    assert len(times) == 7
    assert sum(moment - times[0] < 0.45 for moment in times) <= 3  # those that were under way, and the next of them
