"""The benchmark for a GPU, at tiny size on the CPU, and its page by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import limits, memory, profiled
from benchmarks.gpu.page import markdown
from benchmarks.gpu.report import NO_TIME, Report
from benchmarks.speed import exactness
from benchmarks.speed.ours import measure
from benchmarks.speed.setting import Measured, Setting, Where, build

TINY = Setting(56, 4, 2048, G=2)
HERE = Where("cpu", "bfloat16")
FACTS = {"device": "d", "peak_tflops": 100.0, "date": "today", "versions": {"torch": "2"}, "steps": 3, "problems": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "model"
    build(path, TINY.vocabulary)
    return path


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in processes of its own is called as a function."""

    def unpacked(order: dict[str, Any]) -> tuple[Path, Setting, Where]:
        return Path(order["folder"]), Setting(**order["setting"]), Where(**order["where"])

    def rows(module: str, order: dict[str, Any], seconds: float) -> tuple[list[Any], None]:
        assert 0 < seconds <= 480
        if module == "benchmarks.gpu.memory":
            return list(memory.rows(order | {"cases": ["gradient checkpointing", "LoRA of rank 16"]})), None
        return list(profiled.measure(*unpacked(order))), None

    def run(side: str, folder: Path, setting: Setting, steps: int, where: Where, seconds: float) -> Measured:
        return measure(folder, setting, steps, where)

    monkeypatch.setattr(command, "call", lambda module, order, seconds: exactness.check(*unpacked(order)))
    monkeypatch.setattr(command, "results", rows)
    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(command, "find_spec", lambda name: None)  # neither TRL nor vLLM
    monkeypatch.setattr(profiled, "ROWS", (1, 3))


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_every_part_at_tiny_size(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--device", "cpu", "--model", str(folder), "--settings", "56,4,2", "--steps", "1", "--minutes", "8"]
    command.main(["--all", *small, "--out", str(tmp_path)])
    page, kept = (tmp_path / "gpu.md").read_text(), json.loads((tmp_path / "gpu.json").read_text())
    assert page.splitlines()[:20] == capsys.readouterr().out.splitlines()[:20]
    assert list(kept["parts"]) == ["model", *command.PARTS]
    assert "failed" not in page
    assert "not a GPU" in page
    assert "_scaled_dot_product_" in page
    assert "not measured: vllm is not installed here" in page
    assert "not measured: TRL is not installed" in page
    times = next(line for line in page.splitlines() if line.startswith("| 56 px / 4 tokens / G=2"))
    assert float(times.split("|")[3]) > 0
    works = {row["what"]: row for row in kept["parts"]["profile"]["rows"] if "what" in row}
    assert works["update"]["kernels"] > works["reference"]["kernels"] > 0
    assert [row["rows"] for row in kept["parts"]["profile"]["rows"] if "rows" in row] == [2, 6]
    updates = kept["parts"]["memory"]["rows"]
    assert all("error" not in row and row["formula"]["weights"] > 0 for row in updates)
    adamw = [row["formula"]["AdamW, float32"] for row in updates]
    assert adamw[0] > 5 * adamw[1]  # LoRA trains few parameters


def test_an_error_in_a_part_loses_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(report: Report, _: object) -> None:
        report.add("exactness", {"plain": {}, "passed": True})
        raise RuntimeError("no kernel\nfor this")

    kept: list[dict[str, Any]] = []
    report = Report(FACTS, 60.0, lambda results: kept.append(results) or "page", tmp_path)
    monkeypatch.setattr(command, "PARTS", {"exactness": broken, "vllm": command.measure_vllm})
    command.measure(report, command.Bench(tmp_path, (TINY,), HERE, 1), ["exactness", "vllm"])
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert parts["exactness"]["rows"] == [{"plain": {}, "passed": True}]
    assert parts["exactness"]["notes"] == ["failed: RuntimeError: no kernel for this"]
    assert parts["vllm"]["notes"]


def test_what_no_longer_fits_is_named(tmp_path: Path) -> None:
    report = Report(FACTS, command.LEAST - 1, markdown, tmp_path)
    command.measure(report, command.Bench(tmp_path, (TINY,), HERE, 1), ["exactness", "steps", "profile", "memory"])
    assert all(report.parts[name]["notes"][0].endswith(NO_TIME) for name in ("steps", "profile", "memory"))
    assert NO_TIME in (tmp_path / "gpu.md").read_text()


def test_a_case_that_fails_says_why_and_the_next_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CASES", {"wrong": ("no_such_key=1",), "right": ()})
    found = list(memory.rows({"folder": str(folder), "setting": asdict(TINY), "where": asdict(HERE)}))
    assert "no_such_key" in found[0]["error"]
    assert found[1]["peak"] >= 0


def test_rates_of_the_device_are_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One second each. 8^3 x 2 = 1,024 operations, in TFLOP/s; 16 bytes read and 16 written, in GB/s."""
    monkeypatch.setattr(limits, "LARGE", (8, 8, 8))
    monkeypatch.setattr(limits, "MLP", (8, 8, 8))
    monkeypatch.setattr(limits, "COPIED", 16)
    monkeypatch.setattr(limits, "timed", lambda device, work: work() is None or 1.0)
    product, _, copied = limits.measure("cpu")
    assert product["tflops"] == pytest.approx(1024e-12)
    assert copied["gb_s"] == pytest.approx(32e-9)


def test_shares_of_a_step_by_hand() -> None:
    """A pass of 2 TFLOP; 0.1, 0.2 and 1 s for 1, 1 and 3 passes: 20, 10 and 6 TFLOP/s of 50 measured, 100 promised.

    The step: 10 TFLOP in 1.3 s. Weights: 2 bytes x 1e9 x 10 tokens in 0.1 s are 200 GB/s of 1,000.
    """
    seconds = {"sampling": 0.1, "reference": 0.2, "update": 1.0, "other": 0.0, "total": 1.3}
    same = {"setting": asdict(Setting(448, 10, 9, G=13)), "checkpointing": False}
    mine = {**same, "side": "ekipl", **asdict(Measured(seconds, 2048.0, 1.0, 2e12))}
    slow = {**same, "side": "TRL", **asdict(Measured({**seconds, "total": 3.9}, 1.0, 1.0))}
    none = {**same, "side": "TRL", "checkpointing": True, "error": "torch.OutOfMemoryError: CUDA out of memory."}
    part = {"notes": [], "seconds": 1.0}
    parts = {
        "model": {**part, "rows": [{"parameters": 2 * 10**9, "read_for_a_token": 10**9}]},
        "limits": {**part, "rows": [{"what": "product", "tflops": 50.0}, {"what": "copy", "gb_s": 1000.0}]},
        "steps": {**part, "rows": [mine]},
        "trl": {**part, "rows": [none, slow]},
    }
    page = markdown({**FACTS, "parts": parts, "seconds": 9.0})
    cells = [[cell.strip() for cell in line.split("|")[2:-1]] for line in page.splitlines() if "G=13" in line]
    assert cells[0] == ["ekipl", "1.30", "0.10", "0.20", "1.00", "200", "2.0", "6.0", ""]
    assert cells[1][:2] == ["TRL, gradient checkpointing", "out of memory"]
    assert (cells[2][0], cells[2][-1]) == ("TRL", "3.0")
    assert cells[3] == ["ekipl", "40.0", "20.0", "12.0", "15.4", "20.0"]
