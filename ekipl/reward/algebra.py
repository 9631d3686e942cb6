"""Whether two expressions are equal, for those whose value is not rational: computed with sympy, in the worker.

Equality is of values, relative to their size, to ``DIGITS`` digits. With variables it is that at several points.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ekipl.reward import expression
from ekipl.reward.expression import Tree

DIGITS = 2000  # 1/2^2005 is 604 digits away from 0
DIGITS_AT_A_POINT = 60
POINTS = ((3, 7), (11, 5), (-13, 9), (29, 17), (-31, 6))  # numerators and denominators, moved from name to name
CLOSE = Fraction(1, 2 * 10**6)  # half a unit of the sixth decimal place


def near(value: Any, target: Any) -> bool:
    """Whether a rounded ``value`` stands for ``target``: to six decimal places, and to six digits if it is small."""
    if target == 0 or value == 0:
        return bool(value == target)
    size, tolerance = abs(target), CLOSE
    while size < Fraction(1, 10):
        size, tolerance = size * 10, tolerance / 10
    return bool(abs(value - target) <= tolerance)


def equal(ours: Tree, wanted: Tree, rounded: bool) -> bool:
    """Whether the two are equal in value, or near with ``rounded``. Takes unbounded time; run it where it is killed."""
    names = sorted(expression.symbols(ours))
    if names != sorted(expression.symbols(wanted)):
        return False
    if names:
        pairs = _at_points((ours, wanted), names)
        return bool(pairs) and all(_same(left, right) for left, right in pairs)
    left, right = (_value(_built(tree, {}), 50 if rounded else DIGITS) for tree in (ours, wanted))
    if left is None or right is None:
        return False
    if rounded and left.is_real and right.is_real:
        return near(left, right)
    return _same(left, right, DIGITS - 20)


def proportional(ours: Tree, wanted: Tree, positive: bool) -> bool:
    """Whether one is the other times a constant that is not 0; greater than 0 with ``positive``."""
    names = sorted(expression.symbols(ours))
    if not names or names != sorted(expression.symbols(wanted)):
        return False
    pairs = [(left, right) for left, right in _at_points((ours, wanted), names) if _large(left) or _large(right)]
    if len(pairs) < 3 or not all(_large(side) for pair in pairs for side in pair):
        return False
    first = pairs[0][0] / pairs[0][1]
    return all(_same(left, right * first) for left, right in pairs) and (not positive or bool(first > 0))


def _large(value: Any) -> bool:
    return bool(abs(value) > 1e-40)


def _at_points(trees: tuple[Tree, Tree], names: list[str]) -> list[tuple[Any, Any]]:
    """Both values at every point where both have one; none where only one has: they differ there."""
    import sympy

    found = []
    for shift in range(len(POINTS)):
        at = {}
        for order, name in enumerate(names):
            above, below = POINTS[(shift + order) % len(POINTS)]
            at[name] = sympy.Rational(above * (order + 1) + order, below + 2 * order)
        left, right = (_value(_built(tree, at), DIGITS_AT_A_POINT) for tree in trees)
        if (left is None) != (right is None):
            return []
        if left is not None:
            found.append((left, right))
    return found


def _same(left: Any, right: Any, digits: int = DIGITS_AT_A_POINT - 20) -> bool:
    size = max(abs(left), abs(right))
    return bool(size == 0 or abs(left - right) < size / 10**digits)


def _value(built: Any, digits: int) -> Any:
    import sympy

    if built.is_Rational:
        return built
    value = built.evalf(digits, maxn=2 * digits + 100)
    known = value.is_number and value.is_finite and value is not sympy.nan
    return value if known and all(part.is_Float or part.is_Rational for part in value.as_real_imag()) else None


def _built(tree: Tree, at: dict[str, Any]) -> Any:
    import sympy

    kind, *parts = tree
    if kind == "number":
        return sympy.Rational(str(parts[0]))
    if kind == "symbol":
        return at[parts[0]]
    if kind == "constant":
        return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I}[parts[0]]
    values = [_built(part, at) for part in parts if isinstance(part, tuple)]
    if kind == "call":
        names = {"ln": "log", "arcsin": "asin", "arccos": "acos", "arctan": "atan"}
        return getattr(sympy, str(names.get(parts[0], parts[0])))(*values)
    left, right = values[0], values[-1]
    if kind == "root":
        return sympy.real_root(left, right) if right.is_Integer and left.is_real else sympy.root(left, right)
    made = {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: left / right,
        "^": lambda: left**right,
        "negative": lambda: -left,
        "!": lambda: sympy.factorial(left),
        "absolute": lambda: sympy.Abs(left),
        "log": lambda: sympy.log(left, right),
    }
    return made[kind]()
