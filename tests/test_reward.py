from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekipl.algorithm.types import AnswerKind
from ekipl.errors import UsageError
from ekipl.reward import equivalence
from ekipl.reward import graders as reward
from ekipl.reward.graders import GRADERS, check_grader, grade


def accuracy(text: str, gold: str, kind: AnswerKind, name: str) -> float:
    return grade(text, gold, kind, name).accuracy


def tagged(answer: str) -> str:
    return f"<think>so</think>\n<answer>{answer}</answer>"


# --- format ---

GOOD = "<think>a</think>\n<answer>3</answer>"


@pytest.mark.parametrize(
    ("text", "ours", "published"),
    [
        (GOOD, 1, 1),
        ("<think>a</think><answer>3</answer>", 1, 1),
        ("<think>a</think>\n\n \n<answer>3</answer>", 1, 1),
        ("<think></think><answer></answer>", 1, 1),
        ("<think>a</think><think>b</think><answer>3</answer>", 1, 1),
        (GOOD + "<answer>4</answer>", 1, 1),
        (GOOD + " and so on </answer>", 1, 1),
        (" " + GOOD, 1, 0),
        (GOOD + "\n", 1, 0),
        ("<think>a</think> then <answer>3</answer>", 0, 0),
        ("<THINK>a</THINK><ANSWER>3</ANSWER>", 0, 0),
        ("<answer>3</answer><think>a</think>", 0, 0),
        ("<think>a</think>\n<answer>3", 0, 0),
        ("3", 0, 0),
        ("", 0, 0),
    ],
)
def test_format(text: str, ours: int, published: int) -> None:
    assert grade(text, "3", "number", "strict").format == ours
    for name in ("reason_rft", "reason_rft_reward"):
        assert grade(text, "3", "number", name).format == published


# --- numbers and choices: (completion, gold, published reward, published evaluator, strict) ---

NUMBERS = [
    (tagged("3"), "3", 1, 1, 1),
    (tagged(" \n3\n "), "3", 1, 1, 1),
    (tagged("3.0"), "3", 0, 1, 1),
    (tagged("03"), "3", 0, 1, 1),
    (tagged("3 objects"), "3", 0, 1, 1),
    (tagged("There are 3 objects"), "3", 0, 1, 1),
    (tagged("three"), "3", 0, 0, 1),
    ("The answer is 3.", "3", 1, 1, 1),
    (r"\boxed{3}", "3", 1, 1, 1),
    ("5 minus 2 is 3", "3", 1, 1, 0),  # strict: prose with several numbers is no answer
    ("3 objects, in row 7", "3", 0, 0, 0),
    (tagged("1/2"), "0.5", 0, 1, 1),
    (tagged(r"$\frac{1}{2}$"), "0.5", 0, 1, 1),
    (tagged("0.5"), "1/2", 0, 1, 1),
    (tagged(r"5 \sqrt{2}"), r"5\sqrt{2}", 0, 1, 1),
    (tagged("50%"), "0.5", 0, 1, 1),
    (tagged("30°"), "30", 0, 1, 1),
    (tagged("1,000"), "1000", 0, 1, 1),
    (tagged("14"), "14.0", 0, 1, 1),
    (tagged("5.66"), "5.7", 0, 0, 0),
    (tagged("3") + "<answer>4</answer>", "3", 1, 1, 1),
    (tagged("3") + "<answer>4</answer>", "4", 0, 0, 0),
    # beyond the table
    (tagged("5"), r"5\sqrt{2}", 0, 1, 0),  # math-verify reads an undelimited formula as its first number
    (tagged("3 or 4"), "4", 0, 1, 0),
    (tagged("0.333333"), "1/3", 0, 1, 1),
    (tagged("0.33"), "1/3", 0, 0, 0),
    (tagged("4"), "3", 0, 0, 0),
    ("<think>it may be 3", "3", 1, 1, 0),  # cut while thinking
    (tagged(""), "3", 0, 0, 0),
    (tagged("-05."), "-5", 0, 0, 1),  # sympy reads no negative number with leading zeros
    (tagged("-0.5 cm"), "-0.5", 0, 1, 1),
    (tagged("8576337406.433000"), "8576337406.433", 0, 0, 1),  # nor equal floats of 16 and of 13 digits
]


@pytest.mark.parametrize(("text", "gold", "reward", "evaluator", "strict"), NUMBERS)
def test_numbers(text: str, gold: str, reward: int, evaluator: int, strict: int) -> None:
    assert accuracy(text, gold, "number", "reason_rft_reward") == reward
    assert accuracy(text, gold, "number", "reason_rft") == evaluator
    assert accuracy(text, gold, "number", "strict") == strict


