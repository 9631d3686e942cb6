r"""Constant and symbolic expressions: LaTeX or plain writing to a tree.

The grammar is closed: what it does not know makes the whole text no expression, so that nothing is read over. A tree is
nested tuples: ``("number", "3.5")``, ``("symbol", "x")``, ``("constant", "pi")``, ``("+", a, b)``, ``("negative", a)``,
``("root", a, degree)``, ``("call", "sin", a)``, and so on. Nothing is evaluated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

Tree = tuple[Any, ...]

DEEPEST = 12  # brackets within brackets
LONGEST = 150  # numbers, letters and signs; bounds the depth of the tree

FUNCTIONS = ("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "ln", "exp", "sqrt", "log", "lg")
_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+|\.(?![\w(\\]))?|\.[0-9]+)"
    r"(?P<power>[eE][-+]?[0-9]{1,3}(?![0-9A-Za-z.]))?"
    r"|\\(?P<command>[A-Za-z]+)|(?P<word>[A-Za-z]+)|(?P<greek>[α-ωΑ-Ω])|(?P<sign>\*\*|[-+*/^_!|()\[\]{}√°])"
)
_GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "theta": "θ", "lambda": "λ", "mu": "μ", "omega": "ω", "phi": "φ"}
_LETTERS = re.compile(r"[A-Z]{1,5}|[a-z]{1,2}|[A-Z][a-z]|[a-z][A-Z]")


class NoExpression(ValueError):
    """The text is no expression of the grammar."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Tree | None:
    """The tree of the whole text, or None."""
    try:
        return _Parser(text).whole()
    except NoExpression:
        return None


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        if len(self.tokens) > LONGEST:
            raise NoExpression
        self.at = 0
        self.depth = 0

    def whole(self) -> Tree:
        tree = self.sum()
        if self.peek()[0] != "end":
            raise NoExpression
        return tree

    def peek(self) -> tuple[str, str, bool]:
        """Kind, text, and whether white space stands before it."""
        return self.tokens[self.at]

    def take(self, *signs: str) -> str | None:
        kind, text, _ = self.peek()
        if kind == "sign" and text in signs:
            self.at += 1
            return text
        return None

    def need(self, sign: str) -> None:
        if not self.take(sign):
            raise NoExpression

    def sum(self) -> Tree:
        self.depth += 1
        if self.depth > DEEPEST:
            raise NoExpression
        sign = self.take("-", "+")
        tree = self.product()
        tree = ("negative", tree) if sign == "-" else tree
        while sign := self.take("+", "-"):
            tree = (sign, tree, self.product())
        self.depth -= 1
        return tree

    def product(self) -> Tree:
        tree, divided = self.power(), False
        while True:
            if sign := self.take("*", "/"):
                negative = self.take("-") is not None
                factor = self.power()
                tree, divided = (sign, tree, ("negative", factor) if negative else factor), sign == "/"
            elif self.joined():
                if divided and not (is_number(tree[1]) and is_number(tree[2]) and self.peek()[2]):
                    raise NoExpression  # 1/2x: a half of x, or one over 2x; 1/2 x is the former
                tree, divided = self.times(tree), False
            else:
                return tree

    def joined(self) -> bool:
        """Whether a factor follows without a sign."""
        kind, text, spaced = self.peek()
        before = self.tokens[self.at - 1]
        if kind in ("command", "greek") or (kind == "sign" and text in "(√"):
            return not (kind == "sign" and before[0] == "word" and before[1] in ("f", "g", "h"))
        if kind == "word":
            single = len(text) == 1 and text not in "aIoO" and before[0] in ("number", "sign")
            return not spaced or single or before[1] in (")", "]", "}")
        return kind == "number" and before[0] == "sign" and before[1] in (")", "]") and not spaced

    def times(self, tree: Tree) -> Tree:
        r"""``tree`` times the next factor; 2\frac{1}{2} is a mixed number, 2\frac{3}{2} is ambiguous."""
        mixed = tree[0] == "number" and self.peek()[:2] == ("command", "frac")
        factor = self.power()
        if mixed and factor[0] == "/" and factor[1][0] == factor[2][0] == "number":
            if "." in tree[1] or Fraction(factor[1][1]) >= Fraction(factor[2][1]):
                raise NoExpression
            return ("+", tree, factor)
        return ("*", tree, factor)

    def power(self) -> Tree:
        tree = self.postfix(self.atom())
        if self.take("^", "**"):
            negative = self.take("-") is not None
            exponent = self.exponent()
            tree = ("^", tree, ("negative", exponent) if negative else exponent)
            tree = self.postfix(tree)
        return tree

    def exponent(self) -> Tree:
        tree = self.postfix(self.atom())
        return ("^", tree, self.exponent()) if self.take("^", "**") else tree

    def postfix(self, tree: Tree) -> Tree:
        while sign := self.take("!", "°"):
            tree = ("!", tree) if sign == "!" else ("*", tree, ("/", ("constant", "pi"), ("number", "180")))
        return tree

    def atom(self) -> Tree:
        kind, text, _ = self.peek()
        self.at += 1
        if kind == "number":
            return ("number", text)
        if kind == "greek":
            return ("constant", "pi") if text == "π" else self.symbol(text)
        if kind == "word":
            return self.word(text)
        if kind == "command":
            return self.command(text)
        if kind == "sign" and text == "√":
            return ("root", self.atom(), ("number", "2"))
        closing = {"(": ")", "[": "]", "{": "}", "|": "|"}.get(text) if kind == "sign" else None
        if closing is None:
            raise NoExpression
        tree = self.sum()
        self.need(closing)
        return ("absolute", tree) if text == "|" else tree

    def word(self, text: str) -> Tree:
        if text in FUNCTIONS:
            return self.function(text)
        if not _LETTERS.fullmatch(text):
            raise NoExpression
        head, rest = text[0], text[1:]
        if rest:  # ab: a product; the rest is the next token
            self.tokens.insert(self.at, ("word", rest, False))
        return {"e": ("constant", "e"), "i": ("constant", "i")}.get(head) or self.symbol(head)

    def symbol(self, name: str) -> Tree:
        if self.take("_"):
            index = self.atom()
            if index[0] not in ("number", "symbol"):
                raise NoExpression
            name = f"{name}_{index[1]}"
        return ("symbol", name)

    def command(self, name: str) -> Tree:
        if name == "frac":
            above, below = self.argument(), self.argument()
            return ("/", above, below)
        if name in FUNCTIONS:
            return self.function(name)
        if name in _GREEK:
            return self.symbol(_GREEK[name])
        raise NoExpression

    def argument(self) -> Tree:
        kind, text, _ = self.peek()
        if kind == "number" and text.isdigit():  # \frac12: each takes one digit
            self.tokens[self.at : self.at + 1] = [("number", digit, False) for digit in text]
        return self.atom()

    def function(self, name: str) -> Tree:
        if name == "sqrt":
            degree: Tree = ("number", "2")
            if self.take("["):
                degree = self.sum()
                self.need("]")
            return ("root", self.argument(), degree)
        base = self.atom() if name == "log" and self.take("_") else None
        raised = self.exponent() if self.take("^") else None
        inside = self.power() if name != "lg" or base is None else None
        if inside is None or (name == "log" and base is None) or raised == ("negative", ("number", "1")):
            raise NoExpression  # the base of log is a matter of taste
        if self.joined() and self.tokens[self.at - 1][1] not in (")", "}"):
            raise NoExpression  # sin 2x
        base = ("number", "10") if name == "lg" else base
        tree: Tree = ("log", inside, base) if base else ("call", name, inside)
        return ("^", tree, raised) if raised else tree


