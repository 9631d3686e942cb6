from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekipl.reward import letters, parse, values
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
        ("<think>a <answer>4</answer> b</think><answer>3</answer>", "3"),
        ("<think>a</think> 4. The answer is 3.", "The answer is 3."),
        ("<think>a <answer>4</answer>", ""),  # drafted, and cut while thinking
        ("<think>perhaps 3", ""),  # cut while thinking: nothing was answered
        ("<think>a</think><answer>1", "<answer>1"),  # cut while answering: no number can be read from that
        ("", ""),
    ],
)
def test_answer_text(text: str, answer: str) -> None:
    assert parse.answer_text(text) == answer


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
        letters.read,
        values.read,
        parse.functions,
        parse.functions_as_published,
    ):
        read(text)
    assert time.process_time() - start < 5  # seconds; about 0.5 measured, a quadratic pattern takes hours
