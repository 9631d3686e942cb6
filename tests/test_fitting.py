"""``--dry-run gpu_gib=N``: whether a run fits, and the cheapest settings under which it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekipl.config import Settings, check
from ekipl.policy.prefix import CHUNK_ELEMENTS_GPU
from ekipl.report.tables import Table
from ekipl.run.fitting import CONTEXT, fit_of
from ekipl.run.memory import GIB, Outline, Prompt, parts_of, peak
from tests.command import ekipl
from tests.test_config import _keys, composed

__all__ = ["_keys"]
PROMPT = Prompt(700 * 4, (480_000, 480_000))
MODEL = Outline(2_000_000_000, 2_000_000_000, 28, 1536, 8960, 1536, 256, (1280, 32), 151_936, 784, 4)


def settings(*overrides: str) -> Settings:
    return check(composed("train", "task=spatial", "model=qwen2vl_2b", "B=1", *overrides), "train")


def rows(table: Table) -> dict[str, tuple[float, str]]:
    return {name: (float(need), fits) for name, need, fits in table.rows}


@pytest.fixture(autouse=True)
def _outlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes by hand: a frozen tower and adapters leave so many parameters to train."""

    def outline_of(model: object) -> Outline:
        trained = 20_000_000 if model.lora.rank else 1_400_000_000 if model.freeze_vision else MODEL.trained  # type: ignore[attr-defined]
        return Outline(**{**vars(MODEL), "trained": trained})

    monkeypatch.setattr("ekipl.run.fitting.outline_of", outline_of)


def test_a_run_that_fits_needs_no_advice() -> None:
    one = settings("engine.num_processes=1")
    need = peak(parts_of(one, MODEL, PROMPT, CHUNK_ELEMENTS_GPU)) / GIB
    assert list(rows(fit_of(one, MODEL, PROMPT, need + CONTEXT + 0.01)).items()) == [
        ("as they are", (pytest.approx(need, abs=0.005), "yes"))
    ]
    assert rows(fit_of(one, MODEL, PROMPT, need + CONTEXT - 0.01))["as they are"][1] == "no"


def test_the_cheapest_settings_that_fit_are_told_last() -> None:
    one = settings("engine.num_processes=1")
    found = rows(fit_of(one, MODEL, PROMPT, 24))
    *alone, (last, (need, fits)) = list(found.items())[1:]
    assert fits == "yes"
    assert need + CONTEXT <= 24
    # offloading (price 7) is cheaper than adapters (9), and a frozen tower (5) alone is not enough
    assert last == "**cheapest that fit:** engine.zero_stage=3 engine.offload_optimizer=true"
    assert dict(alone)["model.freeze_vision=true"][1] == "no"
    assert dict(alone)["model.lora.rank=64"][1] == "yes"


def test_several_gpus_share_before_anything_is_given_up() -> None:
    four = settings("engine.num_processes=4", "engine=zero0", "problems_per_step=8")
    as_set = peak(parts_of(four, MODEL, PROMPT, CHUNK_ELEMENTS_GPU)) / GIB
    *_, (last, (need, fits)) = rows(fit_of(four, MODEL, PROMPT, as_set)).items()  # so that CONTEXT is missing
    assert last.startswith("**cheapest that fit:** ")
    assert (fits, need + CONTEXT <= as_set) == ("yes", True)
    assert not [dear for dear in ("lora", "freeze", "offload") if dear in last]


def test_what_cannot_fit_is_said() -> None:
    table = fit_of(settings("engine.num_processes=1"), MODEL, PROMPT, 2)
    assert {fits for _, fits in rows(table).values()} == {"no"}
    assert any("nothing of this fits" in note for note in table.notes)


def test_it_is_for_dry_runs_alone(tmp_path: Path) -> None:
    done = ekipl("train", "gpu_gib=24", f"hydra.run.dir={tmp_path / 'run'}")
    assert (done.returncode, (tmp_path / "run").exists()) == (2, False)
    assert done.stderr == "gpu_gib: 24: only --dry-run reads it; add --dry-run, or leave it out\n"
