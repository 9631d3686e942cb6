"""The page of ``ekipl view`` in headless Chromium: what a reader does, and what hostile text must not do."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.view import words, write_run
from ekipl.algorithm.types import Problem
from ekipl.run.records import read_actions
from ekipl.run.serving import Page, Server
from ekipl.run.viewing import write_view
from tools.browser import Browser, Tab, chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium: install one, or set CHROMIUM to its path"),
]
STEPS = 6
HOSTILE = [
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 2</script>",
    "<img src=x onerror='window.ran = 3'>",
    "<svg onload=window.ran=4><a href='javascript:window.ran=5'>x</a>",
    "javascript:window.ran=6",
    "<iframe src='https://example.org/'></iframe><link rel=stylesheet href=//example.org/a.css>",
    "{{script}} ${window.ran=7} `${window.ran=8}`",
    "\u202egnp.elif\u202c \u200f\u2066 \u2028 \u2029 \x00 \x1b[31m \ufeff",
    "lone \ud800 half",
    "x" * 100_000,
    "<think>" * 5_000 + "<answer>",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    assert path is not None
    with Browser(path) as found:
        yield found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def family(problem: Problem) -> Problem:
        return replace(problem, metadata={"family": "even" if int(problem.id[-1]) % 2 == 0 else "odd"})

    return write_run(tmp_path_factory.mktemp("page") / "made", STEPS, 4, 6, distinct=8, told=family)


@pytest.fixture
def tab(browser: Browser, run: Path) -> Tab:
    found = browser.tab()
    found.size(1200, 900)
    found.open(write_view([run], 10**7).resolve().as_uri())
    return found


def go(tab: Tab, /, **state: str) -> None:
    """Show a part of the page, as a link to it does."""
    text = "&".join(f"{name}={value}" for name, value in state.items())
    tab.js(f"location.hash = {text!r}")
    tab.wait(f"document.querySelector('.tab[aria-current]') && location.hash === '#{text}'")
    tab.js("new Promise((done) => setTimeout(() => requestAnimationFrame(() => done(1)), 0))")


def text(tab: Tab, selector: str) -> str:
    return str(tab.js(f"document.querySelector({selector!r}).textContent"))


def count(tab: Tab, selector: str) -> int:
    return int(tab.js(f"document.querySelectorAll({selector!r}).length"))


def choose(tab: Tab, label: str, value: str) -> None:
    tab.js(
        f"(() => {{ const s = document.querySelector('select[aria-label={json.dumps(label)}]');"
        f" s.value = {value!r}; s.dispatchEvent(new Event('change')); }})()"
    )


def is_quiet(tab: Tab) -> None:
    """No script but the page's own ran, nothing was asked of anyone, and the policy had nothing to forbid."""
    assert tab.js("window.ran") is None
    assert [address for address in tab.requests if not address.startswith(("file:", "data:image/webp"))] == []
    assert len([address for address in tab.requests if address.startswith("file:")]) == 1
    assert tab.js("window.violations") == []
    assert tab.errors == []


def groups(run: Path, step: int) -> dict[str, list[Any]]:
    """The actions of each problem of a step."""
    found: dict[str, list[Any]] = {}
    for record in read_actions(run / "actions" / f"step-{step:06d}.jsonl"):
        found.setdefault(record.action.problem_id, []).append(record)
    return found


def test_the_first_screen_tells_the_run(tab: Tab) -> None:
    assert "Accuracy in distribution from" in text(tab, ".lead")
    assert "problems a step = 12" in text(tab, ".facts")
    titles = tab.js("[...document.querySelectorAll('figcaption strong')].map((e) => e.textContent)")
    assert {"Accuracy on held-out problems", "Who was offered", "Who was kept", "KL to the reference"} <= set(titles)
    assert count(tab, "figure.chart svg[role=img]") == len(titles)
    is_quiet(tab)


