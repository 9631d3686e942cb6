from __future__ import annotations

import re
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.reward import parse
from ekipl.reward.parse import Function

PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", " ", "\n", "\x00", "x", "3", "(", ","]),
    max_size=14,
).map("".join)


@given(PIECES)
def test_well_formed_is_the_published_pattern(text: str) -> None:
    assert parse.well_formed(text) == bool(re.fullmatch(r"<think>.*?</think>\s*<answer>.*?</answer>", text, re.DOTALL))


@given(PIECES)
def test_blocks_are_those_of_the_published_patterns(text: str) -> None:
    for block, flags in ((parse.answer_block, re.DOTALL), (parse.answer_block_on_one_line, 0)):
        found = re.search(r"<answer>(.*?)</answer>", text, flags)
        assert block(text) == (found[1] if found else None)


@given(st.text("ab_3(), '\n.", max_size=40))
def test_published_functions_are_those_of_the_plain_pattern(text: str) -> None:
    plain = re.findall(r"(\w+)\((\w+),\s*'?(\w+)'?\)", text)
    assert [tuple(function) for function in parse.functions_as_published(text)] == plain


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think>\n<answer>\n 3 \n</answer>", "3"),
        ("<think>a</think><answer>3</answer><answer>4</answer>", "3"),  # the first wins
        ("<think>a</think> so it is 3", "so it is 3"),
        ("3", "3"),
        ("<think>perhaps 3", ""),  # cut while thinking: nothing was answered
        ("<think>a</think><answer>1", "<answer>1"),  # cut while answering: no number can be read from that
        ("", ""),
    ],
)
def test_answer_text(text: str, answer: str) -> None:
    assert parse.answer_text(text) == answer


@pytest.mark.parametrize(
    "text", ["B", "b", " (B) ", "B.", "B)", "B. 12", "(B) 12", "B: 3, 4", "The answer is B", "**B**"]
)
def test_choice_is_read(text: str) -> None:
    assert parse.choice(text) == "B"


@pytest.mark.parametrize(
    "text", ["$B$", r"\boxed{B}", r"\text{B}", "Answer: (B).", "option B", "AB = 3, so the correct answer is B."]
)
def test_choice_is_read_from_wrappings(text: str) -> None:
    assert parse.choice(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "12",
            "A or B",
            "A, B",
            "A. 12 or B. 13",
            "A/B",
            "BC",
            "A triangle",
            "The answer is not B",
            "B C",
            "A. B",
        ),
        *("A. or b", "(a)(b)", "a. 2; b. 3", "A. b and c", "b. c. d.", "B?", "\u0392", "\uff22", "B\x00"),
    ],
)
def test_choice_is_not_guessed(text: str) -> None:
    assert parse.choice(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("-3", -3), ("+3.50", Fraction(7, 2)), ("1,000", 1000), (".5", Fraction(1, 2)), ("3.", 3), ("007", 7)],
)
def test_decimal(text: str, value: Fraction) -> None:
    assert parse.decimal(text) == value
    assert parse.fraction(text) == value


@pytest.mark.parametrize("text", ["", "-", ".", "1e3", "1,00", "3 4", "٣", "nan", "inf", "1_000", "9" * 501, "0x3"])
def test_not_a_decimal(text: str) -> None:
    assert parse.decimal(text) is None


