r"""Approximate values of plain expressions, which decide most wrong answers without computer algebra.

Products and quotients of numbers, \pi, \sqrt{...} and \frac{...}{...} have one; other expressions have none.
"""

from __future__ import annotations

import math
import re

_INSIDE = r"((?:[^{}]|\{[^{}]*\})*)"
_FACTOR = re.compile(
    r"\s*(?:\\cdot\s*)?(?:"
    r"(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)|(?P<pi>\\pi(?![A-Za-z]))"
    rf"|\\sqrt\s*\{{(?P<root>{_INSIDE})\}}|\\[dt]?frac\s*\{{(?P<above>{_INSIDE})\}}\s*\{{(?P<below>{_INSIDE})\}})\s*"
)


def approximate_value(text: str) -> float | None:
    r"""The value of "2\sqrt{3}/5" and the like to about 15 digits; None for other expressions and mixed numbers."""
    above, divided, below = text.strip().partition("/")
    negative = above.startswith("-")
    value = _product(above[negative:])
    if value is not None and divided:
        divisor = _product(below) if len(_FACTOR.findall(below)) == 1 else None
        value = value / divisor if divisor else None
    return -value if negative and value is not None else value


def _product(text: str) -> float | None:
    value, place, before = 1.0, 0, ""
    while place < len(text) or not before:
        found = _FACTOR.match(text, place)
        if not found:
            return None
        if found["number"] is not None:
            kind, factor = "number", float(found["number"])
        elif found["pi"] is not None:
            kind, factor = "pi", math.pi
        elif found["root"] is not None:
            inside = approximate_value(found["root"])
            if inside is None or inside < 0:
                return None
            kind, factor = "root", math.sqrt(inside)
        else:
            top, bottom = approximate_value(found["above"]), approximate_value(found["below"])
            if top is None or not bottom or before == "number":  # 2\frac{1}{2} may be a mixed number
                return None
            kind, factor = "fraction", top / bottom
        if kind == before == "number":
            return None
        value, place, before = value * factor, found.end(), kind
    return value if math.isfinite(value) else None