A_NUMBER = st.one_of(
    st.sampled_from(
        ["3", "03", "-3", "-0", "3.0", "3.50", "0.333333", "0.33334", "-0.5", "1000000000", "12345678901.5"]
    ),
    st.builds(r"\frac{{{}}}{{{}}}".format, st.integers(0, 6), st.integers(0, 6)),
    st.builds("{}/{}".format, st.integers(0, 6), st.integers(0, 6)),
    st.decimals(-2, 4, places=2).map(str),
)
A_TEXT = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "x = ", "AB=", "It is ", "\n", "(", "Answer: ", "€"]),
    A_NUMBER,
    st.sampled_from(["", "", "°", " cm", "米", "π", "²", ".", " in all, or so", " percent", "%", "x", "!"]),
)


@given(A_TEXT, A_TEXT)
@settings(max_examples=200, deadline=None)
def test_what_is_known_without_math_verify_is_what_it_says(answer: str, gold: str) -> None:
    assert reward._verified(answer, gold) == equivalence.equal(answer, gold, latex=False)


CHOICES = [
    (tagged("B"), 1, 1, 1),
    (tagged("b"), 0, 0, 1),
    (tagged("B."), 0, 0, 1),
    (tagged("(B)"), 0, 0, 1),
    (tagged("B. 12"), 0, 0, 1),
    (tagged("The answer is B"), 0, 0, 1),
    ("The answer is B.", 0, 0, 1),
    (tagged("12"), 0, 0, 0),  # the right value of the choice is not the choice
    (tagged("A or B"), 0, 0, 0),
    (tagged("C"), 0, 0, 0),
]


@pytest.mark.parametrize(("text", "reward", "evaluator", "strict"), CHOICES)
def test_choices(text: str, reward: int, evaluator: int, strict: int) -> None:
    assert accuracy(text, "B", "choice", "reason_rft_reward") == reward
    assert accuracy(text, "B", "choice", "reason_rft") == evaluator
    assert accuracy(text, "B", "choice", "strict") == strict


@pytest.mark.parametrize(
    ("text", "gold", "reward", "evaluator"),
    [
        (tagged("3"), "<answer>3</answer>", 1, 0),  # the evaluator takes the gold as it stands
        (tagged("3"), "<answer> 3 </answer>", 1, 1),  # where math-verify sees the number
        ("3", "<answer>3</answer>", 1, 0),
        ("It is 3.", "<answer>3</answer>", 0, 0),  # nor does math-verify see a number behind a bracket
        ("It is 3.", "<answer> 3 </answer>", 1, 1),
        (tagged("B"), "B ", 1, 0),
        ("B", "B ", 1, 1),
        (tagged(""), "", 1, 1),
        ("<answer></answer>3", "3", 0, 0),
        ("<ANSWER>3</ANSWER>", "3", 0, 0),
        (tagged("B"), "C", 0, 0),
    ],
)
def test_white_space_and_tags_of_the_gold(text: str, gold: str, reward: int, evaluator: int) -> None:
    assert accuracy(text, gold, "number", "reason_rft_reward") == reward
    assert accuracy(text, gold, "number", "reason_rft") == evaluator


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("104", "100", 1.0),
        ("105", "100", 1.0),
        ("95.5", "100", 1.0),
        ("110", "100", 0.75),  # 0.5 (1 + cos(pi (10 - 5) / 15)) = 0.5 (1 + 0.5)
        ("112.5", "100", 0.5),  # cos(pi / 2) = 0
        ("120", "100", 0.0),
        ("121", "100", 0.0),
        ("-110", "-100", 0.75),
        ("0", "0", 0.0),  # as published: nothing meets a gold of 0
        ("nan", "100", 0.0),
        ("B", "B", 1.0),
        ("100 cm", "100", 0.0),
    ],
)
def test_tolerance(answer: str, gold: str, expected: float) -> None:
    assert accuracy(tagged(answer), gold, "number", "reason_rft_tolerance") == pytest.approx(expected, abs=1e-12)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
@settings(max_examples=200)
def test_strict_integers_compare_by_value(answer: int, gold: int) -> None:
    assert accuracy(tagged(str(answer)), str(gold), "number", "strict") == (answer == gold)
    assert accuracy(tagged(f"{answer}.00 cm"), str(gold), "number", "strict") == (answer == gold)


# --- functions ---

