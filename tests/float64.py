"""Models that compute in float64 from end to end, so that tests of equal formulas do not depend on the processor.

In float32, two orders of the same additions differ by about 1e-5 of a gradient; how much exactly depends on the kernels
that the processor gets. In float64 they differ by about 1e-14. ``EXACT`` lies far from both: no order of additions
reaches it, and a formula that is wrong in one term of a million misses it. ``ROUNDING`` bounds what is left in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

EXACT = 1e-9  # relative, of a norm or of numbers of size 1
# A sum of n terms of size 1 is off by at most n eps in float32 (eps = 1.2e-7). Between a pixel and a log-probability of
# the tiny model there are about 7,000 additions (tests/test_prefix.py counts them).
ROUNDING = 8.4e-4


@contextmanager
def in_float64() -> Iterator[None]:
    """Inside, float64 is the default, and float32 (in which models compute norms and angles) is replaced by it."""

    def wide(value: Any) -> Any:
        return torch.float64 if value is torch.float32 else value

    def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return plain_to(tensor, *map(wide, args), **{name: wide(value) for name, value in kwargs.items()})

    plain_to, default = torch.Tensor.to, torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(torch.Tensor, "to", to)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(default)
