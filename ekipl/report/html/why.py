"""Why selection kept an action or not, in words. It says only what follows from the rewards that the page shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ekipl.algorithm.selection import RULES
from ekipl.algorithm.types import POLICY, Action
from ekipl.report.html.parts import Shown

LEFT_OUT = "left out"


def rule_in_words(rule: str) -> str:
    """What a rule does, in one sentence."""
    if rule not in RULES:
        return f"A rule of your own: {rule}."
    return (RULES[rule].__doc__ or "").strip().partition("\n")[0]


def reasons(shown: Shown, rule: str, drops: bool) -> list[str]:
    """The reason for each action; empty texts where there was no selection.

    Args:
        shown: a problem with its candidates.
        rule: ``selection.rule``.
        drops: whether external actions below the baseline are dropped after the choice.
    """
    graded = [(a, k) for a, k in zip(shown.actions, shown.kept, strict=True) if k is not None and a.reward is not None]
    told = _RULES.get(rule, _other)(graded)
    dropped = ", or dropped for an advantage below 0" if drops else ""
    found = []
    for action, kept in zip(shown.actions, shown.kept, strict=True):
        if kept is None or action.reward is None:
            found.append("")
            continue
        reason = told(action, kept)
        found.append(reason if kept or action.source == POLICY else reason + dropped)
    return found


Graded = Sequence[tuple[Action, bool]]
Told = Callable[[Action, bool], str]


def _by_reward(graded: Graded, takes_part: Callable[[Action], bool] = lambda action: True, other: str = "") -> Told:
    """The highest rewards among those that take part."""
    inside = [(action.total, kept) for action, kept in graded if takes_part(action)]
    cut = min((total for total, kept in inside if kept), default=None)
    is_tied = any(total == cut and not kept for total, kept in inside)

    def told(action: Action, kept: bool) -> str:
        if not takes_part(action):
            return other
        if cut is None:
            return LEFT_OUT
        if action.total != cut:
            return f"reward {'above' if action.total > cut else 'below'} the last place ({cut:g})"
        if is_tied:
            return f"tie at {cut:g}: {'given' if kept else 'not given'} a place"
        return f"reward {cut:g}, the last place" if kept else LEFT_OUT

    return told


def _beyond(graded: Graded) -> Told:
    bar = max((action.total for action, _ in graded if action.source == POLICY), default=None)

    def told(action: Action, kept: bool) -> str:
        if action.source == POLICY:
            return "own action" if kept else "own action, no place left"
        if bar is None or action.total > bar:
            better = "no own action" if bar is None else f"better than every own action ({bar:g})"
            return better if kept else f"{better}, but no place left"
        return f"not better than the best own action ({bar:g})"

    return told


def _own_and_right(graded: Graded) -> Told:
    def told(action: Action, kept: bool) -> str:
        if action.source == POLICY:
            return "own action" if kept else "own action, no place left"
        right = "right external action" if action.right else "external action that is not right"
        return right if kept or not action.right else f"{right}, no place left"

    return told


def _needed(graded: Graded) -> Told:
    solved = sum(action.right for action, _ in graded if action.source == POLICY)
    asked = any(kept for action, kept in graded if action.source != POLICY)
    plain = _own_and_right(graded)

    def told(action: Action, kept: bool) -> str:
        if action.source == POLICY or not action.right:
            return plain(action, kept)
        return plain(action, kept) if asked else f"right, but not needed: {solved} of the own actions are right"

    return told


def _other(graded: Graded) -> Told:
    return lambda action, kept: "chosen by the rule" if kept else LEFT_OUT


_RULES: dict[str, Callable[[Graded], Told]] = {
    "top_g": _by_reward,
    "policy_only": lambda graded: _by_reward(graded, lambda a: a.source == POLICY, "external action"),
    "external_only": lambda graded: _by_reward(graded, lambda a: a.source != POLICY, "own action"),
    "external_right": lambda graded: _by_reward(
        graded, lambda a: a.source != POLICY and a.right, "not a right external action"
    ),
    "own_and_right": _own_and_right,
    "beyond": _beyond,
    "needed": _needed,
}