G2 = "change_color(3,cyan), change_position(5,front_left)"
G3 = "change_color(1,red), change_size(2,small), change_shape(3,cube)"
G4 = "change_color(1,red), change_size(2,small), change_shape(3,cube), change_material(4,metal)"
LEGAL = {
    "change_size": ["small", "medium", "large"],
    "change_color": ["yellow", "gray", "cyan", "blue", "brown", "green", "red", "purple"],
    "change_material": ["glass", "metal", "rubber"],
    "change_shape": ["cube", "sphere", "cylinder"],
    "change_position": [
        *("front", "behind", "left", "right"),
        *("front_left", "front_right", "behind_left", "behind_right"),
    ],
}
SPAM = ", ".join(f"{name}({i}, {value})" for i in range(10) for name, values in LEGAL.items() for value in values)


# (row of the published table, completion, gold, F full match, P partial, N penalty, E evaluator)
FUNCTIONS: list[tuple[str, str, str, float, float, float, float]] = [
    ("1", tagged("['change_color(3, cyan)', 'change_position(5, front_left)']"), G2, 1, 1, 1, 1),
    ("2", tagged("change_position(5,front_left), change_color(3,cyan)"), G2, 1, 1, 1, 1),
    ("3", tagged("change_color(3,cyan)"), G2, 0.5, 0.5, 0.5, 0.5),
    ("4", tagged("change_color(3,cyan), change_position(5,front)"), G2, 0.5, 0.75, 0.375, 0.75),
    ("5", tagged("change_color(3,cyan), change_position(4,front_left)"), G2, 0.5, 0.75, 0.375, 0.75),
    ("6", tagged("change_color(3,cyan), change_position(4,front)"), G2, 0.5, 0.625, 0.25, 0.625),
    ("7", tagged(G2 + ", change_size(1,small)"), G2, 2 / 3, 2 / 3, 2 / 3, 2 / 3),
    ("8", tagged("change_color(3,cyan), " + G2), G2, 2 / 3, 2 / 3, 2 / 3, 1),
    ("9", tagged("change_color(3,cyan) " * 4), G2, 0.125, 0.125, 0.125, 0.5),
    ("10", tagged("change_color(3,'cyan'), change_position(5,'front_left')"), G2, 1, 1, 1, 1),
    ("11", tagged('change_color(3,"cyan"), change_position(5,"front_left")'), G2, 0, 0, 0, 0),
    ("12", tagged("change_color('3',cyan), change_position('5',front_left)"), G2, 0, 0, 0, 0),
    ("13", tagged("Change_Color(3, Cyan), change_position(5,front_left)"), G2, 0.5, 0.5, 0.5, 0.5),
    ("14a", tagged("change_color (3,cyan), change_position(5,front_left)"), G2, 0.5, 0.5, 0.5, 0.5),
    ("14b", tagged("change_color( 3,cyan), change_position(5,front_left)"), G2, 0.5, 0.5, 0.5, 0.5),
    ("14c", tagged("change_color(3,cyan ), change_position(5,front_left)"), G2, 0.5, 0.5, 0.5, 0.5),
    ("15a", tagged("change_color(3,cyan), change_position(5,front left)"), G2, 0.5, 0.5, 0.5, 0.5),
    ("15b", tagged("change_color(3,cyan), change_position(5,front-left)"), G2, 0.5, 0.5, 0.5, 0.5),
    ("16", "It is change_color(3,cyan) and then change_position(5,front_left).", G2, 1, 1, 1, 1),
    ("17", tagged("change_color(3,cyan)") + "<answer>change_position(5,front_left)</answer>", G2, 0.5, 0.5, 0.5, 0.5),
    ("18", tagged("change_color(3,cyan), change_color(3,red), change_position(5,front_left)"), G2, *[2 / 3] * 4),
    (
        *(
            "19",
            "<think>change_size(1,small)</think><answer>\nchange_color(3,cyan),\nchange_position(5,front_left)\n</answer>",
        ),
        *(G2, 1, 1, 1, 2 / 3),
    ),
    ("20", f"<think>{G2}</think><answer>\nchange_color(3, red)\n</answer>", G2, 0, 0.25, -0.125, 2 / 3),
    ("21a", tagged(""), G2, 0, 0, 0, 0),
    ("21b", tagged("the cylinder turned cyan"), G2, 0, 0, 0, 0),
    ("21c", tagged("paint(3,cyan), move(5,front_left)"), G2, 0, 0, 0, 0),
    ("22", tagged("change_size(0,large)"), "change_size(0,small)", 0, 0.5, -0.25, 0.5),
    (
        "23",
        tagged("change_size(0,small) change_size(0,medium) change_size(0,large)"),
        "change_size(0,small)",
        *[1 / 3] * 4,
    ),
    ("24", tagged("change_color(1,red), change_size(2,small)"), G3, *[2 / 3] * 4),
    ("25", tagged("change_color(7,blue), change_size(8,large), change_shape(9,sphere)"), G3, 0, 0.25, -0.5, 0.25),
    (
        *("26", tagged("change_color(1,red), change_size(2,large), change_shape(9,cube), change_material(9,glass)")),
        *(G4, 0.25, 0.5625, 0, 0.5625),  # P = (1 + .5 + .5 + .25) / 4; N = (1 - .25 - .25 - .5) / 4
    ),
    (
        "27",
        tagged("change_color(1,blue), change_color(2,red)"),
        "change_color(1,red), change_color(2,blue)",
        0,
        0.5,
        -0.25,
        0.5,
    ),
    ("28a", tagged("change_position(5, front, 2)"), "change_position(5,front)", 0, 0, 0, 0),
    ("28b", tagged("change_position(-5, front)"), "change_position(5,front)", 0, 0, 0, 0),
    ("29", tagged(SPAM), G2, *[0.008] * 4),  # 2 of 250
    ("30", tagged("change_color(3,cyan)"), "change_color(3,cyan), change_color(3,cyan)", 1, 1, 1, 1),
]


