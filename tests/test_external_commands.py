"""The external pool as a user meets it: whole commands against a real HTTP server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ekipl.models import TINY
from tests.openai_server import OpenAIServer

SMALL = ["data.train_size=6", "rollout.max_tokens=40"]
needs_tiny = pytest.mark.skipif(not TINY.exists(), reason="the tiny checkpoint is not built")


def pair(server: OpenAIServer, cache: Path) -> list[str]:
    """Overrides for two models behind the server."""
    models = [
        f"{{name: m{i}, model: openai/m{i}, samples: null, api_base: '{server.url}', api_key_env: TEST_KEY, "
        "temperature: null, top_p: null, max_tokens: null, concurrency: 8, params: {}}"
        for i in range(2)
    ]
    return ["external=gpt4o_gemini", f"external.models=[{', '.join(models)}]", f"external.cache={cache}"]


def ekipl(*arguments: str, status: int = 0) -> str:
    environment = {**os.environ, "TEST_KEY": "sk-test-4f9a8b7c6d5e"}
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