def test_fraction() -> None:
    assert parse.fraction("-1/2") == parse.fraction(r"-\dfrac{1}{2}") == parse.fraction("-0.5") == Fraction(-1, 2)
    assert parse.fraction("1/0") is parse.fraction("1/2/3") is None


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("3", "3"),
        ("3 objects", "3"),
        ("There are 3 objects.", "3"),
        ("The answer is 3.", "3"),
        ("x = 5 cm", "5"),
        ("AB = 2 * 4 = 8", "8"),
        ("30°", "30"),
        (r"30^\circ", "30"),
        ("12 cm^2", "12"),
        (r"$5\text{ cm}$", "5"),
        (r"5\,\mathrm{cm}", "5"),
        ("10√2", r"10\sqrt{2}"),
        ("√{13}", r"\sqrt{13}"),
        ("sqrt(3)/2", r"\sqrt{3}/2"),
        (r"\boxed{3}", "3"),
        ("−3", "-3"),
        ("50%", "50%"),
        ("The quantity of purple sphere-like things is 3, at the far end", "3"),
        ("The value of sin A is 0.6", "0.6"),
        ("an area of 3 square units", "3"),
        ("It is 3-sided", "3"),
    ],
)
def test_number(text: str, expression: str) -> None:
    assert parse.number(text) == expression


@pytest.mark.parametrize(
    "text",
    [
        "",
        "three",
        "3 or 4",
        "3 4",
        "3 objects in row 7",
        r"3\,4",
        r"3\mathrm{or}4",
        "3_4",
        r"\boxed{3} or \boxed{4}",
        "1" * 501,
        *("not 3", "The answer is not 3", "anything but 3", r"\text{not }3", "It isn't 3"),
        *("more than 3", "at least 3", "3 or more", "over 3", "up to 3", "It is > 3", "It is ≠ 3"),
        *("four or 3", "3 (four)", "zero or 3", "thirteen, then 3"),
        *(
            "minus 3",
            "half of 3",
            "3 dozen",
            "3 million",
            "3 squared",
            "square root of 9",
            "It is sin 30",
            "3 pi in all",
        ),
        *("It is 3 x", "It is x + 3", "version 3.1.2", "It is 3!", "It is |x - 3|", "<answer>3", "__import__('os', 3)"),
    ],
)
def test_no_single_number(text: str) -> None:
    assert parse.number(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "change_position(5, front_left)",
        "Change_Position(5, Front_Left)",
        "change_position( '5' , \"front left\" )",
        "change_position (05, front-left)",
        "['change_position(5, front_left)']",
        "The cylinder (5) moved: change_position(5, front_left).",
    ],
)
def test_functions_tolerate_spelling(text: str) -> None:
    assert parse.functions(text) == [Function("change_position", "5", "front_left")]


@pytest.mark.parametrize("call", ["change_color(3)", "change_color(3, cyan, 2)", "change_color()", "rotate(3, left)"])
def test_a_wrong_call_does_not_vanish(call: str) -> None:
    right = Function("change_size", "1", "large")
    found = parse.functions(f"{call}, change_size(1, large)")
    assert len(found) == 2
    assert found[1] == right
    assert Function("change_color", "3", "cyan") not in found


MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "1" * MEGABYTE,
        "a" * MEGABYTE,
        " " * MEGABYTE,
        "<think>" + "</think><answer>" * (MEGABYTE // 16),
        "<answer>" * (MEGABYTE // 8),
        "<answer>\n" * (MEGABYTE // 9),
        "(" * 100_000 + ")" * 100_000,
        "f(" * (MEGABYTE // 2),
        "f(1," + " " * MEGABYTE,
        "f " * (MEGABYTE // 2) + "(",
        "f(1,2)" * (MEGABYTE // 6),
        "the answer is " * (MEGABYTE // 14),
        "$" * MEGABYTE,
        "\x00" * MEGABYTE,
        r"\boxed{" * (MEGABYTE // 7),
        "," * MEGABYTE,
        "f(" + "," * MEGABYTE + ")",
    ],
    ids=lambda text: text[:8],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    start = time.process_time()
    for read in (
        parse.well_formed,
        parse.answer_block,
        parse.answer_block_on_one_line,
        parse.answer_text,
        parse.choice,
        parse.number,
        parse.decimal,
        parse.fraction,
        parse.functions,
        parse.functions_as_published,
    ):
        read(text)
    assert time.process_time() - start < 5  # seconds; about 0.5 measured, a quadratic pattern takes hours
