"""What calls cost, that budgets hold, that limits and bad days are respected."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.external_soak import soak
from ekipl.algorithm.seams import Decoding
from ekipl.algorithm.types import Problem
from ekipl.errors import UsageError
from ekipl.external import budget, caller, health
from ekipl.external.budget import Meter, Pace, Price, documented
from ekipl.external.health import Health
from ekipl.external.ledger import ANSWERED, Exhausted, Ledger, read_spending
from ekipl.external.pool import LiteLLMPool
from ekipl.external.request import Completion, Question
from ekipl.external.settings import ExternalModel
from ekipl.external.spec import price_of
from ekipl.report.external import surely_no_gradient
from ekipl.report.spending import remaining_table, spending_table
from ekipl.run.describe import spending
from tests.openai_server import OpenAIServer, Reply, Request
from tests.test_external import problem, warm_up

TEN = Price(0.0, 100_000.0)  # 0.1 dollars a token of the answer


OWN = ("price", "concurrency", "params", "choices", "image_tokens", "on_refused")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "FIRST_WAIT_S", 0.01)


def pool_of(
    server: OpenAIServer, *names: str, max_tokens: int = 10, timeout_s: float = 10, **settings: Any
) -> LiteLLMPool:
    mine = {key: settings.pop(key) for key in OWN if key in settings}
    models = [ExternalModel(name, f"openai/{name}", api_base=server.url, **mine) for name in names or ("a",)]
    return LiteLLMPool(models, Decoding(max_tokens=max_tokens), timeout_s, **settings)


# Prices


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("openai/gpt-4o-2024-08-06", Price(2.5, 10)),
        ("gemini/gemini-2.5-flash", Price(0.3, 2.5)),
        ("openai/Qwen/Qwen2.5-VL-72B-Instruct", None),
        ("azure/my-deployment", None),
        ("simulated/a", Price(0, 0)),
    ],
)
def test_prices_are_litellms_unless_told(model: str, price: Price | None) -> None:
    found = price_of(ExternalModel("m", model))
    assert found == (price and Price(pytest.approx(price.input), pytest.approx(price.output)))  # type: ignore[arg-type]
    assert price_of(ExternalModel("m", "openai/gpt-4o", price=Price(1.0, 7.0))) == Price(1.0, 7.0)


def test_a_call_is_bounded_before_it_is_sent_and_more_tightly_once_images_were_counted() -> None:
    meter = Meter("openai/gpt-4o", Price(2.0, 10.0), 50, None)
    asked = Question(problem()).shape  # one image of 9 x 7; "p0: how many?" has 13 bytes
    assert meter.prompt_tokens(asked) == 13 + 100 + 4000
    assert meter.most_usd(asked) == pytest.approx((4113 * 2 + 50 * 10) / 1e6)
    assert meter.most_usd(asked, 3) == pytest.approx(3 * (4113 * 2 + 50 * 10) / 1e6)  # as if n were not honoured
    answer = Completion("x", "stop", 300, 7)
    assert meter.usd(asked, answer) == pytest.approx((300 * 2 + 7 * 10) / 1e6)
    assert meter.usd(asked, replace(answer, shared=3)) == pytest.approx((100 * 2 + 7 * 10) / 1e6)
    meter.learn(asked, answer)
    assert meter.prompt_tokens(Question(problem("p1")).shape) == 300 + 113
    assert meter.prompt_tokens(Question(problem("p1", images=2)).shape) == 8113
    assert meter.usd(asked, Completion("x", "stop", 0, 0)) == meter.most_usd(asked)  # the provider told no tokens
    assert meter.usd(asked, Completion("x", "stop", 300, 0)) == meter.most_usd(asked)
    assert Meter("m", None, 50, None).most_usd(asked) is None


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("openai/gpt-4o-2024-08-06", (2048, 768), 85 + 8 * 170),  # the largest that is left after scaling
        ("openai/gpt-4o-mini-2024-07-18", (2048, 768), 2_833 + 8 * 5_667),
        ("azure/gpt-4.1-nano", (2048, 768), 3_779),  # 1,536 x 2.46
        ("openrouter/openai/gpt-5-mini", (4000, 4000), 2_489),
        ("gemini/gemini-2.5-flash", (384, 384), 258),
        ("gemini/gemini-2.5-pro", (960, 540), 6 * 258),  # tiles of 360 pixels
        ("gemini/gemini-2.5-pro", (10_000, 300), 40 * 2 * 258),  # of 256
        ("openrouter/google/gemini-3-pro-preview", (9, 7), 2_240),
        ("anthropic/claude-sonnet-4-5", (1_092, 1_092), 1_590),  # width x height / 750
    ],
)
def test_what_an_image_counts_is_never_above_the_bound(model: str, size: tuple[int, int], tokens: int) -> None:
    bound = documented(model)
    assert bound is not None
    assert bound(size) >= tokens


@pytest.mark.parametrize("model", ["openai/Qwen/Qwen2.5-VL-72B", "azure/mine", "openai/gpt-5.4", "openai/gpt-4oid"])
def test_nobody_guesses_what_an_image_counts(model: str) -> None:
    assert documented(model) is None
    assert Meter(model, Price(1.0, 1.0), 5, None).most_usd(Question(problem()).shape) is None
    assert Meter(model, Price(0.0, 2.0), 5, None).most_usd(Question(problem()).shape) == 1e-5  # nor needs to
    assert Meter(model, Price(1.0, 0.0), 5, 700).most_usd(Question(problem()).shape) == pytest.approx(813e-6)


def test_a_budget_needs_prices_and_limits() -> None:
    models = [
        ExternalModel("a", "openai/mine", api_base="http://127.0.0.1:9"),
        ExternalModel("b", "openai/gpt-4o", api_base="http://127.0.0.1:9", params={"max_tokens": None}),
        ExternalModel("c", "openai/mine", api_base="http://127.0.0.1:9", price=Price(1.0, 1.0)),
        ExternalModel(
            "d",
            "openai/gpt-5",
            api_base="http://127.0.0.1:9",
            params={"max_tokens": None, "max_completion_tokens": 9},
        ),
    ]
    with pytest.raises(UsageError) as refused:
        LiteLLMPool(models, Decoding(), 10, budget_usd=1.0)
    first, second, third = str(refused.value).splitlines()
    assert first.startswith("external.models.0.price: null: a budget is set, and LiteLLM lists no price of openai/mine")
    assert second.startswith("external.models.1.params.max_tokens: null")
    assert third.startswith("external.models.2.image_tokens: null: a budget is set, and how many tokens openai/mine")
    LiteLLMPool(models, Decoding(), 10).close()


def test_a_bill_above_its_bound_ends_the_run_and_its_answer_is_kept(tmp_path: Path) -> None:
    # Of "p0: how many?" the server counts 3 words. 13 bytes + 100 bound that, until it begins to count 999.
    usage = {"prompt_tokens": 999, "completion_tokens": 1, "total_tokens": 1000}
    with OpenAIServer(lambda _: Reply("x", usage=usage)) as server:
        settings = {"price": Price(1.0, 1.0), "image_tokens": 50, "concurrency": 1, "budget_usd": 5.0}
        pool = pool_of(server, cache=tmp_path / "c.sqlite", **settings)
        with pytest.raises(UsageError, match=r"external.models.0.image_tokens: 50: a: .* 999 prompt and 1 completion"):
            pool.sample([problem()], 3)
        pool.close()
        assert len(server.requests) == 1
        free = pool_of(server, cache=tmp_path / "c.sqlite")
        assert free.sample([problem()], 1)[0].failed == {}
        assert len(server.requests) == 1
        free.close()


# The ledger


def test_the_ledger_adds_up_and_lets_nobody_over_the_budget(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", 1.0, 60)
    one = ledger.reserve("a", "p", [0], 1, 0.6)
    with pytest.raises(Exhausted, match="0.6000 USD") as exhausted:
        ledger.reserve("a", "p", [1], 1, 0.5)
    assert exhausted.value.may_change
    ledger.settle(one, [ANSWERED], 0.1, 30, 4)
    two = ledger.reserve("a", "p", [1], 1, 0.9)  # 0.1 + 0.9: the last cent
    ledger.settle(two, ["timeout"], None)  # may be on the bill
    assert ledger.spent_usd() == 1.0
    with pytest.raises(Exhausted) as exhausted:
        ledger.reserve("a", "p", [2], 1, 1e-9)
    assert not exhausted.value.may_change
    free = ledger.reserve("b", "p", [0], 2, 0.0)
    ledger.settle(free, ["server error"], 0.0)
    ledger.hit("b", 5)
    sums = ledger.spending()
    assert sums.models == [("a", 2, 0, 1, 30, 4, 0, 1.0), ("b", 1, 1, 0, 0, 0, 5, 0.0)]
    assert sums.failed == [("a", "timeout", 1), ("b", "server error", 1)]
    ledger.close()
    assert spending(tmp_path) is None
    table = spending_table(*sums)
    assert table.rows == [
        ["a", "2", "0", "1", "30", "4", "0", "1.0000"],
        ["b", "1", "1", "0", "0", "0", "5", "0.0000"],
    ]
    assert table.notes == ["a: 1 x timeout", "b: 1 x server error"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_makes_nobody_wait_for_a_killed_call(tmp_path: Path, hours: int) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", 1.0, 60)
    ledger.reserve("a", "p", [0], 1, 0.6)
    ledger.close()
    with sqlite3.connect(tmp_path / "l.sqlite") as file:  # as if the clock had gone the other way since
        file.execute("UPDATE calls SET time = time - ?", (3600 * hours,))
    ledger = Ledger(tmp_path / "l.sqlite", 1.0, 60)
    with pytest.raises(Exhausted) as exhausted:
        ledger.reserve("a", "p", [1], 1, 0.5)
    assert not exhausted.value.may_change
    ledger.close()


PROMISING = """
import sys, time
from pathlib import Path
from ekipl.external.ledger import Exhausted, Ledger
ledger = Ledger(Path(sys.argv[1]), 1.0, 60)
try:
    while True:
        ledger.reserve("a", "p", [0], 1, 0.001)
        print("promised", flush=True)