def _tokens(text: str) -> Iterator[tuple[str, str, bool]]:
    place, spaced = 0, False
    while place < len(text):
        found = _TOKEN.match(text, place)
        if not found:
            raise NoExpression
        place = found.end()
        kind = found.lastgroup or ""
        if kind == "space":
            spaced = True
            continue
        if found["number"]:
            kind, value = "number", found["number"].replace(",", "").rstrip(".") + (found["power"] or "")
        else:
            value = found[kind]
        yield kind, value, spaced
        spaced = False
    yield "end", "", spaced


def nodes(tree: Tree) -> Iterator[Tree]:
    """The tree and all trees inside it."""
    yield tree
    for part in tree[1:]:
        if isinstance(part, tuple):
            yield from nodes(part)


@lru_cache(maxsize=4096)
def symbols(tree: Tree) -> frozenset[str]:
    """The names of its variables."""
    return frozenset(node[1] for node in nodes(tree) if node[0] == "symbol")


def has_decimals(tree: Tree) -> bool:
    """Whether one of its numbers is written with a decimal point: such a number may have been rounded."""
    return any("." in str(node[1]) for node in nodes(tree) if node[0] == "number")


def is_number(tree: Tree) -> bool:
    """Whether it is one written number, with or without a sign."""
    return bool(tree[0] == "number" or (tree[0] == "negative" and tree[1][0] == "number"))


def may_be_rounded(ours: Tree, wanted: Tree) -> bool:
    """Whether one may be a rounded value of the other: it has decimals, and they are not two written numbers."""
    return (has_decimals(ours) or has_decimals(wanted)) and not (is_number(ours) and is_number(wanted))
