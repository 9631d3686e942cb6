from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.answers import TABLES
from ekipl.algorithm.types import AnswerKind
from ekipl.data.gold import answer_kind
from ekipl.errors import GraderError
from ekipl.reward import comparison, letters
from ekipl.reward.graders import grade
from tests import answers

ROWS = [(name, gold) for name, table in TABLES.items() for gold in table]


def paid(answer: str, gold: str, question: str = "") -> bool:
    text = f"<think>so</think>\n<answer>{answer}</answer>"
    kind = answer_kind(gold, question)
    return grade(text, gold, kind, "strict", question=question).accuracy == 1


@pytest.mark.parametrize(("name", "gold"), ROWS)
def test_right_answers_are_paid_and_wrong_ones_are_not(name: str, gold: str) -> None:
    question = answers.QUESTION if "choices" in name else ""
    right, wrong = TABLES[name][gold]
    assert [answer for answer in right if not paid(answer, gold, question)] == []
    assert [answer for answer in wrong if paid(answer, gold, question)] == []


def test_the_table_is_large() -> None:
    counts = [(len(right), len(wrong)) for table in TABLES.values() for right, wrong in table.values()]
    assert sum(right for right, _ in counts) > 1300
    assert sum(wrong for _, wrong in counts) > 1300


# --- the tags ---


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("<think>It goes into <answer> </answer> tags. It is 5.</think><answer>5</answer>", "5", 1),
        ("<think>I must write <answer> at the end. 5</think><answer>5</answer>", "5", 1),
        ("<think>Perhaps <answer>4</answer>. No.</think><answer>5</answer>", "5", 1),
        ("<think>Perhaps <answer>4</answer>. No.</think><answer>5</answer>", "4", 0),
        ("<think>a</think><answer>4</answer><think>no</think><answer>5</answer>", "5", 1),
        ("<think>a</think><answer>4</answer><think>no</think><answer>5</answer>", "4", 0),
        ("<think>I end with </think> and <answer>. So</think><answer>5</answer>", "5", 1),
        ("<think>Perhaps <answer>5</answer>", "5", 0),
        ("<think>Perhaps <answer>5</answer></think>", "5", 0),
        ("<think>Perhaps <answer>5</answer></think>6", "5", 0),
        ("<think>a</think><answer>5</answer><|im_end|>", "5", 1),
        ("<think>a</think><answer><answer>5</answer></answer>", "5", 0),
        ("<think>a</think><answer>6</answer><answer>5</answer>", "5", 0),
        ("<think>a</think>The answer is 5.", "5", 1),
        ("<think>a</think>It may be 6. The answer is 5.", "5", 1),
        ("<think>a</think>It may be 6. The answer is 5.", "6", 0),
        ("AB = 3. BC = 4, so AC is 7. Therefore, the answer is 5.", "5", 1),
        ("AC is 7. So\n\n**Answer: 5**", "5", 1),
        ("AC is 7. So it is \\boxed{5}.", "5", 1),
        ("AC is 7. So it is not \\boxed{5}.", "5", 0),
        ("\\boxed{6}. So it is \\boxed{5}.", "5", 0),
        ("I know this. The answer is not 5.", "5", 0),
        ("The answer is 5. The answer is 6.", "5", 0),
        ("The answer is 5 or 6.", "5", 0),
        ("The answer is 5. No.", "5", 0),
        ("<answer>5</answer>", "5", 1),
        ("So it is <answer>5</answer>.", "5", 1),
        ("5", "5", 1),
        ("<answer>5", "5", 0),
        ("5</answer>", "5", 0),
        ("", "5", 0),
    ],
)
def test_the_answer_stands_behind_the_thinking(text: str, gold: str, right: int) -> None:
    assert grade(text, gold, "number", "strict").accuracy == right


# --- what is equal stays equal, what differs stays different ---

FORMS = [form for form in answers._RIGHT_SENTENCES if "¤" in form]
UNITS = ["", " cm", "cm", "°", " km/h", " m^2", " 平方厘米", "米", " objects", "个", "%", " dollars", " litres", "元"]
REWRITINGS = [
    lambda text: text,
    lambda text: text.translate({ord(a): ord(a) + 0xFEE0 for a in "0123456789"}),
    lambda text: text.replace("-", "\u2212"),
    lambda text: text.replace(" ", "\u00a0"),
    lambda text: text.replace(" ", "\u2009"),
    lambda text: f"\u200b{text}\ufeff",
    lambda text: f"**{text}**",
    lambda text: f"\\boxed{{{text}}}",
    lambda text: text.replace("°", "º").replace("%", "％"),
    lambda text: f" {text} ",
]
BOLD, SPACED = 6, 9  # in the list: neither stands within bold
NUMBER = st.one_of(
    st.integers(-2000, 2000).map(str),
    st.integers(-2000, 2000).map(lambda n: f"{n}.0"),
    st.decimals(-999, 999, places=2).map(str),
    st.builds("{}/{}".format, st.integers(-50, 50), st.integers(1, 50)),
    st.builds("{}√{}".format, st.integers(2, 9), st.sampled_from([2, 3, 5, 6, 7])),
    st.builds("{}π".format, st.integers(2, 90)),
)


def spelled(number: str, unit: str, form: str, rewriting: int) -> str:
    rewriting = 0 if rewriting in (BOLD, SPACED) and ("*" in form or "_" in form) else rewriting
    return form.replace("¤", REWRITINGS[rewriting](f"{number}{unit}"))


@given(NUMBER, st.sampled_from(UNITS), st.sampled_from(FORMS), st.integers(0, len(REWRITINGS) - 1), st.booleans())
@settings(max_examples=400, deadline=None)
def test_an_equal_value_is_paid_in_every_writing(number: str, unit: str, form: str, rewriting: int, bare: bool) -> None:
    assert paid(spelled(number, unit, form, rewriting), number if bare and unit != "%" else f"{number}{unit}")


