"""What a run leaves behind is a model: its folder, its checkpoints, an adapter once it is merged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ekipl.algorithm.objective import Objective
from ekipl.errors import UsageError
from ekipl.policy.folders import content
from ekipl.policy.model import TINY, load_model
from ekipl.run.export import as_model, export
from ekipl.run.log import last_step
from ekipl.run.signals import Stop
from tests.command import SMOKE, WHOLE, ekipl
from tests.test_config import _keys, composed, refusal

__all__ = ["_keys"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


def test_the_model_of_the_last_checkpoint_is_that_of_the_run(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert as_model(str(run)) == str(run / "model")
    assert same(export(str(run / "checkpoints" / "step-4")), run / "model")
    shutil.rmtree(run / "model")  # as if the run had been killed
    shutil.rmtree(run / "checkpoints" / "step-4" / "model")
    done = ekipl("train", f"export={run}")
    assert (done.returncode, done.stdout) == (0, f"{run}/checkpoints/step-4/model\n")
    assert same(run / "checkpoints" / "step-4" / "model", finished / "model")
    assert as_model(str(run)) == as_model(str(run / "checkpoints" / "step-4")) == done.stdout.strip()
    few = ["limit=1", "splits=[id]", "decoding.max_tokens=8", f"hydra.run.dir={tmp_path}/eval"]
    done = ekipl("eval", f"model.path={run}", f"models=[{run}/checkpoints/step-3]", *few)
    assert done.returncode == 0, done.stderr
    assert not same(run / "checkpoints" / "step-3" / "model", finished / "model")
    # and the run goes on as if nobody had looked
    done = ekipl(*WHOLE, f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    assert same(run / "model", finished / "model")


@pytest.mark.parametrize("damage", ["cut", "config"])
def test_what_cannot_be_exported_is_one_line(damage: str, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("model"))
    last = run / "checkpoints" / "step-4"
    if damage == "cut":
        file = last / "learning-0.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
        told = f"{last}: damaged: learning-0.safetensors has "
    else:
        (run / "config.yaml").write_text("model: {path")
        told = f"{run / 'config.yaml'}: not the settings of a run ("
    with pytest.raises(UsageError) as refused:
        as_model(str(run))
    assert str(refused.value).startswith(told)
    assert "\n" not in str(refused.value)
    assert not (last / "model").exists()
    done = ekipl("train", f"export={tmp_path}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_finished_run_goes_on_with_a_larger_b(tmp_path: Path) -> None:
    command = [*SMOKE, "evaluation.every=0", f"hydra.run.dir={tmp_path}/run"]
    assert ekipl(*command, "B=1").returncode == 0
    longer = ekipl(*command, "B=2")
    assert longer.returncode == 0, longer.stderr
    assert "goes on with B=2 in place of 1; AdamW's state is kept, and so is the learning rate" in longer.stderr
    assert last_step(tmp_path / "run" / "metrics.jsonl") == 2
    assert ekipl(*command[:-1], f"hydra.run.dir={tmp_path}/whole", "B=2").returncode == 0
    assert same(tmp_path / "run" / "model", tmp_path / "whole" / "model")
    assert not (tmp_path / "run" / "model.before").exists()
    done = ekipl(*command, "B=1")
    assert (done.returncode, "holds a run with other settings" in done.stderr) == (2, True)


def test_a_stopped_run_has_a_model_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: object) -> None:
    from ekipl.run import recorder

    command = [*SMOKE, "B=3", "evaluation.every=0", f"hydra.run.dir={tmp_path}/run"]
    due = recorder.Recorder._due

    def stop(every: int, step: int, last: bool) -> bool:
        if step == 2 and every == 0:  # of the evaluation, which comes first
            os.kill(os.getpid(), signal.SIGTERM)
        return due(every, step, last)

    monkeypatch.setattr(recorder.Recorder, "_due", staticmethod(stop))
    done = ekipl(*command, "checkpoint.every=1")
    assert done.returncode == 1  # the stand-in for the worker does not catch it
    assert "Stopped" in done.stderr
    monkeypatch.undo()
    assert last_step(tmp_path / "run" / "metrics.jsonl") == 2
    assert same(Path(as_model(f"{tmp_path}/run")), export(f"{tmp_path}/run/checkpoints/step-2"))
    done = ekipl(*command, "checkpoint.every=1")
    assert done.returncode == 0, done.stderr
    assert last_step(tmp_path / "run" / "metrics.jsonl") == 3


def test_the_first_signal_is_told_what_it_does_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("ekipl.run.signals.time.monotonic", lambda: now[0])
    with Stop() as stop:
        now[0] += 41
        stop.step_done()
        now[0] += 11
        os.kill(os.getpid(), signal.SIGTERM)
        stop._teller.join()
    assert capfd.readouterr().err == (
        "ekipl train: SIGTERM: stops in about 30 s, as steps take up to 41 s; then it saves a checkpoint and the "
        "model. A second signal ends it at once, and loses this step\n"
    )
    stop = Stop()
    stop.requested = signal.SIGINT
    now[0] += 7
    assert stop.told().startswith("SIGINT: stops after the first step, which has run for 7 s; ")


def adapter(folder: Path, base: str) -> torch.nn.Module:
    """An adapter of the tiny model with random weights, and the model with it merged."""
    from peft import LoraConfig, get_peft_model

    model = load_model("tiny", device="cpu").model
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(str(folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))
    merged: torch.nn.Module = adapted.merge_and_unload()
    return merged


def test_an_adapter_is_named_as_one_and_merged_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    merged = adapter(folder, "tiny")
    assert content(folder) == "adapter"
    line = f"{folder}: an adapter of tiny, and no model by itself; ekipl train export={folder} merges the two into "
    for command, key in (("eval", "model.path"), ("train", "model.path")):
        assert refusal(command, f"model.path={folder}") == [f"{key}: {line}{folder}/model"]  # type: ignore[arg-type]
    done = ekipl("train", f"export={folder}")
    assert done.returncode == 0, done.stderr
    found = weights(folder / "model")
    for name, tensor in merged.state_dict().items():
        if name in found:
            torch.testing.assert_close(found[name], tensor)
    assert any(not found[name].equal(tensor) for name, tensor in weights(TINY).items())
    composed("eval", f"model.path={folder}")
    assert load_model(str(folder), device="cpu").path == f"{folder}/model"
    config = json.loads((folder / "adapter_config.json").read_text())
    shutil.rmtree(folder / "model")
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    assert "an adapter of an unknown base" in refusal("eval", f"model.path={folder}")[0]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_weights_are_as_readable_as_the_rest(umask: int, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("model"))
    before = os.umask(umask)
    try:
        folder = export(str(run))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~umask}
    written = {stat.S_IMODE(path.stat().st_mode) for path in finished.rglob("*") if path.is_file()}
    assert written == {0o666 & ~before}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["G=1"], "G: 1: an action alone in its group has the advantage 0: nothing is learned; set G=2 or more"),
        (
            ["N=1", "M=0"],
            "N: 1: with M=0 every group has one action, whose advantage is 0: nothing is learned; set N=2",
        ),
        (["policy_samples=1", "M=0"], "policy_samples: 1: with M=0 every group has one action"),
        (["engine.learning_rate=0"], "engine.learning_rate: 0: no weight would change"),
    ],
)
def test_settings_under_which_nothing_is_learned_are_refused(overrides: list[str], told: str, tmp_path: Path) -> None:
    assert refusal("train", *overrides)[0].startswith(told)
    done = ekipl("train", *overrides, "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stderr.startswith(told)) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_single_actions_teach_where_there_is_something_to_compare_with() -> None:
    for overrides in (["G=1", "objective.baseline=pool"], ["N=1", "M=1"], ["method=ans_sft"]):
        composed("train", *overrides)
    assert Objective().baseline == "selected"
