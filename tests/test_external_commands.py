"""The external pool as a user meets it: whole commands against a real HTTP server."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ekipl.models import TINY
from ekipl.records import read_jsonl
from tests.openai_server import OpenAIServer, Reply, digits

KEY = "sk-test-4f9a8b7c6d5e"
SMALL = ["data.train_size=6", "rollout.max_tokens=40"]
needs_tiny = pytest.mark.skipif(not TINY.exists(), reason="the tiny checkpoint is not built")


def pair(server: OpenAIServer, cache: Path) -> list[str]:
    """Overrides for two models behind the server."""
    models = [
        f"{{name: m{i}, model: openai/m{i}, samples: null, api_base: '{server.url}', api_key_env: TEST_KEY, "
        "temperature: null, top_p: null, max_tokens: null, concurrency: 8, requests_per_minute: null, "
        "tokens_per_minute: null, price: {input: 1, output: 10}, params: {}}"
        for i in range(2)
    ]
    return ["external=gpt4o_gemini", f"external.models=[{', '.join(models)}]", f"external.cache={cache}"]


def ekipl(*arguments: str, status: int = 0) -> str:
    environment = {**os.environ, "TEST_KEY": KEY, "HYDRA_FULL_ERROR": "1"}
    line = [sys.executable, "-m", "ekipl", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=900, env=environment, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@needs_tiny
def test_a_sweep_after_external_sample_sends_no_request(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        both = [*SMALL, *pair(server, tmp_path / "c.sqlite")]
        ekipl("external-sample", *both, "N=8", "limit=null", f"hydra.run.dir={tmp_path / 'sampled'}")
        assert len(server.requests) == 6 * 2 * 8  # problems, models, samples
        sweep = ["G=4,8,16", "M=0,1,2", "N=4,8", "B=2", "problems_per_step=2", "evaluation.every=0"]
        ekipl("train", "--multirun", *both, *sweep, f"hydra.sweep.dir={tmp_path / 'sweep'}")
        assert len(list((tmp_path / "sweep").glob("*/summary.md"))) == 18
        assert len(server.requests) == 96


def test_a_dry_run_tells_the_cost_and_sends_nothing(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        both = [*SMALL, *pair(server, tmp_path / "c.sqlite"), "N=2"]
        said = ekipl("external-sample", *both, "limit=null", "--dry-run", f"hydra.run.dir={tmp_path / 'sample'}")
        assert "| m0    |      12 |            0 |       12 |" in said  # 6 problems, 2 samples
        said = ekipl("train", *both, "--dry-run", "B=2", "problems_per_step=4", f"hydra.run.dir={tmp_path / 'run'}")
        assert "| m1    |      12 |            0 |       12 |" in said  # 8 problems in two steps, 6 of them different
        assert server.requests == []
        assert not (tmp_path / "run" / "config.yaml").exists()
        assert not list(tmp_path.rglob("ledger.sqlite"))
        assert "nobody is asked" in ekipl("train", "external=none", "--dry-run", f"hydra.run.dir={tmp_path / 'none'}")


def test_external_sample_stops_at_its_budget_and_goes_on_with_another(tmp_path: Path) -> None:
    # Dollars for a token: an answer of six words costs 0.6, at most 4.0 (40 tokens). After six, 3.6 + 4.0 is too much.
    price = ["external.models.0.price.input=0", "external.models.0.price.output=100000"]
    with OpenAIServer() as server:
        both = [*SMALL, *pair(server, tmp_path / "c.sqlite"), *price, "M=1", "N=2", "limit=null"]
        both.append("external.models.0.concurrency=1")
        run = f"hydra.run.dir={tmp_path / 'run'}"
        said = ekipl("external-sample", *both, "external.budget_usd=7", run, status=2)
        assert "external.budget_usd: 7: 3.6000 USD are spent or promised" in said
        assert "Traceback" not in said
        assert len(server.requests) == 6
        said = ekipl("external-sample", *both, "external.budget_usd=100", run)
        assert len(server.requests) == 12
        assert "| m0    |       12 |       0 |      12 |" in said  # the ledger goes on


def test_a_key_appears_nowhere_though_the_provider_repeats_it(tmp_path: Path) -> None:
    told = Reply(status=401, error={"message": f"Incorrect API key provided: {KEY}. Bearer {KEY}"})
    some = [digits, lambda _: Reply(status=500), lambda _: told]
    with OpenAIServer(lambda request: some[min(request.number, 2)](request)) as server:
        both = [*SMALL, *pair(server, tmp_path / "c.sqlite"), "M=1", "external.models.0.concurrency=1", "limit=2"]
        said = ekipl("external-sample", *both, f"hydra.run.dir={tmp_path / 'some'}")
        assert "refused with status 401" in said
    with OpenAIServer(lambda _: told) as server:
        both = [*SMALL, *pair(server, tmp_path / "c.sqlite"), f"hydra.run.dir={tmp_path / 'none'}"]
        said += ekipl("external-sample", *both, status=2)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "ledger.sqlite", "c.sqlite", "actions.jsonl"} <= {path.name for path in files}
    assert KEY not in said
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


@pytest.mark.slow
@needs_tiny
def test_waiting_for_answers_takes_no_time_of_a_step_after_the_first(tmp_path: Path) -> None:
    with OpenAIServer(lambda request: replace(digits(request), delay_s=2.0)) as server:
        small = [
            *SMALL,
            *pair(server, tmp_path / "c.sqlite"),
            "N=4",
            "B=6",
            "problems_per_step=4",
            "data.train_size=24",
        ]
        quick = ["external.models.0.concurrency=64", "external.models.1.concurrency=64", "external.prefetch=3"]
        ekipl("train", *small, *quick, "evaluation.every=0", "checkpoint.every=0", f"hydra.run.dir={tmp_path / 'run'}")
        assert len(server.requests) == 24 * 2 * 4
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")[1:]
    waited, steps = sum(row["time/external"] for row in rows), sum(row["time/step"] for row in rows)
    print(f"{waited:.2f} s of {steps:.2f} s")
    assert waited <= 0.05 * steps
