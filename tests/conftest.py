"""Fixtures shared by all tests, and an environment without surprises."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: many small models, few cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("WANDB_MODE", "offline")
for name in ("RANK", "WORLD_SIZE", "COMP_LINE", "HYDRA_FULL_ERROR"):
    os.environ.pop(name, None)
os.environ["LOCAL_RANK"] = "0"  # DeepSpeed wants it of a single process too

from collections.abc import Iterator  # noqa: E402 - after the environment
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402 - after the environment

# A busy machine is no failure; continuous integration tries the same examples every time.
settings.register_profile("ekipl", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("ekipl")

# The files that take longest. They run first, so that the workers of ``make test`` end at about the same time.
LONGEST = ("test_distributed", "test_lifetime", "test_config", "test_train", "test_engine", "test_external_commands")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; within a file nothing moves."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(autouse=True)
def no_launcher() -> Iterator[None]:
    """Remove what accelerate (under TRL) leaves in the environment: the next test would take it for a launcher's."""
    yield
    for name in ("RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one whole run of four steps; no test may change it."""
    from tests.command import WHOLE, ekipl

    directory = tmp_path_factory.mktemp("train") / "whole"
    done = ekipl(*WHOLE, f"hydra.run.dir={directory}")
    assert done.returncode == 0, done.stderr
    return directory