def test_a_chart_tells_its_numbers_to_pointer_and_keys(tab: Tab) -> None:
    tab.js("document.querySelector('figure.chart svg[role=img]').focus()")
    for _ in range(2):
        tab.key("ArrowRight", 39)
    tip = text(tab, "figure.chart .tip")
    assert tip.startswith("step 1in distribution")
    box = tab.js("(() => { const b = document.querySelector('figure.chart svg[role=img]').getBoundingClientRect();"
                 " return [b.right - 20, b.top + 60]; })()")  # fmt: skip
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    assert text(tab, "figure.chart .tip").startswith(f"step {STEPS}in distribution")


def test_the_slider_and_the_arrow_keys_change_the_step(tab: Tab, run: Path) -> None:
    go(tab, tab="groups")
    assert text(tab, "output") == f"step {STEPS}"
    for _ in range(2):
        tab.key("ArrowLeft", 37)
    assert text(tab, "output") == f"step {STEPS - 2}"
    assert tab.js("[...document.querySelectorAll('article h3')].map((e) => e.textContent)") == [*groups(run, STEPS - 2)]
    tab.js("(() => { const s = document.getElementById('step'); s.value = 0; s.dispatchEvent(new Event('input')); })()")
    assert text(tab, "output") == "step 1"
    tab.js("document.getElementById('step').focus()")
    tab.key("ArrowRight", 39)  # the slider's own
    assert text(tab, "output") == "step 2"
    assert "step=2" in tab.js("location.hash")


def test_a_candidate_is_whole(tab: Tab, run: Path) -> None:
    go(tab, tab="groups", step="3", texts="open", order="offered")
    problem, records = next(iter(groups(run, 3).items()))
    card = f"[id='problem-3-{problem}']"
    assert count(tab, f"{card} .candidate") == len(records)
    assert count(tab, f"{card} .candidate.out") == sum(not record.kept for record in records)
    assert count(tab, f"{card} .candidate .think") == len(records)
    assert text(tab, f"{card} .candidate .text") == records[0].action.text.replace("</think> <", "</think><")
    assert records[0].statement.question in text(tab, f"{card} .question")
    assert text(tab, f"{card} .gold").endswith(records[0].statement.answer)
    tab.wait(f'document.querySelector("{card} img").naturalWidth === 96')


def test_filters(tab: Tab, run: Path) -> None:
    solved: Counter[str] = Counter()
    for step in range(1, STEPS + 1):
        for records in groups(run, step).values():
            own, others = (
                any(record.action.right for record in records if (record.action.source == "policy") == is_own)
                for is_own in (True, False)
            )
            solved["nobody" if not (own or others) else "own" if not others else "both" if own else "external"] += 1
            solved["refused"] += bool(records[0].refused)
            solved["dead"] += not any(record.advantage for record in records)
    for name in ("nobody", "own", "external", "both", "refused", "dead"):
        go(tab, tab="groups", scope="all", filter=name)
        assert text(tab, ".count").startswith(f"{solved[name]} of {4 * STEPS} problems"), name
    go(tab, tab="groups", scope="all")
    choose(tab, "Family", "odd")
    assert text(tab, ".count").startswith(f"{2 * STEPS} of")  # of 8 problems every other one
    assert set(tab.js("[...document.querySelectorAll('.family')].map((e) => e.textContent)")) == {"odd"}


def test_search(tab: Tab, run: Path) -> None:
    wanted = read_actions(run / "actions" / "step-000004.jsonl")[3].action
    go(tab, tab="groups", scope="all")
    tab.key("/", 191)
    tab.js(f"document.activeElement.value = {wanted.text[:80].upper()!r}")
    tab.js("document.activeElement.dispatchEvent(new Event('input'))")
    assert text(tab, ".count").startswith("1 of ")
    assert text(tab, "article h3") == wanted.problem_id