@pytest.mark.parametrize(
    ("text", "gold", "full", "partial", "penalty", "evaluator"),
    [f[1:] for f in FUNCTIONS],
    ids=[f[0] for f in FUNCTIONS],
)
def test_functions_as_published(
    text: str, gold: str, full: float, partial: float, penalty: float, evaluator: float
) -> None:
    assert accuracy(text, gold, "functions", "reason_rft_reward") == pytest.approx(full)
    assert accuracy(text, gold, "functions", "reason_rft_partial") == pytest.approx(partial)
    assert accuracy(text, gold, "functions", "reason_rft_penalty") == pytest.approx(penalty)
    assert accuracy(text, gold, "functions", "reason_rft") == pytest.approx(evaluator)


def test_partial_credit_does_not_depend_on_hashes() -> None:
    # The original gives .3333 or .25. Sorted: size(0,a) takes size(0,b), its partner by name and object; size(2,b)
    # is left with size(0,c), equal in name only: (0.5 + 0.25) / 3.
    text, gold = tagged("size(0,a), size(2,b)"), "size(0,c), size(0,b), color(0,c)"
    assert accuracy(text, gold, "functions", "reason_rft_partial") == pytest.approx(0.25)


def test_every_published_row_is_here() -> None:
    assert {int(f[0].rstrip("abc")) for f in FUNCTIONS} == set(range(1, 31))


@pytest.mark.parametrize(
    ("text", "exact", "partial"),
    [
        (tagged(G2), 1, 1),
        (tagged("\nchange_position(5, front_left),\nchange_color(3, cyan)\n"), 1, 1),
        (tagged("['Change_Color( \"3\" , Cyan )', 'change_position(5, front left)']"), 1, 1),
        (tagged(G2 + ", change_color(3,cyan)"), 1, 1),  # a set: a repeat changes nothing
        (G2, 1, 1),
        (tagged("change_color(3,cyan)"), 0, 0.5),
        (tagged(G2 + ", change_size(1,small)"), 0, 2 / 3),
        (tagged("change_color(3,cyan), change_position(5,front)"), 0, 0.75),
        (tagged("change_color(3,cyan), change_position(5,front_left,2)"), 0, 0.75),
        (tagged(G2 + ", change_size(1)"), 0, 2 / 3),  # a malformed extra is an extra
        (f"<think>{G2}", 0, 0),
        (tagged(""), 0, 0),
    ],
)
def test_strict_functions(text: str, exact: float, partial: float) -> None:
    graded = grade(text, G2, "functions", "strict")
    assert graded.accuracy == exact
    assert graded.detail == {"exact": exact, "partial": pytest.approx(partial)}


def test_detail_is_the_same_measure_under_every_grader() -> None:
    text = tagged("change_color(3,cyan), change_color(3,cyan), change_position(5,front)")
    for name in GRADERS:
        if "functions" in GRADERS[name]:
            assert grade(text, G2, "functions", name).detail == {"exact": 0.0, "partial": 0.75}


function = st.builds(
    "{}({}, {})".format, st.sampled_from(["change_size", "change_color"]), st.integers(0, 3), st.sampled_from("abc")
)


