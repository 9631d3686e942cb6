"""Whether an answer states the value of the gold answer: number, unit, equation, list."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from ekipl.reward import algebra, equivalence, expression, sentence, units, writing
from ekipl.reward.magnitude import approximate, rational
from ekipl.reward.values import Relation, Several, Stated, Value, read

_PLAIN = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
FLIPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "=": "=", "≠": "≠"}


def same(answer: str, gold: str) -> bool:
    """Whether ``answer`` states the value of ``gold``, or is written in the same way.

    Raises:
        GraderError: the equality of two expressions could not be decided in time.
    """
    if answer == gold:
        return True
    if _PLAIN.fullmatch(answer) and _PLAIN.fullmatch(gold):
        return Fraction(answer) == Fraction(gold)
    ours, wanted = read(answer), read(gold)
    if wanted is None and (counted := _counted(gold)):
        noun, wanted = counted
        ours = _counted_as(answer, noun) or ours
    if ours is None or wanted is None:
        return ours is wanted and bool(spelled := spelling(gold)) and spelling(answer) == spelled
    if isinstance(ours, Value) and isinstance(wanted, Value) and not _turned(ours, wanted):
        return _same_value(ours, wanted)
    if isinstance(ours, Several) and isinstance(wanted, Several):
        return _same_items(ours, wanted)
    sides = [_relation(stated) for stated in (ours, wanted)]
    return bool(sides[0] and sides[1] and _same_relation(sides[0], sides[1]))


def _turned(ours: Value, wanted: Value) -> bool:
    """Whether the two are equations that are solved for different variables, such as y = x and x = y."""
    solved = ours.name and wanted.name and ours.name != wanted.name
    return bool(solved and expression.symbols(ours.tree) and expression.symbols(wanted.tree))


def only_as_spelled(gold: str) -> bool:
    """Whether nothing but its own spelling meets the gold answer: it states no value that could be compared."""
    return not _PLAIN.fullmatch(gold) and read(gold) is None and _counted(gold) is None


_NO_NOUN = re.compile(
    r"(?:dozen|hundred|thousand|[mb]illion|trillion|pair|couple|score|half|halve|third|quarter|fold)s?|[a-z]*wards?"
)
_GOLD_NOUN = re.compile(r"(-?[0-9][0-9,.]*)\s+([a-z]{3,}(?: [a-z]{3,})?)")


@lru_cache(maxsize=1024)
def _counted(gold: str) -> tuple[str, Value] | None:
    """A gold answer that counts what no list has ("5 pizzas"): its noun, and the number with that noun as its unit."""
    found = _GOLD_NOUN.fullmatch(sentence.stated(writing.plain(gold)))
    if not found or any(_NO_NOUN.fullmatch(word) for word in found[2].split()):
        return None
    value = read(found[1])
    return (found[2], value._replace(unit=((f"count {found[2]}", 1),))) if isinstance(value, Value) else None


def _counted_as(answer: str, noun: str) -> Value | None:
    """The number of the same noun that the answer states."""
    found = re.fullmatch(rf"(.+?)\s+{re.escape(noun.removesuffix('s'))}s?", sentence.stated(writing.plain(answer)))
    value = read(found[1]) if found else None
    return value if isinstance(value, Value) and value.unit is None else None


@lru_cache(maxsize=1024)
def spelling(text: str) -> str:
    """What the text states, without white space; the case of a word does not count, that of a symbol does."""
    core = re.sub(r"\s+", "", sentence.stated(writing.plain(text)))
    return core.casefold() if core.isalpha() and (len(core) > 3 or core.lower() in ("yes", "no")) else core


def _same_value(ours: Value, wanted: Value) -> bool:
    if ours.name and wanted.name and ours.name != wanted.name:
        return False
    if ours.both_signs != wanted.both_signs:
        return False
    if ours.both_signs:
        ours, wanted = (
            value._replace(source=f"|{value.source}|", tree=("absolute", value.tree)) for value in (ours, wanted)
        )
    if not units.agree(ours.unit, wanted.unit):
        return False
    percent = (("%", 1),)
    if ours.unit == percent and wanted.unit is None:  # 50% answers "how many percent" and "which part"
        share = rational(wanted.tree)
        return _equal(_hundredth(ours), wanted) or ((share is None or abs(share) > 1) and _equal(ours, wanted))
    if wanted.unit == percent and ours.unit is None and _equal(ours, _hundredth(wanted)):
        return True
    return _equal(ours, wanted)


def _hundredth(value: Value) -> Value:
    return value._replace(source=f"({value.source})/100", tree=("/", value.tree, ("number", "100")))


def _equal(ours: Value, wanted: Value) -> bool:
    """Whether the two values are equal; near, where one is a decimal and the other is not."""
    if ours.tree == wanted.tree:
        return approximate(ours.tree) is not None or bool(expression.symbols(ours.tree)) or _equal_to_itself(ours)
    if expression.symbols(ours.tree) != expression.symbols(wanted.tree):
        return False
    rounded = expression.may_be_rounded(ours.tree, wanted.tree)
    value, target = rational(ours.tree), rational(wanted.tree)
    if value is not None and target is not None:
        whole = value if expression.has_decimals(wanted.tree) and not expression.has_decimals(ours.tree) else target
        finite = 10**6 % whole.denominator == 0  # its decimals end, and are compared as they are
        return value == target or (rounded and not finite and algebra.near(value, target))
    size, goal = approximate(ours.tree), approximate(wanted.tree)
    if size is not None and goal is not None:
        off = abs(size - goal) / max(abs(size), abs(goal), 1e-300)
        if off > (1e-5 if rounded else 1e-9):
            return False
        few = sum(map(str.isdigit, ours.source + wanted.source)) <= 10 and not re.search(
            "[!^eE]", f"{ours.source}{wanted.source}"
        )
        if off < 1e-12 and few:
            return True  # so few digits come no closer by chance
    return equivalence.decide("value", ours.source, wanted.source)


def _equal_to_itself(value: Value) -> bool:
    return equivalence.decide("value", value.source, value.source)  # not 1/0


def _relation(stated: Stated) -> Relation | None:
    """The stated as a relation; ``y = 2x + 1`` is an equation too, ``x = 5`` is the value 5 only."""
    if isinstance(stated, Value) and len(stated.name) == 1 and expression.symbols(stated.tree):
        return Relation(("=",), (Value(stated.name, ("symbol", stated.name)), stated))
    return stated if isinstance(stated, Relation) else None


def _same_relation(ours: Relation, wanted: Relation) -> bool:
    if any(side.unit or side.both_signs for side in (*ours.sides, *wanted.sides)) or len(ours.signs) != len(
        wanted.signs
    ):
        return False
    if len(ours.signs) == 2:  # 1 < x < 3
        if ours.signs != wanted.signs:
            ours = Relation(tuple(FLIPPED[sign] for sign in reversed(ours.signs)), tuple(reversed(ours.sides)))
        return ours.signs == wanted.signs and all(map(_equal, ours.sides, wanted.sides))
    sign, sign_wanted = ours.signs[0], wanted.signs[0]
    left, right = (_difference(relation) for relation in (ours, wanted))
    if sign in "=≠":
        return sign == sign_wanted and equivalence.decide("proportional", left, right)
    if sign == FLIPPED[sign_wanted]:
        left = f"-({left})"
    elif sign != sign_wanted:
        return False
    return equivalence.decide("in proportion", left, right)


def _difference(relation: Relation) -> str:
    left, right = relation.sides
    return f"({left.source})-({right.source})"


def _same_items(ours: Several, wanted: Several) -> bool:
    named = all(item.name for item in (*ours.items, *wanted.items)) and {ours.brackets, wanted.brackets} <= {",", "or"}
    if len(ours.items) != len(wanted.items) or (ours.brackets != wanted.brackets and not named):
        return False
    if ours.brackets not in ("{}", "or") and not named:
        return all(map(_same_value, ours.items, wanted.items))
    left = list(wanted.items)
    for item in ours.items:
        partner = next((other for other in left if _same_value(item, other)), None)
        if partner is None:
            return False
        left.remove(partner)
    return True
