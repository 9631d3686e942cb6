from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ekipl.errors import UsageError
from ekipl.files import read_jsonl
from ekipl.run.log import JsonlLogger, Loggers, WandbLogger


def test_each_row_is_on_disk_when_log_returns(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    logger = JsonlLogger(path)
    for step in (1, 2):
        logger.log(step, {"reward/kept": step / 4, "time/update": 0.5})
        assert len(path.read_bytes().splitlines()) == step
        assert path.read_bytes().endswith(b"\n")
    logger.close()
    assert read_jsonl(path)[1] == {"step": 2, "reward/kept": 0.5, "time/update": 0.5}


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    logger = JsonlLogger(tmp_path / "m.jsonl")
    logger.log(1, {"loss/policy": math.nan, "loss/grad_norm": math.inf})
    logger.close()
    assert json.loads((tmp_path / "m.jsonl").read_text()) == {"step": 1, "loss/policy": None, "loss/grad_norm": None}


def test_resuming_takes_away_the_rows_that_will_come_again(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    for step in range(1, 6):
        JsonlLogger(path).log(step, {"a": step})
    path.write_bytes(path.read_bytes() + b'{"step":6,"a"')  # killed while writing
    logger = JsonlLogger(path, last_step=3)
    logger.log(4, {"a": 4})
    assert [row["step"] for row in read_jsonl(path)] == [1, 2, 3, 4]


def test_a_torn_row_is_no_trouble_for_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step":1,"a":1.0}\n{"step":2,')
    JsonlLogger(path).log(2, {"a": 2.0})
    assert read_jsonl(path) == [{"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}]


@pytest.mark.parametrize("content", [b"hello\n", b"{}\n", b'{"step":"x"}\n'])
def test_a_foreign_file_is_not_cut_down(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match=r"m\.jsonl: .*not the metrics of a training run"):
        JsonlLogger(tmp_path / "m.jsonl", last_step=1)
    assert (tmp_path / "m.jsonl").read_bytes() == content


def test_loggers_tell_each(tmp_path: Path) -> None:
    both = Loggers([JsonlLogger(tmp_path / "a"), JsonlLogger(tmp_path / "b")])
    both.log(1, {"x": 1.0})
    both.close()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b'{"step":1,"x":1.0}\n'
    with pytest.raises(ValueError, match="closed"):
        both.log(2, {})


WANDB = """
import pathlib, sys
from ekipl.run.log import WandbLogger
logger = WandbLogger(pathlib.Path(sys.argv[1]), "ekipl", "run-name", config={"N": 8})
logger.log(1, {"reward/kept": 0.25})
logger.close()
"""


@pytest.mark.slow
def test_wandb_works_offline_and_is_told_nothing_of_the_environment(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {"EKIPL_TEST_SECRET": "s3cr3t-in-the-environment", "USER": "somebody-special"}
    subprocess.run([sys.executable, "-c", WANDB, str(tmp_path)], env=environment, check=True, timeout=120)
    (run,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    content = run.read_bytes()
    for told in (b"reward/kept", b"run-name"):
        assert told in content
    files = b"".join(p.read_bytes() for p in run.parent.rglob("*") if p.is_file() and p.suffix != ".log")
    assert b"s3cr3t" not in b"".join(p.read_bytes() for p in run.parent.rglob("*.log"))
    for untold in (b"s3cr3t", b"somebody-special", sys.executable.encode(), os.getcwd().encode()):
        assert untold not in files
    assert len(socket.gethostname()) < 4 or socket.gethostname().encode() not in files
    assert not list(tmp_path.rglob("requirements.txt"))


def test_wandb_missing_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="pip install wandb or logger.wandb=false"):
        WandbLogger(tmp_path, "p", "n")