@given(st.lists(function, min_size=1, max_size=5), st.lists(function, min_size=1, max_size=5))
def test_relations_between_the_function_scores(predicted: list[str], gold: list[str]) -> None:
    text, wanted = tagged(", ".join(predicted)), ", ".join(gold)
    scores = {s: accuracy(text, wanted, "functions", s) for s in GRADERS if "functions" in GRADERS[s]}
    assert -0.5 <= scores["reason_rft_penalty"] <= scores["reason_rft_reward"] <= scores["reason_rft_partial"] <= 1
    assert scores["reason_rft_partial"] <= scores["reason_rft"]
    assert scores["strict"] == (set(predicted) == set(gold)) == (scores["reason_rft"] == 1)


# --- functions in a known scene ---


def thing(number: int, x: int, y: int, color: str = "red") -> dict[str, object]:
    return {"id": number, "shape": "cube", "size": "small", "color": color, "material": "metal", "position": [x, y]}


GRID = {"x": [-1, 1], "y": [-1, 1], "step": 1}


@pytest.mark.parametrize(
    ("answer", "exact", "right"),
    [
        ("change_position(0, right), change_color(1, blue)", 1, 1),
        ("change_color(1, blue), change_position(0, right)", 1, 1),
        ("change_position(0, behind), change_position(0, front_right), change_color(1, blue)", 0, 1),  # another way
        ("change_color(1, cyan), change_color(1, blue), change_position(0, right)", 0, 1),
        ("change_position(0, left), change_position(0, right), change_color(1, blue)", 0, 0),  # off the grid on the way
        ("change_position(0, front), change_position(0, behind_right), change_color(1, blue)", 0, 0),  # onto 2
        ("change_position(0, right)", 0, 0),  # not all of it
        ("change_position(0, right), change_color(1, blue), change_size(2, large)", 0, 0),
        ("change_position(0, right), change_color(1, blue), change_color(7, blue)", 0, 0),  # no such thing
        ("change_position(0, right), change_color(1, blue), change_color(2, pink)", 0, 0),  # no such colour
        ("change_position(0, right), change_color(1, blue), rotate(2, left)", 0, 0),
        ("change_position(0, right), change_color(1, blue), change_size(2)", 0, 0),
        ("Change_Position('0', Right), change_color(1, blue), change_size(2, small)", 0, 1),  # nothing changes by that
    ],
)
def test_strict_functions_are_simulated(answer: str, exact: int, right: int) -> None:
    objects = [thing(0, -1, 0), thing(1, 1, 1), thing(2, -1, -1)]
    final = [thing(0, 0, 0), thing(1, 1, 1, "blue"), thing(2, -1, -1)]
    scene = {"objects": objects, "final": final, "grid": GRID}
    gold = "change_position(0, right), change_color(1, blue)"
    graded = grade(tagged(answer), gold, "functions", "strict", scene)
    assert (graded.accuracy, graded.detail["exact"]) == (right, exact)
    assert (
        grade(tagged(answer), gold, "functions", "reason_rft", scene).accuracy
        == grade(tagged(answer), gold, "functions", "reason_rft").accuracy
    )  # the published graders know no scene


def test_the_order_of_moves_matters() -> None:
    scene = {
        "objects": [thing(0, 0, 0), thing(1, 1, 0)],
        "final": [thing(0, 1, 0), thing(1, 1, 1)],
        "grid": GRID,
    }
    moves = ("change_position(1, behind)", "change_position(0, right)")
    assert grade(tagged(", ".join(moves)), ", ".join(moves), "functions", "strict", scene).accuracy == 1
    assert grade(tagged(", ".join(reversed(moves))), ", ".join(moves), "functions", "strict", scene).accuracy == 0


def test_a_move_may_be_of_one_or_two_steps() -> None:
    """As in TRANCE, whose published answers do not say how many, and whose first axis points away from the camera."""
    grid = {"x": [-40, 40], "y": [-40, 40], "step": 10, "steps": [1, 2], "directions": {"behind": [1, 0]}}
    scene = {"objects": [thing(2, 0, -14)], "final": [thing(2, 20, -14)], "grid": grid}
    for answer, right in (("change_position(2, behind)", 1), ("change_position(2, behind) " * 3, 0)):
        assert grade(tagged(answer), "change_position(2, behind)", "functions", "strict", scene).accuracy == right


# --- names ---


def test_names_are_checked() -> None:
    assert check_grader("strict", "counting", ("number",)) == "strict"
    with pytest.raises(UsageError, match="lenient: no such grader; use one of strict, reason_rft"):
        check_grader("lenient", "counting", ("number",))
    with pytest.raises(UsageError, match="does not grade the answers of counting"):
        check_grader("reason_rft_penalty", "counting", ("number",))
    with pytest.raises(UsageError, match="does not grade the answers of spatial"):
        check_grader("reason_rft_tolerance", "spatial", ("functions",))
