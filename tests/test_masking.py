"""No secret reaches a file or a message."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ekipl.config import check
from ekipl.masking import masked, masked_values, without_password
from ekipl.run.log import open_logger
from ekipl.run.saved import load_saved, saved_text
from tests.command import ekipl
from tests.openai_server import OpenAIServer
from tests.test_config import composed

PASSWORD, HEADER, QUERY = "pa55-w0rd-of-mine", "gateway-0123456789", "q-9876543210"
WORDS = st.text("abcdefgh0123456789._~-", min_size=8, max_size=20)


@given(WORDS, WORDS)
def test_a_secret_is_masked_wherever_it_stands(user: str, secret: str) -> None:
    for text in (f"https://{user}:{secret}@host/v1", f"http://h/v1?api-key={secret}&x=1", f"Bearer {secret}"):
        assert secret not in masked(f"at {text}: no").replace(user, "")
        assert secret not in str(masked_values({"a": [text, {"b": text}], "n": 1})).replace(user, "")
    assert without_password(f"https://{user}:{secret}@host/v1") == "https://host/v1"


@pytest.mark.parametrize("text", ["http://127.0.0.1:8000/v1", "runs/train:x@y", "task-8", "N: 8", "a?b=c", "m@host:/x"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


def test_saved_settings_refer_to_the_environment_and_come_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_GATEWAY", HEADER)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    values = {
        "command": "train",
        "N": 8,
        "G": "${N}",
        "external": {
            "models": [{"api_base": f"https://me:{PASSWORD}@host/v1?key={QUERY}"}],
            "header": "${oc.env:MY_GATEWAY}",
        },
        "home": "${oc.env:HOME}/data",
    }
    cfg = OmegaConf.create(values)
    text = saved_text(cfg)
    assert not [secret for secret in (PASSWORD, HEADER, QUERY) if secret in text]
    (tmp_path / "config.yaml").write_text(text)
    again = load_saved(tmp_path / "config.yaml")
    assert OmegaConf.to_container(again, resolve=True) == OmegaConf.to_container(cfg, resolve=True)
    assert saved_text(again) == text == saved_text(cfg)
    assert masked(f"{HEADER} {PASSWORD}") == "[key] [key]"  # known from now on


@pytest.mark.parametrize("mode", [[], ["--multirun"]])
def test_a_run_writes_no_secret_and_its_server_gets_it(mode: list[str], tmp_path: Path) -> None:
    with OpenAIServer() as server:
        address = server.url.replace("://", f"://me:{PASSWORD}@") + f"?key={QUERY}"
        where = [f"hydra.run.dir={tmp_path}/run"] if not mode else [f"hydra.sweep.dir={tmp_path}/sweep"]
        done = ekipl(
            "external-sample",
            *mode,
            *("external=openai_server", "limit=1", "N=1", "M=1", f"external.cache={tmp_path}/c.sqlite"),
            f"external.models.0.api_base='{address}'",
            "external.models.0.params={extra_headers: {X-Gateway: '${oc.env:MY_GATEWAY}'}}",
            *where,
            MY_GATEWAY=HEADER,
        )
        assert done.returncode == 0, done.stderr
        (request,) = server.requests
    assert request.headers["authorization"] == "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert request.headers["x-gateway"] == HEADER
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "overrides.yaml", "hydra.yaml", "ledger.sqlite", "actions.jsonl"} <= {p.name for p in files}
    for secret in (PASSWORD, HEADER, QUERY):
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
        assert secret not in done.stderr


@pytest.mark.slow
def test_weights_and_biases_is_told_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "MY_GATEWAY": HEADER})
    address = f"https://me:{PASSWORD}@host/v1?key={QUERY}"
    header = "external.models.0.params={extra_headers: {X-Gateway: '${oc.env:MY_GATEWAY}'}}"
    mine = ["external=openai_server", "M=1", f"external.models.0.api_base='{address}'", header]
    cfg = composed("train", *mine, "logger=wandb", "logger.mode=offline")
    saved_text(cfg)  # every command writes its settings first, and from there on knows what came from the environment
    logger = open_logger(check(cfg, "train"), tmp_path)
    logger.log(1, {"loss/total": 1.0})
    logger.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if b"https://" in path.read_bytes() and b"host/v1" in path.read_bytes()]
    for secret in (PASSWORD, HEADER, QUERY):
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