def test_a_problem_is_followed_over_the_steps(tab: Tab) -> None:
    go(tab, tab="groups", step="1")
    problem = text(tab, "article h3")
    assert text(tab, "article .also .link") == "step 3"  # 8 problems, 4 a step
    tab.js("document.querySelector('article .also .link').click()")
    assert text(tab, "output") == "step 3"
    assert count(tab, f"[id='problem-3-{problem}']") == 1
    tab.js("document.querySelector('article .also .link:last-child').click()")
    assert text(tab, ".count").startswith(f"3 of {4 * STEPS}")
    assert set(tab.js("[...document.querySelectorAll('article h3')].map((e) => e.textContent)")) == {problem}


def test_base_and_trained_policy_side_by_side(tab: Tab, run: Path) -> None:
    def right(step: int) -> dict[tuple[str, str], bool]:
        records = read_actions(run / "evaluations" / f"step-{step:06d}.jsonl")
        return {(record.split, record.action.problem_id): record.action.right for record in records}

    first, last = right(0), right(STEPS)
    pairs = [*zip(first.values(), last.values(), strict=True)]
    gained, lost = (sum(a == before and b != before for a, b in pairs) for before in (False, True))
    go(tab, tab="answers", a="step%200", change="gained")
    assert text(tab, ".count").startswith(f"{gained} of {len(first)} problems")
    go(tab, tab="answers", a="step%200", change="lost")
    assert text(tab, ".count").startswith(f"{lost} of {len(first)} problems")
    assert count(tab, "article .pair > div") == 2 * lost


