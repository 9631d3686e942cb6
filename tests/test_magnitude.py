from __future__ import annotations

import math

import pytest

from ekipl.reward.magnitude import approximate_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3.0),
        ("-2.5", -2.5),
        (r"2\pi ", 2 * math.pi),
        (r"5\sqrt{2}", 5 * math.sqrt(2)),
        (r"2\cdot \sqrt{5}/5", 2 * math.sqrt(5) / 5),
        (r"\frac{2\sqrt{5}}{5}", 2 * math.sqrt(5) / 5),
        (r"\sqrt{\frac{1}{4}}", 0.5),
        (r"\pi/3", math.pi / 3),
    ],
)
def test_plain_expressions(text: str, value: float) -> None:
    assert approximate_value(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "3x",
        r"2\frac{1}{2}",
        "2 3",
        "1/0",
        r"\frac{1}{0}",
        "2^3",
        r"\sqrt{-1}",
        "1+1",
        "1/2/3",
        "3/2x",
        r"\frac{1}",
        "-",
    ],
)
def test_anything_else_has_none(text: str) -> None:
    assert approximate_value(text) is None
