"""The benchmark against TRL measures what it says, and the two sides agree on loss and gradient."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.speed import __main__ as command
from benchmarks.speed.ours import measure
from benchmarks.speed.setting import Setting, Where, build
from benchmarks.speed.side import SideFailed, call, results

TINY = Setting(56, 4, 2048, G=2)
needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed (pip install 'ekipl[bench]')")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speed") / "model"
    build(path, TINY.vocabulary)
    return path


def test_phases_add_up_to_the_step(folder: Path) -> None:
    measured = measure(folder, TINY, 1, Where())  # asserts itself that every completion has the forced length
    seconds = dict(measured.seconds)
    assert seconds.keys() == {*command.PHASES, "total"}
    assert seconds.pop("total") == pytest.approx(sum(seconds.values()))
    assert all(value > 0 for value in seconds.values())
    assert 0 < measured.loaded <= measured.peak + 1  # MiB: the kernel counts the peak a little late


@needs_trl
@pytest.mark.slow
@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo"])
def test_loss_and_gradient_agree_with_trl(folder: Path, loss_type: str) -> None:
    from benchmarks.speed.agreement import compare

    found = compare(folder, Setting(84, 12, TINY.vocabulary, G=4), loss_type)
    assert found.log_probability < 1e-4
    assert found.loss < 1e-4
    assert found.gradient < 1e-4


@needs_trl
@pytest.mark.slow
def test_trl_sees_the_same_prompt_and_the_same_lengths(folder: Path, tmp_path: Path) -> None:
    from benchmarks.speed import theirs
    from benchmarks.speed.setting import Meter, problems
    from ekipl.policy.encoding import encode_prompts
    from ekipl.policy.model import load_model

    vlm = load_model(str(folder), device="cpu")
    trainer = theirs.make_trainer(folder, TINY, 1, str(tmp_path), Where())
    trainer.meter = meter = Meter("cpu")
    trainer.add_callback(theirs.EndOfStep(meter))
    for problem in problems(TINY):
        content = [{"type": "image", "image": problem.images[0]}, {"type": "text", "text": problem.prompt}]
        ids, _, _ = trainer._tokenize_prompts([[{"role": "user", "content": content}]])
        assert ids[0] == encode_prompts(vlm, [problem]).input_ids[0].tolist()
    trainer.train()
    assert float(trainer.state.log_history[-1]["completions/min_length"]) == TINY.tokens
    (step,) = meter.steps
    assert all(step[phase] > 0 for phase in command.PHASES)


def test_tables_say_what_was_reached(tmp_path: Path) -> None:
    """By hand: 6 s against 1 s reaches the first row, 3 s against 1 s misses the next."""

    def row(setting: Setting, side: str, total: float, peak: float) -> dict[str, object]:
        seconds = {"sampling": total, "other": 0.0, "total": total}
        record = {"side": side, "setting": vars(setting), "checkpointing": False, "flops": None}
        return {**record, "seconds": seconds, "peak": peak, "loaded": 100.0}

    totals = dict(zip([*command.TARGETS, command.DOUBLED], [6.0, 3.0, 2.5, 3.0, 12.0], strict=True))
    rows = [row(setting, "TRL", total, 1000.0) for setting, total in totals.items()]
    rows += [row(setting, "ekipl", 1.6 if setting.G == 16 else 1.0, 400.0) for setting in totals]
    same = {"grpo": {"log_probability": 1e-6, "loss": 2e-4, "gradient": 1e-6}}
    results = {"machine": "m", "date": "d", "steps": 1, "versions": {"torch": "2"}, "rows": rows, "agreement": same}
    page = command.markdown(json.loads(json.dumps(results)))
    lines = [line for line in page.splitlines() if "reached" in line or "missed" in line]
    assert [("reached" in line) for line in lines] == [True, False, True, True, True, False, False]
    assert "0.40 of TRL's peak" in page
    assert "| ekipl | " in page
    assert "1.60" in page


def test_a_process_that_fails_names_its_error() -> None:
    with pytest.raises(SideFailed, match=r"KeyError: 'side' \(status 1\)"):
        call("benchmarks.speed.side", {})


def test_a_process_that_takes_too_long_is_stopped() -> None:
    found, error = results("benchmarks.speed.side", {}, seconds=0.01)
    assert found == []
    assert error == "stopped after 0 s"
