from __future__ import annotations

from fractions import Fraction

import pytest

from ekipl.reward import letters, magnitude, values
from ekipl.reward.values import Relation, Several, Value


@pytest.mark.parametrize(
    "text", ["B", "b", " (B) ", "B.", "B)", "B. 12", "(B) 12", "B: 3, 4", "The answer is B", "**B**", "\uff22"]
)
def test_choice_is_read(text: str) -> None:
    assert chosen(text) == "B"


@pytest.mark.parametrize(
    "text", ["$B$", r"\boxed{B}", r"\text{B}", "Answer: (B).", "option B", "AB = 3, so the correct answer is B."]
)
def test_choice_is_read_from_wrappings(text: str) -> None:
    assert chosen(text) == "B"


@pytest.mark.parametrize(("text", "all_of_them"), [("A, B", "AB"), ("BC", "BC"), ("B C", "BC"), ("d and a", "AD")])
def test_several_letters_are_read(text: str, all_of_them: str) -> None:
    assert chosen(text) == all_of_them


def chosen(text: str) -> str | None:
    found = letters.read(text)
    return "".join(sorted(found.letters)) if found else None


@pytest.mark.parametrize(
    "text",
    [
        *("", "12", "A or B", "A. 12 or B. 13", "A/B", "A triangle", "The answer is not B", "A. B", "A. or b"),
        *("(a)(b)", "a. 2; b. 3", "A. b and c", "b. c. d.", "B?", "\u0392", "B\x00"),
    ],
)
def test_choice_is_not_guessed(text: str) -> None:
    found = letters.read(text)
    assert found is None or values.read(found.text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("3", 3), ("-3", -3), ("+3.50", Fraction(7, 2)), ("1,000", 1000), (".5", Fraction(1, 2)), ("3.", 3)),
        *(("007", 7), ("-1/2", Fraction(-1, 2)), (r"-\dfrac{1}{2}", Fraction(-1, 2)), ("1e3", 1000), ("2^10", 1024)),
        *(("5!", 120), (r"\sqrt{16}", 4), ("2 1/2", Fraction(5, 2)), (r"0.1\overline{6}", Fraction(1, 6))),
        *(("1 000", 1000), ("twelve", 12), ("minus 3", -3), ("(2+3)*4", 20), ("2^-1", Fraction(1, 2)), ("|-3|", 3)),
    ],
)
def test_rational_values(text: str, value: Fraction) -> None:
    stated = values.read(text)
    assert isinstance(stated, Value)
    assert magnitude.rational(stated.tree) == value


@pytest.mark.parametrize("text", ["", "-", ".", "1,00", "3 4", "٣", "nan", "inf", "1_000", "9" * 501, "0x3", "1/2/x3"])
def test_not_a_number(text: str) -> None:
    stated = values.read(text)
    assert not isinstance(stated, Value) or magnitude.rational(stated.tree) is None


@pytest.mark.parametrize(
    ("text", "source", "unit"),
    [
        ("3 objects", "3", "count thing"),
        ("There are 3 objects.", "3", "count thing"),
        ("x = 5 cm", "5", "cm"),
        ("AB = 2 * 4 = 8", "8", None),
        (r"30^\circ", "30", "°"),
        ("12 cm^2", "12", "cm"),
        (r"$5\text{ cm}$", "5", "cm"),
        (r"5\,\mathrm{cm}", "5", "cm"),
        ("10√2", "10√2", None),
        ("√{13}", "√{13}", None),
        (r"\boxed{3}", "3", None),
        ("−3", "-3", None),
        ("50%", "50", "%"),
        ("The value of sin A is 0.6", "0.6", None),
        ("an area of 3 square units", None, None),  # no sentence of the list
        ("The area is 3 square units", "3", "unit"),
        ("sin 30°", "sin 30°", None),
    ],
)
def test_a_value_and_its_unit(text: str, source: str | None, unit: str | None) -> None:
    stated = values.read(text)
    if source is None:
        assert stated is None
        return
    assert isinstance(stated, Value)
    assert (stated.source, stated.unit[0][0] if stated.unit else None) == (source, unit)


def test_equations_and_lists_are_read_as_such() -> None:
    line = values.read("3x+4y+14=0")
    assert isinstance(line, Relation)
    assert line.signs == ("=",)
    point = values.read("(1, 2)")
    assert isinstance(point, Several)
    assert point.brackets == "()"
    assert isinstance(values.read("3x+4=7"), Relation)
    named = values.read("x = 7")
    assert isinstance(named, Value)
    assert named.name == "x"


@pytest.mark.parametrize(
    "text",
    [
        *("3 objects in row 7", r"3\,4", "3_4", "not 3", "The answer is not 3", "anything but 3"),
        *(r"\text{not }3", "It isn't 3", "more than 3", "at least 3", "3 or more", "over 3", "up to 3", "It is ≠ 3"),
        *("3 (four)", "half of 3", "3 dozen", "3 million", "3 squared", "square root of 9", "3 pi in all or so"),
        *("version 3.1.2", "<answer>3", "__import__('os', 3)", "(" * 13 + "3" + ")" * 13, "3.x", "0.(3)", "1/2x"),
    ],
)
def test_no_value_is_guessed(text: str) -> None:
    assert values.read(text) is None


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Find x.\nChoices:\nA. 10\nB. 12\nC. 14", "12"),
        ("AD meets B. Choices: (A) 30 (B) 40 (C) 60", "40"),
        ("Choices: A. 1 B. x = 2, y = 3 C. 5", "x = 2, y = 3"),
        ("选项：A、5厘米 B、6厘米", "6厘米"),
        ("Options: A) acute; B) right; C) obtuse", "right"),
        ("Choices: A. 1 C. 5", ""),
        ("", ""),
    ],
)
def test_an_option_of_the_question(question: str, text: str) -> None:
    assert letters.option(question, "B") == text


def test_the_text_of_another_option_is_refused() -> None:
    for text, question, right in (
        ("B. right", "Options: A) acute; B) right; C) obtuse", True),
        ("B. acute", "Options: A) acute; B) right; C) obtuse", False),
        ("B. right", "", False),  # words that nothing vouches for
        ("B. 40.0", "Choices: (A) 30 (B) 40", True),
        ("B. 30", "Choices: (A) 30 (B) 40", False),
        ("B. 30", "", True),
    ):
        assert letters.same(text, "B", question) == right


def test_questions_with_options_have_choices() -> None:
    for question in ("Choices: A. 1", "Options:\n(A) 1", "选项：A. 1", "Which? (A) 10 (B) 12", "Which?\nA. 10\nB. 12"):
        assert letters.lists_options(question)
    for question in ("", "What is AB?", "A line through B.", "Find angle A. It meets B at 5."):
        assert not letters.lists_options(question)
