"""Fixtures shared by all tests, and an environment without surprises."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: many small models, few cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("WANDB_MODE", "offline")
for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "COMP_LINE", "HYDRA_FULL_ERROR"):
    os.environ.pop(name, None)

from collections.abc import Iterator  # noqa: E402 - after the environment

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402 - after the environment

# A busy machine is no failure; continuous integration tries the same examples every time.
settings.register_profile("ekipl", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("ekipl")


@pytest.fixture(autouse=True)
def no_launcher() -> Iterator[None]:
    """What accelerate (under TRL) leaves in the environment would tell the next test that a launcher started it."""
    yield
    for name in ("RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