@given(NUMBER, NUMBER, st.sampled_from(UNITS), st.sampled_from(FORMS), st.integers(0, len(REWRITINGS) - 1))
@settings(max_examples=400, deadline=None)
def test_a_different_value_is_paid_in_no_writing(number: str, other: str, unit: str, form: str, rewriting: int) -> None:
    if not comparison.same(number, other):
        assert not paid(spelled(number, unit, form, rewriting), f"{other}{unit}")


@given(st.integers(1, 10**6), st.permutations([unit for unit in UNITS if unit.strip()]), st.sampled_from(FORMS))
@settings(max_examples=200, deadline=None)
def test_another_unit_is_another_answer(number: int, units: list[str], form: str) -> None:
    ours, wanted = units[:2]
    same = {ours.strip(), wanted.strip()} in ({"cm"}, {"objects", "个"})
    assert paid(form.replace("¤", f"{number}{ours}"), f"{number}{wanted}") == same


ANY_WORDS = (
    "the a answer is not 5 6 cannot be wrong or and , . ; B C because so five six 错 不 是 或 5cm > = % ( ) \\boxed{5}"
    " never either but maybe total x y + least most than value"
)
WORDS = ["\n", *ANY_WORDS.split()]


@given(st.lists(st.sampled_from(WORDS), max_size=9), st.sampled_from(["7", "70", "x = 7", "seven", "七", "7 cm"]))
@settings(max_examples=500, deadline=None)
def test_no_sentence_around_a_wrong_number_is_paid(words: list[str], wrong: str) -> None:
    place = random.Random(len(words)).randint(0, len(words))
    text = " ".join([*words[:place], wrong, *words[place:]])
    assert not paid(text, "5")
    assert not paid(text, "6")


BEFORE = (
    "not|never|no|cannot be|isn't|anything but|except|without|greater than|wrong:|least|under|不是|大于|or 6:"
    "|6 or|6,|about|half of|twice|maybe|un|quasi-|pseudo"
)
NEGATIONS = BEFORE.split("|")


@given(st.sampled_from(NEGATIONS), st.sampled_from(["5", "B", "5 cm", "five"]), st.sampled_from(FORMS))
@settings(max_examples=300, deadline=None)
@example("not", "5", "The answer is ¤")
def test_a_negation_before_a_right_answer_is_never_paid(negation: str, stated: str, form: str) -> None:
    text = form.replace("¤", f"{negation} {stated}")
    assert not paid(text, "B" if stated == "B" else "5", answers.QUESTION if stated == "B" else "")


@given(st.text("ABCDabcd().,[]\"'*- \nornt12答案是选不", max_size=8))
@settings(max_examples=500, deadline=None)
def test_several_letters_are_never_one(text: str) -> None:
    chosen = letters.read(text)
    stands = {letter.upper() for letter in text if letter.isascii() and letter.isalpha()}
    assert chosen is None or len(chosen.letters) == 1 or chosen.letters <= stands
    if paid(text, "B", answers.QUESTION):
        assert "B" in stands


@given(st.text(max_size=60), st.sampled_from(["5", "B", "x+y=5", "12cm", r"\frac{1}{2}", "(1,2)"]))
@settings(max_examples=300, deadline=None)
def test_no_text_is_an_exception(text: str, gold: str) -> None:
    kind: AnswerKind = "choice" if gold == "B" else "expression"
    assert grade(f"<think></think><answer>{text}</answer>", gold, kind, "strict").accuracy in (0, 1)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "√" * 400,
            "1+" * 240 + "1",
            "2^" * 240 + "2",
            "5" + "!" * 400,
            "-" * 400 + "5",
            r"\frac" * 90 + "12",
            "((" * 240,
        ),
        *(
            r"\sin" * 100 + "5",
            "|" * 400 + "5",
            "x" * 400,
            "5," * 200,
            "1=" * 240 + "1",
            "5 or " * 90 + "5",
            "B, " * 160,
        ),
        *(
            "九" * 400,
            "5" * 400,
            "0." + "0" * 400,
            "1e999",
            "1e-999",
            "9" * 300 + "!",
            "10^10^10^10",
            "3000!!",
            "2^2^2^2^2^2",
        ),
        *(
            "1/" * 200 + "1",
            "4" + "^{-1}" * 90,
            "[" * 200 + "]" * 200,
            "sin(" * 60 + ")" * 60,
            "Ⅴ" * 99,
            "½" * 99,
            "²" * 99,
        ),
    ],
    ids=lambda text: text[:8],
)
@pytest.mark.parametrize("gold", ["5", r"\sqrt{2}", "x+y=5"])
def test_hostile_answers_are_graded_or_counted_as_errors(text: str, gold: str) -> None:
    try:
        assert not paid(text, gold)
    except GraderError as error:
        assert "no answer within" in str(error) or "Error" in str(error)  # noqa: PT017


PARTS = r"\frac \sqrt { } ( ) x y 1 2 + - ^ = < ! ° , \pi | /"
LATEX = st.lists(st.sampled_from([" ", *PARTS.split()]), max_size=12).map("".join)


@given(LATEX, st.sampled_from(["5", "x+y=5", r"\sqrt{2}", r"2\pi", "(1,2)", "x>3"]))
@settings(max_examples=300, deadline=None)
def test_formulas_are_graded_or_counted_as_errors(text: str, gold: str) -> None:
    try:
        assert grade(f"<think></think><answer>{text}</answer>", gold, "expression", "strict").accuracy in (0, 1)
    except GraderError as error:
        assert "no answer within" in str(error)  # noqa: PT017
