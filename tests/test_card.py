"""The card of a trained model: what it says, and what it keeps to itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from ekipl.report.card import model_card
from tests.test_best import row
from tests.test_config import composed


def card(*overrides: str, rows: str = "") -> str:
    settings: Any = OmegaConf.to_container(composed("train", *overrides), resolve=False)
    found = [yaml.safe_load(line) for line in rows.splitlines()]
    return model_card(settings, found, "my | run\n# not a title")


def head(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_it_says_what_the_model_is_made_of_and_how_good_it_is() -> None:
    text = card("reward=[strict,a/my.py:brief]", "reward_weights=[1,0.2]", rows=row(0, 0.2) + row(40, 0.5))
    assert head(text) == {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["ekipl", "grpo"],
    }
    words = " ".join(text.split())
    for fact in ("| base model | tiny |", "| task | Counting |", "| data | synthetic |", "| steps | 40 |"):
        assert fact in words
    assert "| reward | strict + 0.2 x my.py:brief |" in words
    assert "| external models | expert_a, expert_b |" in words
    assert "| training problems seen | 480 |" in words  # 40 steps of 12
    assert "| id | 20.0 (10.0 to 30.0) | 50.0 (40.0 to 60.0) |" in words
    assert "torch " in words
    assert "**License: unknown.**" in words
    assert text.count("\n# ") == 1


def test_a_base_on_the_hub_is_named_for_it_and_a_local_path_is_not_told(tmp_path: Path) -> None:
    assert head(card("model.path=Qwen/Qwen2-VL-2B-Instruct"))["base_model"] == "Qwen/Qwen2-VL-2B-Instruct"
    (tmp_path / "secret-project" / "base").mkdir(parents=True)
    text = card(f"model.path={tmp_path}/secret-project/base", "data=reason_rft", f"data.root={tmp_path}")
    assert "base_model" not in head(text)
    assert "| base model" in text
    assert "secret-project" not in text
    assert f"{tmp_path}" not in text


@pytest.mark.parametrize("rank", [0, 8])
def test_an_adapter_is_said(rank: int) -> None:
    assert ("rank 8, alpha 32, merged" in card(f"model.lora.rank={rank}")) == (rank == 8)
