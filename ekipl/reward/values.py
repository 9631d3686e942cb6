r"""The value that an answer states.

A text is respelled (``writing``), freed from the words of a known sentence (``sentence``) and read as one of: a number
or expression with a unit, an equation or inequality, or a list of such. Anything else states no value.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ekipl.reward import expression, numerals, sentence, units, writing
from ekipl.reward.expression import Tree
from ekipl.reward.magnitude import approximate, rational
from ekipl.reward.units import Unit


class Value(NamedTuple):
    """A number or expression; ``source`` is its spelling, ``name`` that of ``x = 5``."""

    source: str
    tree: Tree
    unit: Unit | None = None
    name: str = ""
    both_signs: bool = False


class Relation(NamedTuple):
    """An equation, inequality or chain of inequalities that is not solved: its signs, and the sides between them."""

    signs: tuple[str, ...]
    sides: tuple[Value, ...]


class Several(NamedTuple):
    """A list: ``brackets`` is ``()`` and the like, or the word that joins the items."""

    brackets: str
    items: tuple[Value, ...]


Stated = Value | Relation | Several


@lru_cache(maxsize=4096)
def read(text: str) -> Stated | None:
    """The value that the text states; None where it states none, or not one."""
    core = sentence.stated(writing.plain(text))
    core = re.sub(r"^[A-Za-z]:\s*(?=.*=)", "", core)  # l: 3x+4y=0
    if core[:1] == "(" and core[-1:] == ")" and "," not in core and _closes_last(core):
        core = core[1:-1].strip()
    if not core or "\n" in core or core.lower() in ("yes", "no"):
        return None
    return _several(core) or _related(core) or _single(core)


forget = read.cache_clear


def exact(text: str) -> bool:
    """Whether the text states one number with a rational value."""
    stated = read(text)
    return isinstance(stated, Value) and not stated.both_signs and rational(stated.tree) is not None


_REPEATING = re.compile(r"([0-9]*\.[0-9]*)\\(?:overline|dot|bar)\s*\{\s*([0-9]+)\s*\}$")
_SPACED = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?: [0-9]{3})+(?![0-9])")
_MIXED = re.compile(r"([0-9]+) ([0-9]+)\s*/\s*([0-9]+)")
_TRIGONOMETRIC = re.compile(r"(?:sin|cos|tan|cot|sec|csc)[^°]*$")
_NAMED = re.compile(
    r"(?:m?∠|△)?\s?(?:[A-Za-z]|[A-Z]{2,5}|[α-ορ-ω]|\\[a-z]+)(?:_\{?[△∠]?[0-9A-Za-z]{1,5}\}?|')?|∠\s?[0-9]|[fgh]\s?\([a-z]\)"
)
_SIGN = re.compile("[=<>≤≥≠]")
_OPENING, _CLOSING = "([{", ")]}"


def _single(core: str) -> Value | None:
    """One number or expression with or without a unit."""
    core = core.strip()
    both = core.startswith("±")
    text, unit = units.split(core[both:].strip())
    if unit == (("°", 1),) and _TRIGONOMETRIC.search(text):
        text, unit = core, None
    text = numerals.digits(numerals.once(text.strip()))
    text = _SPACED.sub(lambda found: found[0].replace(" ", ""), text)
    if found := _MIXED.fullmatch(text.removeprefix("-")):
        if int(found[2]) >= int(found[3]):
            return None
        text = f"{'-' * text.startswith('-')}({found[1]}+{found[2]}/{found[3]})"
    elif found := _REPEATING.fullmatch(text.removeprefix("-")):
        nines = "9" * len(found[2]) + "0" * (len(found[1]) - 1 - found[1].index("."))
        text = f"{'-' * text.startswith('-')}({found[1].rstrip('.') or '0'}+{int(found[2])}/{nines})"
        text = text.replace("(.", "(0.").replace(f"({found[1]}+", f"({_as_fraction(found[1])}+")
    tree = expression.parse(text)
    if tree is None or (both and expression.symbols(tree)):
        return None
    return Value(text, tree, unit, both_signs=both)


def _as_fraction(decimal: str) -> str:
    whole, _, places = decimal.partition(".")
    return f"{int(whole + places or '0')}/{10 ** len(places)}"


def _related(core: str) -> Stated | None:
    """An equation or inequality; ``x = 5`` and chains that end in a value are that value."""
    signs, sides = tuple(_SIGN.findall(core)), [side.strip() for side in _SIGN.split(core)]
    if not signs:
        return None
    if set(signs) == {"="} and _NAMED.fullmatch(sides[0]) and (value := _single(sides[-1])):
        between = [_single(side) for side in sides[1:-1]]
        if all(side and _agrees(side, value) for side in between):
            name = re.sub(r"[\s{}]", "", sides[0])
            return value._replace(name=name) if name not in expression.symbols(value.tree) else None
        return None
    turned = _single(sides[0]) if signs == ("=",) and _NAMED.fullmatch(sides[1]) else None
    if turned and not expression.symbols(turned.tree):
        return turned._replace(name=sides[1])
    values = [_single(side) for side in sides]
    if not all(values) or len(values) > 3:
        return None
    trees = [value for value in values if value]
    if any(expression.symbols(value.tree) for value in trees):
        return Relation(signs, tuple(trees)) if len(signs) == 1 or "=" not in signs else None
    if set(signs) == {"="} and all(_agrees(value, trees[-1]) for value in trees[:-1]):
        return trees[-1]  # 3 + 4 = 7
    return None


def _agrees(step: Value, result: Value) -> bool:
    """Whether a step of working leads to the result, as far as it has a value."""
    if expression.symbols(step.tree) or expression.symbols(result.tree):
        return bool(expression.symbols(step.tree)) or not expression.is_number(step.tree)
    left, right = approximate(step.tree), approximate(result.tree)
    return left is not None and right is not None and abs(left - right) <= 0.01 * abs(right)


def _several(core: str) -> Several | None:
    """A list in brackets, or joined by commas or "or" and "and"."""
    core = re.sub(r"^[A-Z]'?\s*=?\s*(?=[(][^()]*,)", "", core)  # A(3, 4)
    brackets, inside = "", core
    if core.startswith("\\{") and core.endswith("\\}"):
        brackets, inside = "{}", core[2:-2]
    elif core[0] in "([" and core[-1] in ")]" and _closes_last(core):
        brackets, inside = core[0] + core[-1], core[1:-1]
    if brackets and re.fullmatch(r"\s*[0-9]+(?:,[0-9]{3})+\s*", inside):
        return None  # (1,200): a point, or a number
    pieces, joint = _pieces(inside)
    if len(pieces) < 2:
        return None if brackets != "{}" else _items(brackets, pieces)
    return _items(brackets or joint, pieces)


def _items(brackets: str, pieces: list[str]) -> Several | None:
    items = [stated for piece in pieces if isinstance(stated := _related(piece) or _infinite(piece), Value)]
    return Several(brackets, tuple(items)) if len(items) == len(pieces) else None


def _infinite(piece: str) -> Value | None:
    sign = piece.strip()
    if sign.lstrip("+-") == "∞":
        return Value(sign, ("symbol", sign.lstrip("+")))
    return _single(piece)


def _closes_last(core: str) -> bool:
    depth = 0
    for place, sign in enumerate(core):
        depth += (sign in _OPENING) - (sign in _CLOSING)
        if depth == 0:
            return place == len(core) - 1
    return False


def _pieces(text: str) -> tuple[list[str], str]:
    """The parts between commas and joining words that stand in no bracket, and the last joint."""
    pieces, depth, start, joint = [], 0, 0, ""
    for found in re.finditer(r"[(\[{)\]}]|\s+(?:or|and)\s+|[或和;]|,(?:\s*(?:or|and)\s+)?", text):
        if found[0] in _OPENING or found[0] in _CLOSING:
            depth += 1 if found[0] in _OPENING else -1
        elif depth == 0:
            if (
                found[0] == ","
                and re.match(r"[0-9]{3}(?![0-9])", text[found.end() :])
                and text[found.start() - 1 : found.start()].isdigit()
            ):
                continue  # 1,000
            pieces.append(text[start : found.start()])
            start, joint = found.end(), "or" if found[0].strip(" ,") in ("or", "或", "and", "和") else joint or ","
    return [*pieces, text[start:]], joint
