"""The external pool as a user meets it: whole commands against a real HTTP server."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

from ekipl.algorithm.loop import data_order, train
from ekipl.algorithm.seams import Engine, ExternalSamples, Sampler
from ekipl.algorithm.types import POLICY, Action, Group, Problem, Reward
from ekipl.cli import conf_dir, spelled_out
from ekipl.config import check
from ekipl.errors import UsageError
from ekipl.external.settings import ExternalModel
from ekipl.policy.model import TINY
from ekipl.run import build
from ekipl.run.records import Record, write_actions
from ekipl.run.rewards import build_grader
from tests.command import ekipl
from tests.openai_server import OpenAIServer, Reply, digits
from tests.test_external import problem

KEY = "sk-test-4f9a8b7c6d5e"
SMALL = ["data.train_size=6", "rollout.max_tokens=40"]
needs_tiny = pytest.mark.skipif(not TINY.exists(), reason="the tiny checkpoint is not built")


def pair(server: OpenAIServer, cache: Path) -> list[str]:
    """Overrides for two models behind the server."""
    models = [
        f"{{name: m{i}, model: openai/m{i}, samples: null, api_base: '{server.url}', api_key_env: TEST_KEY, "
        "temperature: null, top_p: null, max_tokens: null, concurrency: 8, requests_per_minute: null, "
        "tokens_per_minute: null, choices: 1, image_tokens: 1000, on_refused: stop, price: {input: 1, output: 10}, "
        "params: {}}"
        for i in range(2)
    ]
    return ["external=gpt4o_gemini", f"external.models=[{', '.join(models)}]", f"external.cache={cache}"]


def here(*arguments: str, status: int = 0) -> str:
    """The output of the command, run in this process, with its messages."""
    done = ekipl(*arguments, TEST_KEY=KEY, HYDRA_FULL_ERROR="1")
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


class Policy:
    """A stand-in: what the cache is asked for does not depend on the policy."""

    def sample(self, problems: Sequence[Problem], n: int, seed: int) -> list[list[Action]]:
        return [[Action(p.id, POLICY, i, "no", "stop", (1,)) for i in range(n)] for p in problems]

    def encode(self, action: Action) -> Action | str:
        return replace(action, tokens=(1,))

    def load_weights(self, engine: Engine) -> None: ...


class Still:
    """An engine that does not learn."""

    def refresh_reference(self) -> None: ...
    def prepare(self, groups: Sequence[Group]) -> Sequence[Group]:
        return groups

    def update(self, batch: Any) -> dict[str, float]:
        return {}


def train_here(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str, policy: Sampler | None = None
) -> list[Group]:
    """Algorithm 1 with the settings, problems, pool and prefetching of ``ekipl train``, but without a model."""
    monkeypatch.setenv("TEST_KEY", KEY)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose("train", overrides=spelled_out("train", list(overrides)))
    settings = check(cfg, "train")
    task = build.build_task(settings)
    problems = settings.data.problems(task, "train", settings.data.train_limit)
    order = list(data_order(len(problems), settings))
    pool = build.prefetching(build.build_pool(settings, folder), problems, order, settings)
    groups: list[Group] = []
    batches = ([problems[row] for row in rows] for rows in order)
    try:
        grade = build_grader(settings, task)
        own: Any = policy or Policy()
        train(batches, grade, own, pool, Still(), settings, lambda step: groups.extend(step.groups))  # type: ignore[arg-type]
    finally:
        pool.close()
    return groups


@needs_tiny
@pytest.mark.slow
def test_a_sweep_after_external_sample_sends_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer() as server:
        both = [*SMALL, *pair(server, tmp_path / "c.sqlite")]
        here("external-sample", *both, "N=8", "limit=null", f"hydra.run.dir={tmp_path / 'sampled'}")
        assert len(server.requests) == 6 * 2 * 8  # problems, models, samples
        small = ["B=3", "problems_per_step=2", "evaluation.every=0"]
        for g, m, n in product((4, 8, 16), (0, 1, 2), (4, 8)):
            choice = [f"G={g}", f"M={m}", f"N={n}"]
            groups = train_here(monkeypatch, tmp_path / f"{g}-{m}-{n}", *both, *small, *choice)
            assert [len(group.offered) for group in groups] == [n * (m + 1)] * 6
            assert [len(group.kept) for group in groups] == [min(g, n * (m + 1))] * 6
        smallest = ["B=1", "problems_per_step=1", "evaluation.every=0", "checkpoint.every=0", "rollout.max_tokens=40"]
        sweep = ["N=4,8", "G=4", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
        here("train", "--multirun", *both, *smallest, *sweep)  # a ledger for each run, one cache
        assert len(list((tmp_path / "sweep").glob("*/summary.md"))) == 2
        assert len(server.requests) == 96


def test_a_dry_run_tells_the_cost_and_sends_nothing(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        both = [*SMALL, *pair(server, tmp_path / "c.sqlite"), "N=2"]
        output = here("external-sample", *both, "limit=null", "--dry-run", f"hydra.run.dir={tmp_path / 'sample'}")
        assert "| m0    |      12 |            0 |       12 |" in output  # 6 problems, 2 samples
        steps = ["B=2", "problems_per_step=4", "external.models.1.samples=1"]
        output = here("train", *both, *steps, "--dry-run", f"hydra.run.dir={tmp_path / 'run'}")
        assert "| m0    |      12 |            0 |       12 |" in output  # 8 problems in two steps, 6 of them different
        assert "| m1    |       6 |            0 |        6 |" in output
        assert re.search(r"external samples +\| +24 \| 3 a problem", output)  # 8 x (2 + 1)
        assert server.requests == []
        assert not (tmp_path / "run" / "config.yaml").exists()
        assert not list(tmp_path.rglob("ledger.sqlite"))
        assert "nobody is asked" in here("train", "external=none", "--dry-run", f"hydra.run.dir={tmp_path / 'none'}")


def test_a_dry_run_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    line = ["external-sample", "external=gpt4o_gemini", "limit=3", "external.cache=null", f"hydra.run.dir={tmp_path}"]
    output = here(*line, "external.budget_usd=1", "--dry-run")
    assert "| gpt4o  |      24 |            0 |        3 |" in output  # 3 problems, 8 samples in a call of 8
    assert "OPENAI_API_KEY: not set" in here(*line, status=2)


def test_a_sampling_without_a_single_action_is_no_success(tmp_path: Path) -> None:
    with OpenAIServer(lambda _: Reply("")) as server:  # empty answers
        models = [*SMALL, *pair(server, tmp_path / "c.sqlite"), "N=1", "limit=2", f"hydra.run.dir={tmp_path / 'run'}"]
        output = here("external-sample", *models, status=2)
    assert "no action: 4 x empty answer" in output
    assert "external.models: none of them gave a single action" in output


def test_external_sample_stops_at_its_budget_and_goes_on_with_another(tmp_path: Path) -> None:
    # Dollars for a token: an answer of six words costs 0.6, at most 4.0 (40 tokens). After six, 3.6 + 4.0 is too much.
    price = ["external.models.0.price.input=0", "external.models.0.price.output=100000"]
    with OpenAIServer() as server:
        both = [*SMALL, *pair(server, tmp_path / "c.sqlite"), *price, "M=1", "N=2", "limit=null"]
        both.append("external.models.0.concurrency=1")
        run = f"hydra.run.dir={tmp_path / 'run'}"
        output = here("external-sample", *both, "external.budget_usd=7", run, status=2)
        assert "external.budget_usd: 7: 3.6000 USD are spent or promised" in output
        assert "Traceback" not in output
        assert len(server.requests) == 6
        output = here("external-sample", *both, "external.budget_usd=100", run)
        assert len(server.requests) == 12
        assert "| m0    |       12 |       0 |      12 |" in output  # the ledger goes on


def test_a_key_appears_nowhere_though_the_provider_repeats_it(tmp_path: Path) -> None:
    told = Reply(status=401, error={"message": f"Incorrect API key provided: {KEY}. Bearer {KEY}"})
    some = [digits, lambda _: Reply(status=500), lambda _: told]
    with OpenAIServer(lambda request: some[min(request.number, 2)](request)) as server:
        both = [*SMALL, *pair(server, tmp_path / "c.sqlite"), "M=1", "external.models.0.concurrency=1", "limit=2"]
        output = here("external-sample", *both, f"hydra.run.dir={tmp_path / 'some'}")
        assert "refused with status 401" in output
    with OpenAIServer(lambda _: told) as server:
        both = [*SMALL, *pair(server, tmp_path / "c.sqlite"), f"hydra.run.dir={tmp_path / 'none'}"]
        output += here("external-sample", *both, status=2)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "ledger.sqlite", "c.sqlite", "actions.jsonl"} <= {path.name for path in files}
    assert KEY not in output
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


@pytest.mark.slow
@needs_tiny
def test_a_run_that_breaks_leaves_no_key_in_any_file(tmp_path: Path) -> None:
    """Run directory, W&B, caches, home and temporary files, and the traceback of a bug raised on purpose."""
    told = Reply(status=500, error={"message": f"Bearer {KEY} is overloaded"})
    places = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "WANDB_CACHE_DIR")}
    for place in places.values():
        place.mkdir()
    with OpenAIServer(lambda request: told if request.number == 0 else digits(request)) as server:
        run = [
            "experiment=smoke",
            "B=3",
            "evaluation.every=0",
            "checkpoint.every=0",
            "logger=wandb",
            "logger.mode=offline",
        ]
        both = [*pair(server, tmp_path / "c.sqlite"), "selection=tests.broken_reward:breaks"]
        line = [sys.executable, "-m", "ekipl", "train", *run, *both, f"hydra.run.dir={tmp_path / 'run'}"]
        where = {name: str(place) for name, place in places.items()}
        env = {**os.environ, "TEST_KEY": KEY, "HYDRA_FULL_ERROR": "1", **where}
        done = subprocess.run(line, capture_output=True, text=True, timeout=900, env=env)
        assert done.returncode == 1, done.stderr
        output = done.stdout + done.stderr
        assert f"Bearer {KEY}" in {request.headers["authorization"] for request in server.requests}
    assert "Traceback" in output
    assert "RuntimeError: broken on purpose" in output
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "metrics.jsonl", "ledger.sqlite", "c.sqlite"} <= {path.name for path in files}
    assert [path for path in files if path.suffix == ".wandb" and path.stat().st_size]
    assert KEY not in output
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


DOCUMENT = (Path(__file__).parents[1] / "docs" / "external.md").read_text()
EXAMPLES = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", DOCUMENT, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("ekipl ")
]


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_the_examples_of_the_document_are_accepted(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("OPENAI", "GEMINI", "OPENROUTER", "AZURE"):
        monkeypatch.setenv(f"{provider}_API_KEY", KEY)
    command = words[1].replace("-", "_")
    overrides = [word.split(",")[0] if "--multirun" in words else word for word in words[2:] if "=" in word]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        settings = check(compose(command, overrides=spelled_out(words[1], overrides)), command)  # type: ignore[arg-type]
    without_cache = replace(settings, external=replace(settings.external, cache=None))
    build.build_pool(without_cache, None).close()  # must not raise


def test_a_recording_is_read_from_its_run_folder(tmp_path: Path) -> None:
    action = Action("p0", "expert_b", 0, "b0", "stop", reward=Reward(1, 1))
    write_actions(tmp_path / "actions.jsonl", [Record("counting", "train", action)])
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        overrides = ["external=recorded", f"external.path={tmp_path}", "M=1", "external.models.0.name=expert_b"]
        settings = check(compose("train", overrides=[*overrides, "external.models.1.name=c"]), "train")
    pool = build.build_pool(settings, None)
    assert pool.sample([problem("p0")], 2) == [ExternalSamples((replace(action, reward=None),))]
    build.refuse_strangers(pool, [problem("p0")])
    with pytest.raises(UsageError, match=f"external.path: {tmp_path}/actions.jsonl: none of the problems"):
        build.refuse_strangers(pool, [problem("p1")])
    (tmp_path / "actions.jsonl").unlink()
    with pytest.raises(UsageError, match="actions.jsonl: No such file"):
        build.build_pool(settings, None)


def test_the_document_shows_all_settings_of_a_model() -> None:
    (shown,) = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)[0])["external"]["models"]
    assert set(shown) == {field.name for field in fields(ExternalModel)}


@pytest.mark.parametrize(
    ("option", "variable", "path", "header"),
    [
        ("openrouter", "OPENROUTER_API_KEY", "/v1/chat/completions", "authorization"),
        ("azure", "AZURE_API_KEY", "/v1/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", "api-key"),
    ],
)
def test_other_providers_are_asked_as_their_options_say(
    option: str, variable: str, path: str, header: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, KEY)
    with OpenAIServer() as server, initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        overrides = [f"external={option}", "external.budget_usd=1", f"external.cache={tmp_path / 'c.sqlite'}", "N=2"]
        settings = check(compose("external_sample", overrides=overrides), "external_sample")
        with closing(build.build_pool(settings, tmp_path)) as pool:
            assert pool.names == tuple(model.name for model in settings.external.models)
        here = [f"++external.models.{i}.api_base={server.url}" for i in range(settings.M)]
        settings = check(compose("external_sample", overrides=[*overrides, *here]), "external_sample")
        pool = build.build_pool(settings, tmp_path)
        (answer,) = pool.sample([problem()], 2)
        pool.close()
    assert answer.failed == {}
    assert len(answer.actions) == 2 * settings.M
    for request in server.requests:
        assert request.path == path
        assert request.headers[header].endswith(KEY)
        assert [part["type"] for part in request.parts] == ["image_url", "text"]
    if option == "openrouter":
        bodies = {request.body["model"]: request.body for request in server.requests}
        assert bodies["openai/gpt-4o-2024-08-06"]["provider"] == {"require_parameters": True}
        assert bodies["google/gemini-2.5-flash"]["reasoning"] == {"enabled": False}
    else:
        assert [request.body["n"] for request in server.requests] == [2]


class Patient(Policy):
    """Does not come to the end of a step before the server was asked for that step and the next two."""

    def __init__(self, server: OpenAIServer, problems: int) -> None:
        self.server, self.problems, self.step = server, problems, 0

    def sample(self, problems: Sequence[Problem], n: int, seed: int) -> list[list[Action]]:
        self.step += 1
        asked = min(self.problems, (self.step + 2) * len(problems))
        expected = asked * 2 * n  # models, samples
        deadline = time.monotonic() + 300
        while len(self.server.requests) < expected:
            assert time.monotonic() < deadline, f"step {self.step}: {len(self.server.requests)} of {expected} requests"
            time.sleep(0.01)
        assert len(self.server.requests) == expected
        return super().sample(problems, n, seed)


def test_coming_steps_are_asked_for_while_the_policy_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this takes of a step, ``benchmarks.external_prefetch`` measures."""
    with OpenAIServer() as server:
        both = [*pair(server, tmp_path / "c.sqlite"), "external.prefetch=3", "evaluation.every=0"]
        plan = ["N=2", "B=8", "problems_per_step=2", "data.train_size=16", "rollout.max_tokens=40"]
        groups = train_here(monkeypatch, tmp_path, *both, *plan, policy=Patient(server, 16))
        assert [len(group.offered) for group in groups] == [2 * 3] * 16
        assert len(server.requests) == 16 * 2 * 2
