"""Values of constant expressions, exact where they are rational and else approximate, without computer algebra."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

from ekipl.reward.expression import Tree, symbols

MOST_BITS = 60_000  # of an exact value that is computed in this process


@lru_cache(maxsize=4096)
def approximate(tree: Tree) -> float | None:
    """The value to about 12 digits; None where there is none in floats, such as for variables and huge numbers."""
    if symbols(tree):
        return None
    try:
        value = _value(tree)
    except (ArithmeticError, ValueError):
        return None
    return value if value is not None and math.isfinite(value) else None


def _value(tree: Tree) -> float | None:
    kind = tree[0]
    if kind == "constant":
        return {"pi": math.pi, "e": math.e}.get(tree[1])
    if (exact := rational(tree)) is not None:
        return float(exact)
    if kind not in ("+", "*", "/", "negative", "root", "absolute"):  # a difference may lose all its digits
        return None
    values = [_value(part) for part in tree[1:]]
    left, right = values[0], values[-1]
    if left is None or right is None:
        return None
    if kind == "+":
        return left + right if left > 0 < right else None
    if kind == "*":
        return left * right
    if kind == "/":
        return left / right
    if kind == "root":
        return math.sqrt(left) if right == 2 else None
    return -left if kind == "negative" else abs(left)


@lru_cache(maxsize=4096)
def rational(tree: Tree) -> Fraction | None:
    """Its exact value; None where that is not rational, not defined, or larger than ``MOST_BITS``."""
    try:
        return _rational(tree)
    except (ZeroDivisionError, OverflowError):
        return None


def _rational(tree: Tree) -> Fraction | None:
    kind = tree[0]
    if kind == "number":
        return Fraction(tree[1])
    if kind not in ("+", "-", "*", "/", "^", "negative", "!", "absolute", "root"):
        return None
    values = [_rational(part) for part in tree[1:]]
    if any(value is None for value in values):
        return None
    left, right = values[0], values[-1]
    assert left is not None
    assert right is not None
    if kind in ("negative", "absolute"):
        value: Fraction | None = -left if kind == "negative" else abs(left)
    elif kind == "!":
        value = Fraction(math.factorial(int(left))) if left.denominator == 1 and 0 <= left <= 4000 else None
    elif kind == "^":
        value = _raised(left, right)
    elif kind == "root":
        value = _root(left, right)
    else:
        value = {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}[kind](right)
    return value if value is not None and _bits(value) <= MOST_BITS else None


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _raised(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or _bits(base) * abs(exponent) > MOST_BITS:
        return None
    return None if base == exponent == 0 else base ** int(exponent)


def _root(value: Fraction, degree: Fraction) -> Fraction | None:
    if degree != 2 or value < 0:
        return None
    above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
    return Fraction(above, below) if above**2 == value.numerator and below**2 == value.denominator else None