except Exhausted:
    print("exhausted", flush=True)
    time.sleep(60)
"""


def test_processes_share_a_budget_and_what_a_killed_one_had_in_flight_stays_promised(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    both = [
        subprocess.Popen([sys.executable, "-c", PROMISING, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    count = 0
    for process in both:
        assert process.stdout is not None
        count += sum(1 for _ in iter(process.stdout.readline, "exhausted\n"))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert count == 1000
    ledger = Ledger(path, 1.0, 60)
    assert ledger.spent_usd() == 1.0
    with pytest.raises(Exhausted):
        ledger.reserve("a", "p", [0], 1, 0.001)
    ledger.close()
    assert read_spending(tmp_path).failed == [("a", "never ended", 1000)]


# Budgets


@pytest.mark.parametrize("concurrency", [1, 7])
def test_a_budget_is_never_exceeded_and_spent_to_the_last_call(concurrency: int, tmp_path: Path) -> None:
    # An answer of 4 words costs 0.4, at most 10 tokens = 1.0. Of 3.0 dollars six answers cost 2.4, after which another
    # may cost 1.0: too much.
    with OpenAIServer(lambda _: Reply("four words in it", delay_s=0.02)) as server:
        pool = pool_of(server, price=TEN, concurrency=concurrency, budget_usd=3.0, ledger=tmp_path / "ledger.sqlite")
        with pytest.raises(
            UsageError, match=r"external.budget_usd: 3: 2.4000 USD are spent .*on_exhausted=policy_only"
        ):
            pool.sample([problem(f"p{i}") for i in range(5)], 4)
        pool.close()
        assert len(server.requests) == 6
        assert server.most_in_flight <= 3  # each holds 1.0 dollar
        again = pool_of(server, price=TEN, budget_usd=3.0, ledger=tmp_path / "ledger.sqlite")
        with pytest.raises(UsageError, match="2.4000 USD are spent"):
            again.sample([problem("p9")], 1)
        again.close()
        assert len(server.requests) == 6


def test_answers_cut_at_their_limit_are_no_overrun_and_several_in_a_call_are_bounded_together(tmp_path: Path) -> None:
    # 10 tokens at 1/30 of a dollar: 1/3 an answer, whatever is rounded. Of 3 dollars two calls for 3 answers take 2,
    # a third one may cost 1.
    price = Price(0.0, 1e6 / 30)
    with OpenAIServer(lambda _: Reply("w " * 10, delay_s=0.02)) as server:
        pool = pool_of(server, price=price, choices=3, budget_usd=3.0001, on_exhausted="policy_only")
        answers = pool.sample([problem(f"p{i}") for i in range(4)], 3)
        assert pool.spent() == (3, pytest.approx(3.0))
        pool.close()
    assert sorted(len(answer.actions) for answer in answers) == [0, 3, 3, 3]
    assert sum(answer.failed.get("budget spent", 0) for answer in answers) == 3


def test_policy_only_goes_on_with_what_was_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAIServer(lambda _: Reply("four words in it")) as server:
        settings = {"price": TEN, "budget_usd": 3.0, "on_exhausted": "policy_only", "concurrency": 1}
        pool = pool_of(server, cache=tmp_path / "c.sqlite", ledger=tmp_path / "ledger.sqlite", **settings)
        answers = pool.sample([problem(f"p{i}") for i in range(3)], 3)
        assert [len(answer.actions) for answer in answers] == [3, 3, 0]
        assert [answer.failed for answer in answers] == [{}, {}, {"budget spent": 3}]
        assert pool.sample([problem("p0")], 3) == answers[:1]
        pool.close()
    assert len(server.requests) == 6
    assert capsys.readouterr().err.count("external.budget_usd: 3") == 1
    sums = read_spending(tmp_path)
    assert sums.models == [("a", 6, 0, 6, 18, 24, 3, 2.4)]
    assert sums.failed == [("a", "budget spent", 3)]


def test_what_may_be_on_the_bill_counts_and_what_is_not_does_not(tmp_path: Path) -> None:
    warm_up()
    replies = [Reply(status=503), Reply(body=b"{"), Reply("late", delay_s=9), Reply("two words")]
    with OpenAIServer(lambda request: replies[min(request.number, 3)]) as server:
        pool = pool_of(server, price=TEN, timeout_s=1.0, budget_usd=99.0, ledger=tmp_path / "ledger.sqlite")
        assert len(pool.sample([problem()], 1)[0].actions) == 1
        pool.close()
    sums = read_spending(tmp_path)
    # 503: nothing. 200 that cannot be read, and a deadline: at most 1.0 each. The answer: 2 tokens, 0.2.
    assert sums.models == [("a", 4, 3, 1, 3, 2, 0, 2.2)]
    assert sums.failed == [("a", "server error", 1), ("a", "timeout", 1), ("a", "unreadable answer", 1)]


def test_the_remaining_cost_counts_what_is_missing_and_asks_nobody(tmp_path: Path) -> None:
    problems = [problem(f"p{i}") for i in range(4)]
    with OpenAIServer(lambda _: Reply("four words in it")) as server:
        pool = pool_of(server, "a", "b", price=Price(1.0, 10.0), cache=tmp_path / "c.sqlite")
        pool.sample(problems[:3], 2)
        remaining = pool.remaining_cost([*problems, *problems], 3)
        pool.close()
        assert len(server.requests) == 12
    # 4 x 3 samples, 3 x 2 there: 6 to ask, 3 prompt and 4 completion tokens each: (18 x 1 + 24 x 10) / 1e6 = 0.000258
    # at most (3 + 113) + 10 x 10 a call: 6 x 216 / 1e6 = 0.001296
    table = remaining_table(remaining, 1000)
    assert table.rows == [[name, "12", "6", "6", "18", "24", "0.0003", "0.0013"] for name in "ab"]


def test_the_remaining_cost_holds_no_images_of_problems_that_it_has_seen() -> None:
    seen: list[weakref.ref[Problem]] = []
    alive: list[int] = []

    def problems() -> Iterator[Problem]:
        for number in range(5):
            one = problem(f"p{number}")
            seen.append(weakref.ref(one))
            yield one
            del one
            alive.append(sum(reference() is not None for reference in seen))

    with OpenAIServer() as server:
        pool = pool_of(server)
        assert pool.remaining_cost(problems(), 2)[0][:4] == ("a", 10, 0, 10)
        pool.close()
    assert max(alive) <= 1  # the one before


# Limits and bad days


def test_calls_are_spaced_to_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MINUTE_S", 1.0)

    async def times(pace: Pace, tokens: int) -> list[float]:
        async def one() -> float:
            await pace.turn(tokens)
            return time.monotonic() - start

        start = time.monotonic()
        return list(await asyncio.gather(*(one() for _ in range(5))))

    for pace, tokens in [(Pace(20, None), 10), (Pace(None, 200), 10), (Pace(20, 10**6), 10), (Pace(10**6, 200), 10)]:
        got = asyncio.run(times(pace, tokens))
        assert all(moment >= 0.05 * number - 0.001 for number, moment in enumerate(got)), got  # 20 in a second


def test_a_pause_holds_for_calls_that_wait_for_their_turn_and_wastes_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MINUTE_S", 1.0)

    async def times() -> list[float]:
        pace, start = Pace(20, None), time.monotonic()

        async def one() -> float:
            await pace.turn(10)
            return time.monotonic() - start

        waiting = [asyncio.create_task(one()) for _ in range(4)]
        await waiting[0]
        pace.pause(0.4)
        return await asyncio.gather(*waiting)

    first, *others = asyncio.run(times())
    # after the pause one every 0.05 s, as before; without it they would have begun at 0.05, 0.10, 0.15
    assert all(moment >= first + 0.4 + 0.05 * number - 0.001 for number, moment in enumerate(others))


def test_a_failing_model_is_set_aside_tried_singly_and_taken_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "IN_A_ROW", 3)
    now = [100.0]
    monkeypatch.setattr(health.time, "monotonic", lambda: now[0])
    model = Health("a")
    for _ in range(2):
        model.failed("timeout")
    model.answered()
    for _ in range(3):
        assert model.admits()
        model.failed("timeout")
    model.failed("timeout")  # under way when it was set aside: changes nothing
    assert not model.admits()
    now[0] += 59
    assert not model.admits()
    now[0] += 2
    assert model.admits()
    assert not model.admits(), "one at a time"
    model.failed("timeout")
    now[0] += 61
    assert not model.admits(), "twice as long"
    now[0] += 60
    assert model.admits()
    model.cancelled()
    assert model.admits()
    model.answered()
    assert model.admits()
    assert model.admits()
    told = capsys.readouterr().err
    assert told.count("set aside for 60 s (timeout)") == 1
    assert told.count("set aside for 120 s (timeout)") == 1
    assert told.count("answers again") == 1


def test_a_pause_that_a_provider_asks_for_is_not_ended_by_an_answer_that_was_under_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(health.time, "monotonic", lambda: now[0])
    model = Health("a")
    for _ in range(3):  # sent together, told alike
        model.rest("rate limited", 3600.0)
    model.answered()
    assert model.has_answered
    assert not model.admits()
    now[0] += 3601
    assert model.admits()
    model.answered()
    assert model.admits()
    told = capsys.readouterr().err
    assert told.count("set aside for 3600 s, as its provider asks (rate limited)") == 1
    assert told.count("answers again") == 1


def test_the_run_goes_on_without_a_model_that_fails_and_the_summary_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "IN_A_ROW", 4)
    monkeypatch.setattr(health, "FIRST_REST_S", 0.3)
    is_down = [True]

    def script(request: Request) -> Reply:
        return Reply(status=500) if is_down[0] and request.body["model"] == "bad" else Reply("fine")

    with OpenAIServer(script) as server:
        pool = pool_of(server, "good", "bad", concurrency=1, ledger=tmp_path / "ledger.sqlite")
        answers = pool.sample([problem(f"p{i}") for i in range(5)], 2)
        assert [len(answer.actions) for answer in answers] == [2] * 5
        failed = [answer.failed for answer in answers]
        assert failed == [{"server error": 2}] * 2 + [{"set aside": 2}] * 3
        assert sum(request.body["model"] == "bad" for request in server.requests) == 4 * caller.ATTEMPTS
        is_down[0] = False
        time.sleep(0.35)
        (answer,) = pool.sample([problem("p9")], 2)
        assert len(answer.actions) == 4
        pool.close()
    told = capsys.readouterr().err
    assert "external model bad: set aside for 0 s (server error); the run goes on without it" in told
    assert "external model bad: answers again" in told
    assert read_spending(tmp_path).failed == [("bad", "server error", 20), ("bad", "set aside", 6)]


@pytest.mark.parametrize("reply", [Reply(status=429, error={"code": "insufficient_quota"}), Reply(status=401)])
def test_a_quota_spent_on_the_way_ends_the_model_and_not_the_run(reply: Reply) -> None:
    with OpenAIServer(lambda request: Reply("fine") if request.number == 0 else reply) as server:
        pool = pool_of(server, concurrency=1)
        first, second = pool.sample([problem(), problem("p1")], 3)
        pool.close()
        assert (len(first.actions), first.failed) == (1, {f"refused with status {reply.status}": 1, "set aside": 1})
        assert (len(second.actions), second.failed) == (0, {"set aside": 3})
        assert len(server.requests) == 2


# What to know before choosing N, M and G


def test_groups_surely_without_gradient_are_counted_exactly() -> None:
    assert surely_no_gradient([(8, 8)], 8, 8) == 1
    assert surely_no_gradient([(7, 8)], 8, 8) == 0
    assert surely_no_gradient([(3, 4)], 2, 2) == pytest.approx(1 / 2)  # C(3, 2) / C(4, 2) = 3 / 6
    # 1 of 2 drawn from (1 of 2) and (1 of 2): both perfect with 1/2 x 1/2, at least one with 3/4
    assert surely_no_gradient([(1, 2), (1, 2)], 1, 2) == pytest.approx(1 / 4)
    assert surely_no_gradient([(1, 2), (1, 2)], 1, 1) == pytest.approx(3 / 4)
    assert surely_no_gradient([], 8, 4) == 0


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=3),
    st.integers(1, 6),
    st.integers(1, 8),
)
def test_surely_no_gradient_is_what_drawing_says(counts: list[tuple[int, int]], n: int, size: int) -> None:
    """All ways to draw, one by one."""
    problem = [(perfect, perfect + other) for perfect, other in counts if perfect + other]
    ways = [
        [sum(draw) for draw in combinations([1] * perfect + [0] * (count - perfect), min(n, count))]
        for perfect, count in problem
    ]
    hits = [sum(draws) >= size for draws in product(*ways)]
    assert surely_no_gradient(problem, n, size) == pytest.approx(sum(hits) / len(hits))


# A bad day


def test_a_bad_day_with_kills_loses_nothing_and_pays_nothing_twice(tmp_path: Path) -> None:
    outcome = soak(count=12, kills=1, share=0.3, seed=1, folder=tmp_path)
    assert outcome.wanted == 12 * 2 * 8
    assert outcome.cached + sum(outcome.failed.values()) == outcome.wanted
    assert outcome.unexplained == 0
    assert outcome.paid_twice == 0
    assert outcome.answered == outcome.cached + outcome.lost
    assert outcome.sources == outcome.cached, "two samples of one answer"
    killed, last = outcome.lives
    assert killed.unsettled <= 16  # calls that may be under way
    assert last.unsettled == 0
    assert sum(outcome.replies.values()) == outcome.requests > outcome.wanted


def test_a_traceback_with_all_its_variables_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-test-4f9a8b7c6d5e")

    def broken(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(Meter, "learn", broken)
    with OpenAIServer() as server:
        pool = LiteLLMPool([ExternalModel("a", "openai/a", api_base=server.url, api_key_env="TEST_KEY")], Decoding(), 9)
        with pytest.raises(RuntimeError) as caught:
            pool.sample([problem()], 1)
        pool.close()
        assert server.requests[0].headers["authorization"] == "Bearer sk-test-4f9a8b7c6d5e"
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "_once" in shown
    assert "sk-test" not in shown
