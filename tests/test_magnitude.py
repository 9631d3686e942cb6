from __future__ import annotations

import math

import pytest

from ekipl.reward.expression import parse
from ekipl.reward.magnitude import approximate, rational


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3.0),
        ("-2.5", -2.5),
        ("2π", 2 * math.pi),
        (r"5\sqrt{2}", 5 * math.sqrt(2)),
        (r"2*\sqrt{5}/5", 2 * math.sqrt(5) / 5),
        (r"\frac{2\sqrt{5}}{5}", 2 * math.sqrt(5) / 5),
        (r"\sqrt{\frac{1}{4}}", 0.5),
        ("π/3", math.pi / 3),
        ("2^3", 8.0),
        ("1/2/3", 1 / 6),
        (r"2\frac{1}{2}", 2.5),
        ("1+√2", 1 + math.sqrt(2)),
    ],
)
def test_constants(text: str, value: float) -> None:
    tree = parse(text)
    assert tree
    assert approximate(tree) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["x", "3x", "1/0", r"\frac{1}{0}", r"\sqrt{-1}", "√2-1", "9^{9^{9}}", "10^{400}", "0^0", "sin 1", "3000000!"],
)
def test_anything_else_has_none(text: str) -> None:
    tree = parse(text)
    assert tree
    assert approximate(tree) is None


def test_rational_values_are_exact_and_bounded() -> None:
    for text, power in (("2^{2005}", 2005), ("2^{20000}", 20000), ("2^{70000}", None)):
        tree = parse(text)
        assert tree
        assert rational(tree) == (None if power is None else 2**power)


@pytest.mark.parametrize(
    "text",
    ["", "2 3", r"\frac{1}", "-", "1/2x", "5 or 6", "no 5", "0{3}{5}", "3.1.2", "f(2)", r"\log 8", r"2\frac{3}{2}"],
)
def test_no_expression(text: str) -> None:
    assert parse(text) is None
