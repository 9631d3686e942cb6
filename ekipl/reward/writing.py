r"""One spelling for the many ways of writing the same text: signs, spaces, Markdown and the markup of LaTeX.

``plain`` changes how a text is written, never what it says. What it does not know stays, and no later step reads it.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 500  # characters; a longer answer states no letter and no value

_SUPER = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-", strict=True))
_SUB = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SIGNS = str.maketrans(
    dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\ufe0f")  # invisible: removed
    | dict.fromkeys("\u2212\u2013\u2012\u2010\u2011\ufe63\uff0d\u2796\u2014\u2015\u2013", "-")
    | dict.fromkeys("º˚∘◦゜ﾟᵒ⚬", "°")
    | dict.fromkeys("×·⋅∙•∗✕✖", "*")
    | dict.fromkeys("“”„「」『』＂", '"')
    | dict.fromkeys("‘’", "'")
    | dict.fromkeys("【〔［", "[")
    | dict.fromkeys("】〕］", "]")
    | dict.fromkeys("。｡", ".")
    | dict.fromkeys("、､", ",")
    | dict.fromkeys("⩽≦", "≤")
    | dict.fromkeys("⩾≧", "≥")
    | {"÷": "/", "∶": ":", "Ω": "Ω", "µ": "μ", "￥": "¥", "∴": " therefore ", "△": "△", "∆": "△", "∅": "∅"}
    | {"㎡": "m^{2}", "㎥": "m^{3}", "㎠": "cm^{2}", "㎤": "cm^{3}", "㎟": "mm^{2}", "㎣": "mm^{3}", "㎢": "km^{2}"}
)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_DEGREE = re.compile(
    r"(?:\{\})?\s*\^\s*\{?\s*(?:\\circ|°)\s*\}?|\{\s*\^\s*\\circ\s*\}|\\(?:degree|textdegree|deg|circ)(?![A-Za-z])(?:\s*\{\})?"
)
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|normal|up|sf|tt)?|math(?:rm|bf|it|sf|tt)|mbox|hbox|emph|operatorname|boldsymbol|bm)"
    r"\s*\{([^{}]*)\}"
)
_BOXED = re.compile(r"\\f?box(?:ed)?\s*\{((?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*)\}")
_COMMANDS = (  # markup of LaTeX that changes nothing, and several names of one sign
    (re.compile(r"\\(?:left|right|[Bb]igg?[lr]?|displaystyle|textstyle|limits|bf|rm)(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:[,;:!> ]|q?quad(?![A-Za-z])|thinspace(?![A-Za-z]))|(?<=[0-9}])~(?=[A-Za-z\\\\])"), " "),
    (re.compile(r"\{\s*,\s*\}"), ","),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\pi(?![A-Za-z])"), "π"),
    (re.compile(r"(?<![A-Za-z\\])(?:pi|PI)(?![A-Za-z])"), "π"),
    (re.compile(r"\\infty(?![A-Za-z])"), "∞"),
    (re.compile(r"\\pm(?![A-Za-z])"), "±"),
    (re.compile(r"\\angle(?![A-Za-z])"), "∠"),
    (re.compile(r"\\triangle(?![A-Za-z])"), "△"),
    (re.compile(r"\\therefore(?![A-Za-z])"), " therefore "),
    (re.compile(r"\\leq?(?![A-Za-z])|<="), "≤"),
    (re.compile(r"\\geq?(?![A-Za-z])|>="), "≥"),
    (re.compile(r"\\neq?(?![A-Za-z])|!="), "≠"),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\([{}])"), r"\\\1"),
    (re.compile(r"\\(?:[()\[\]])"), " "),
)
_DOLLARS = re.compile(r"\\\$|(?<![A-Za-z])US\s?\\?\$|(?<!\$)\$(?=\s*[0-9][^$]*$)|(?<=[0-9])\s?\$$")
_BOLD = re.compile(r"(?<![0-9A-Za-z)\]}*])(\*\*\*|\*\*)(?=\S)([^*\n]+?)(?<=\S)\1(?![0-9A-Za-z(*])")
_UNDERLINED = re.compile(r"(?<![0-9A-Za-z\\)}\]])(__|_)(?=\S)([^_\n]+?)(?<=\S)\1(?![0-9A-Za-z])")
_ITALIC = re.compile(r"\*(?=\S)([^*\n]+?)(?<=\S)\*")
_ITALIC_WORDS = re.compile(r"(?m)^\*([A-Za-z][A-Za-z ]*:?)\*(?=\s)")
_HEADING = re.compile(r"(?m)^[ \t]{0,3}#{1,6}[ \t]+|[ \t]+#+[ \t]*$")
_FENCE = re.compile(r"```[a-z]*\s*([^`]*?)\s*```|`([^`\n]*)`")


def plain(text: str) -> str:
    r"""The text in one spelling: ``**Answer:** ６５º`` -> ``Answer: 65°``, ``$\boxed{\text{B}}$`` -> ``B``.

    Empty when it is longer than ``LONGEST`` characters. Lines stay lines; other white space becomes single spaces.
    """
    text = text.strip()
    return respelled(text) if len(text) <= LONGEST else ""


def respelled(text: str) -> str:
    """``plain`` of a text of any length."""
    if not text.isascii():
        text = _characters(text)
    if "$" in text:
        text = _math(text)
    if any(sign in text for sign in "*_#`"):
        text = _markdown(text)
    if any(sign in text for sign in "\\{^=~") or "pi" in text.lower():
        text = _latex(text)
    return re.sub(r"[^\S\n]+", " ", re.sub(r"\s*\n\s*", "\n", text)).strip()


def _characters(text: str) -> str:
    text = re.sub(r"(?<=[0-9])⁰(?![⁰¹²³⁴⁵⁶⁷⁸⁹])", "°", text)
    text = _RAISED.sub(lambda found: "^{" + "".join(_SUPER[sign] for sign in found[0]) + "}", text)
    text = _LOWERED.sub(lambda found: "_{" + "".join(_SUB[sign] for sign in found[0]) + "}", text)
    text = _VULGAR.sub(lambda found: _vulgar(found[0]), text).translate(_SIGNS)
    return unicodedata.normalize("NFKC", text).translate(_SIGNS)


def _vulgar(sign: str) -> str:
    above, _, below = unicodedata.normalize("NFKC", sign).partition("⁄")
    return rf"\frac{{{above}}}{{{below}}}" if above and below else sign


def _math(text: str) -> str:
    """Signs in pairs around a formula are markup; before a number, or behind it, one stands for dollars."""
    if text.count("$") - text.count("\\$") in (2, 4, 6, 8) and "$" in text.replace("\\$", ""):
        return text.replace("\\$", " USD ").replace("$", " ")
    return _DOLLARS.sub(" USD ", text)


def _markdown(text: str) -> str:
    text = _FENCE.sub(lambda found: found[1] if found[1] is not None else found[2], text)
    text = _HEADING.sub("", text)
    for _ in range(2):
        text = _UNDERLINED.sub(r"\2", _BOLD.sub(r"\2", text))
    text = _ITALIC_WORDS.sub(r"\1", text)
    whole = _ITALIC.fullmatch(text.strip())
    return whole[1] if whole else text


def _latex(text: str) -> str:
    text = _DEGREE.sub("°", text.replace(r"{^\circ}", "°"))
    for pattern, spelling in _COMMANDS:
        text = pattern.sub(spelling, text)
    for _ in range(4):
        before = text
        text = _TEXT.sub(r" \1 ", text)
        boxes = _BOXED.findall(text)
        if len(boxes) == 1:  # two boxes state two answers, and stay
            text = _BOXED.sub(lambda found: f" {found[1]} ", text)
        if text == before:
            break
    return text