def test_two_runs_are_compared(browser: Browser, run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", 3, 4, 6, distinct=8, overrides=["beta=0.5", "method.name=mine"])
    tab = browser.tab()
    tab.open(write_view([run, other], 10**7, tmp_path / "both.html").resolve().as_uri())
    assert tab.js("[...document.querySelectorAll('.tab')].map((e) => e.textContent)")[0] == "Compare"
    assert text(tab, "figure.chart .legend") == "ekiplmine"
    rows = tab.js("[...document.querySelectorAll('tr')].map((r) => [...r.children].map((c) => c.textContent))")
    assert ["beta", "0.04", "0.5"] in rows
    go(tab, tab="groups", run="1")
    assert text(tab, "output") == "step 3"
    is_quiet(tab)


def test_a_sweep_is_sorted(browser: Browser, tmp_path: Path) -> None:
    for place, size in enumerate((4, 10, 2)):
        run = write_run(tmp_path / str(place), 2, 2, 6, distinct=4, overrides=[f"seed={size}"])
        (run / ".hydra").mkdir()
        (run / ".hydra" / "overrides.yaml").write_text(f"- seed={size}\n")
    tab = browser.tab()
    tab.open(write_view([tmp_path], 10**7).resolve().as_uri())
    column = "[...document.querySelector('table').querySelectorAll('tbody th')].map((e) => e.textContent)"
    assert tab.js(column) == ["4", "10", "2"]
    for order in (["2", "4", "10"], ["10", "4", "2"]):
        tab.js("document.querySelector('.sort').click()")
        assert tab.js(column) == order
    is_quiet(tab)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def of(problem: Problem) -> Problem:
        n = int(problem.id[-1])
        return replace(
            problem,
            id=HOSTILE[n % 9] + problem.id,
            question=HOSTILE[n % len(HOSTILE)],
            answer=HOSTILE[(n + 1) % 9],
            metadata={"family": HOSTILE[n % 9]},
        )

    def say(rng: Random) -> str:
        return rng.choice(HOSTILE) + words(rng)

    folder = tmp_path_factory.mktemp("hostile") / "<img src=x onerror=window.ran=9>"
    overrides = ["method.name='</script><script>window.ran=10</script>'"]
    return write_run(folder, 3, 8, 6, distinct=8, text=say, told=of, overrides=overrides)


def test_hostile_text_is_text(browser: Browser, hostile: Path) -> None:
    tab = browser.tab()
    tab.size(1200, 900)
    tab.open(write_view([hostile], 10**7).resolve().as_uri())
    for state in (
        {"tab": "overview"},
        {"tab": "groups", "scope": "all", "texts": "open"},
        {"tab": "answers"},
        {"tab": "settings"},
    ):
        go(tab, **state)
        tab.js("document.querySelectorAll('button.picture, .candidate summary').forEach((e) => e.click())")
        assert count(tab, "script") == 2
        assert count(tab, "iframe, link, a, object, embed, form, svg a") == 0
        assert tab.js("[...document.images].every((i) => i.src.startsWith('data:image/webp;base64,'))")
    go(tab, tab="groups", scope="all", texts="open")
    shown = text(tab, "main")
    assert all(payload in shown for payload in HOSTILE[:6])
    assert "U+202E" in shown
    assert "\u202e" not in shown
    assert "characters are left out here" in shown
    is_quiet(tab)


def test_the_policy_would_tell_of_a_script(browser: Browser, hostile: Path) -> None:
    """The control of the test above: what it says did not happen would have been seen."""
    tab = browser.tab()
    tab.open(write_view([hostile], 10**7).resolve().as_uri())
    tab.js("document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }))")
    tab.js("document.body.append(Object.assign(new Image(), { src: 'https://example.org/x.png' }))")
    tab.wait("window.violations.length === 2")
    assert tab.js("window.ran") is None


@pytest.mark.parametrize("name", ["overview", "groups", "answers", "settings"])
def test_a_phone_does_not_scroll_sideways(browser: Browser, hostile: Path, name: str) -> None:
    tab = browser.tab()
    tab.size(360, 700)
    tab.open(write_view([hostile], 10**7).resolve().as_uri())
    go(tab, tab=name, texts="open")
    assert tab.js("document.documentElement.scrollWidth") <= 360


def test_light_and_dark(tab: Tab) -> None:
    def contrast() -> float:
        bright = [
            tab.js(f"(getComputedStyle(document.body).{name}.match(/[0-9]+/g) || []).slice(0, 3).map(Number)")
            for name in ("color", "backgroundColor")
        ]
        return float(sum(bright[0]) - sum(bright[1]))

    assert contrast() < -300
    tab.size(1200, 900, dark=True)
    assert contrast() > 300


def test_a_live_page_follows_the_run(browser: Browser, tmp_path: Path) -> None:
    whole = write_run(tmp_path / "whole", 3, 2, 6, distinct=4)
    growing = tmp_path / "growing"
    (growing / "actions").mkdir(parents=True)
    (growing / "config.yaml").write_bytes((whole / "config.yaml").read_bytes())
    rows = (whole / "metrics.jsonl").read_bytes().splitlines(keepends=True)

    def until(step: int) -> None:
        name = f"step-{step:06d}.jsonl"
        (growing / "actions" / name).write_bytes((whole / "actions" / name).read_bytes())
        (growing / "metrics.jsonl").write_bytes(b"".join(rows[: step + 1]))

    until(1)
    server = Server(Page([growing], 10**7), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        tab = browser.tab()
        tab.open(server.address)
        go(tab, tab="groups")
        assert text(tab, "output") == "step 1"
        until(3)
        tab.wait("document.querySelector('output').textContent === 'step 3'")
        assert tab.js("window.violations") == []
        assert {address for address in tab.requests if not address.startswith("data:")} == {
            server.address,
            f"{server.address}data.json",
        }
        for host, path, method, status in [
            (f"127.0.0.1:{server.server_port}", "/", "GET", 200),
            (f"localhost:{server.server_port}", "/data.json", "GET", 200),
            ("evil.example", "/", "GET", 403),
            (f"evil.example:{server.server_port}", "/data.json", "GET", 403),
            (f"127.0.0.1:{server.server_port}", "/config.yaml", "GET", 404),
            (f"127.0.0.1:{server.server_port}", "/../config.yaml", "GET", 404),
            (f"127.0.0.1:{server.server_port}", "/", "POST", 501),
        ]:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
            connection.request(method, path, headers={"Host": host})
            answer = connection.getresponse()
            assert answer.status == status, (host, path, method)
            assert (b"schema" in answer.read()) is False
            connection.close()
    finally:
        server.shutdown()
        server.server_close()
