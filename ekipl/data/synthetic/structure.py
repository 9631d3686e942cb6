"""Built-in geometry problems: the text gives the numbers, only the figure shows the relation between them.

``metadata["scene"]`` is ``{"given": [numbers in the order of the text], "sides": n}`` (sides for polygons only).
``source.py`` explains the other keys.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ekipl.algorithm.types import AnswerKind, Example
from ekipl.data.synthetic.diagrams import Angle, Circle, Mark, Point, Segment, Square, draw, polar

HELD_OUT_FAMILIES = ("polygon_sum",)  # the only answers above 360; not in the training data of model=tiny
HELD_OUT_SHARE = 0.05
CHOICES_SHARE = 0.3
SKILL = "180 - "


@dataclass(frozen=True)
class Exercise:
    """A figure, the given angles (degrees, in the order of their labels), the answer and the reason.

    ``without`` is the reason without the step of ``SKILL``, where the problem needs it. A reason ends with its answer.
    """

    figure: tuple[Mark, ...]
    given: tuple[int, ...]
    answer: int
    why: str
    without: str = ""
    question: str = ""
    sides: int = 0

    @property
    def answer_without(self) -> int | None:
        """The answer of ``without``."""
        return int(self.without.rsplit(" ", 1)[1]) if self.without else None


def generate(split: str, index: int, seed: int, image_size: int) -> Example:
    """Problem ``index`` of a split (``train``, ``id`` or ``ood``). Pure."""
    rng = random.Random(f"structure/{split}/{seed}/{index}")
    held_out = split != "ood" and rng.random() < HELD_OUT_SHARE
    family = "polygon_sum" if held_out else rng.choice(OOD_FAMILIES if split == "ood" else ID_FAMILIES)
    exercise = _EXERCISES[family](rng)
    while exercise.answer == exercise.answer_without:
        exercise = _EXERCISES[family](rng)
    options = _options(rng, exercise) if not held_out and rng.random() < CHOICES_SHARE else []
    question = exercise.question or _question(exercise.given)
    if options:
        question += " Choices: " + " ".join(f"({x}) {v}" for x, v in zip("ABCD", options, strict=True))
    metadata = _metadata(family, exercise, options)
    image = draw(exercise.figure, image_size, turn=rng.uniform(-12, 12))
    _, answer = _solution(exercise.why, options)
    kind: AnswerKind = "choice" if options else "number"
    return Example(f"structure-{split}-{index}", (image,), question, answer, kind, metadata)


def _metadata(family: str, exercise: Exercise, options: Sequence[int]) -> dict[str, object]:
    relation, steps = exercise.why.split(": ", 1)
    start, right = exercise.why.rsplit(" ", 1)
    slips = [value for value in options or (exercise.answer - 10, exercise.answer + 10) if str(value) != right]
    metadata: dict[str, object] = {
        "family": family,
        "cot": _solution(exercise.why, options)[0],
        "variants": [_solution(f"{steps}, {relation}", options, right)[0]],
        "mistakes": [_solution(f"{start} {value}", options) for value in slips if value > 0],
        "scene": {"given": list(exercise.given)} | ({"sides": exercise.sides} if exercise.sides else {}),
    }
    if exercise.without:
        metadata["skill"] = [SKILL]
        metadata["without_skill"] = _solution(exercise.without, options)
    return metadata


def _solution(reason: str, options: Sequence[int], value: str | None = None) -> tuple[str, str]:
    """The reasoning, with the letter of its value where there are choices, and the answer that follows from it."""
    value = value or reason.rsplit(" ", 1)[1]
    if not options:
        return reason, value
    letter = "ABCD"[options.index(int(value))]
    return f"{reason}. {value} is {letter}", letter


def _question(given: tuple[int, ...]) -> str:
    known = " and ".join(f"m \\angle {i} = {value}" for i, value in enumerate(given, 1))
    return f"If {known}, find m \\angle {len(given) + 1}."


def _options(rng: random.Random, exercise: Exercise) -> list[int]:
    """Four values in ascending order: the answer, the one without the skill, and the results of other relations."""
    total, answer = sum(exercise.given), exercise.answer
    sure = [answer] if exercise.answer_without is None else [answer, exercise.answer_without]
    wrong = {total, 180 - total, 90 - total, total // 2, 2 * total, answer + 10, answer - 10, answer + 20} - {*sure}
    return sorted([*sure, *rng.sample(sorted(value for value in wrong if 0 < value < 360), 4 - len(sure))])


def _angle(rng: random.Random, low: int, high: int, step: int = 5) -> int:
    return rng.randrange(low, high + 1, step)


def _line(direction: float, center: Point = (0.0, 0.0), half: float = 0.95) -> Mark:
    return Segment(polar(direction, half, center), polar(direction + 180, half, center))


def _vertical(rng: random.Random) -> Exercise:
    a = _angle(rng, 30, 150)
    near, far = (polar(0), polar(a)), (polar(180), polar(180 + a))
    figure = (_line(0), _line(a), Angle((0, 0), *near, "1"), Angle((0, 0), *far, "2", wanted=True))
    return Exercise(figure, (a,), a, f"vertical angles: {a}")


def _linear_pair(rng: random.Random) -> Exercise:
    a = _angle(rng, 30, 150)
    figure = (
        _line(0),
        Segment((0, 0), polar(a, 0.95)),
        Angle((0, 0), polar(0), polar(a), "1"),
        Angle((0, 0), polar(a), polar(180), "2", wanted=True),
    )
    return Exercise(figure, (a,), 180 - a, f"straight line: 180 - {a} = {180 - a}", f"straight line: {a}")


def _complementary(rng: random.Random) -> Exercise:
    a = _angle(rng, 25, 65)
    o = (-0.6, -0.6)
    rays: tuple[Mark, ...] = tuple(Segment(o, polar(t, 1.4, o)) for t in (0, a, 90))
    first, second = (polar(t, 1, o) for t in (0, 90))
    middle = polar(a, 1, o)
    figure = (*rays, Square(o, first, second), Angle(o, first, middle, "1"), Angle(o, middle, second, "2", wanted=True))
    return Exercise(figure, (a,), 90 - a, f"right angle: 90 - {a} = {90 - a}")


def _parallels(a: int) -> tuple[tuple[Mark, ...], Point, Point]:
    """Two marked parallels crossed at ``a`` degrees, and the upper and lower crossing."""
    low, high = polar(180 + a, 0.45 / max(0.5, abs(polar(a)[1]))), polar(a, 0.45 / max(0.5, abs(polar(a)[1])))
    lines: tuple[Mark, ...] = tuple(Segment((-0.95, y), (0.95, y), arrows=1) for y in (low[1], high[1]))
    return (*lines, _line(a)), high, low


def _corresponding(rng: random.Random) -> Exercise:
    a = _angle(rng, 45, 135)
    lines, high, low = _parallels(a)
    first, second = (Angle(p, (p[0] + 1, p[1]), polar(a, 1, p), n, n == "2") for p, n in ((high, "1"), (low, "2")))
    return Exercise((*lines, first, second), (a,), a, f"corresponding angles: {a}")


def _co_interior(rng: random.Random) -> Exercise:
    a = _angle(rng, 45, 135)
    lines, high, low = _parallels(a)
    first = Angle(low, (low[0] + 1, low[1]), polar(a, 1, low), "1")
    second = Angle(high, (high[0] + 1, high[1]), polar(a + 180, 1, high), "2", wanted=True)
    why = f"interior angles: 180 - {a} = {180 - a}"
    return Exercise((*lines, first, second), (a,), 180 - a, why, f"interior angles: {a}")


def _alternate(rng: random.Random) -> Exercise:
    a = _angle(rng, 45, 135)
    lines, high, low = _parallels(a)
    first = Angle(low, (low[0] + 1, low[1]), polar(a, 1, low), "1")
    second = Angle(high, (high[0] - 1, high[1]), polar(a + 180, 1, high), "2", wanted=True)
    return Exercise((*lines, first, second), (a,), a, f"alternate angles: {a}")


def _triangle(a: float, b: float) -> tuple[Point, Point, Point]:
    """Corners left, right and top of a triangle with angles ``a`` left and ``b`` right, inside the unit circle."""
    left, right, top = polar(180 + 90 - (180 - a - b), 0.9), polar(-90 + (180 - a - b), 0.9), polar(90 + b - a, 0.9)
    return left, right, top


def _sides(*corners: Point, ticks: tuple[int, ...] = (), arrows: tuple[int, ...] = ()) -> tuple[Mark, ...]:
    pairs = zip(corners, (*corners[1:], corners[0]), strict=True)
    return tuple(Segment(p, q, int(i in ticks), int(i in arrows)) for i, (p, q) in enumerate(pairs))


def _third(rng: random.Random) -> Exercise:
    a, b = _angle(rng, 30, 80, 10), _angle(rng, 30, 80, 10)
    p, q, r = _triangle(a, b)
    figure = (*_sides(p, q, r), Angle(p, q, r, "1"), Angle(q, p, r, "2"), Angle(r, p, q, "3", wanted=True))
    sum_ = f"triangle: {a} + {b} = {a + b}"
    return Exercise(figure, (a, b), 180 - a - b, f"{sum_}, 180 - {a + b} = {180 - a - b}", sum_)


def _exterior(rng: random.Random) -> Exercise:
    a, b = _angle(rng, 30, 80, 10), _angle(rng, 30, 80, 10)
    left, right = (-0.9, -0.45), (0.25, -0.45)
    # 1 at the left corner, 2 at the top: the right corner measures 180 - a - b, its exterior angle a + b (law of sines)
    top = polar(a, 1.15 * polar(a + b)[1] / polar(b)[1], left)
    beyond = (0.95, -0.45)
    figure = (
        *_sides(left, right, top),
        Segment(right, beyond),
        Angle(left, right, top, "1"),
        Angle(top, left, right, "2"),
        Angle(right, top, beyond, "3", wanted=True),
    )
    return Exercise(figure, (a, b), a + b, f"exterior angle: {a} + {b} = {a + b}")


def _isosceles_apex(rng: random.Random) -> Exercise:
    a = _angle(rng, 40, 120, 10)
    base = (180 - a) // 2
    p, q, r = _triangle(base, base)
    figure = (*_sides(p, q, r, ticks=(1, 2)), Angle(r, p, q, "1"), Angle(p, q, r, "2", wanted=True))
    why = f"equal sides: 180 - {a} = {180 - a}, {180 - a} / 2 = {base}"
    return Exercise(figure, (a,), base, why, f"equal sides: {a} / 2 = {a // 2}")


def _isosceles_base(rng: random.Random) -> Exercise:
    a = _angle(rng, 30, 70)
    p, q, r = _triangle(a, a)
    figure = (*_sides(p, q, r, ticks=(1, 2)), Angle(p, q, r, "1"), Angle(r, p, q, "2", wanted=True))
    double = f"equal sides: {a} * 2 = {2 * a}"
    return Exercise(figure, (a,), 180 - 2 * a, f"{double}, 180 - {2 * a} = {180 - 2 * a}", double)


def _inscribed(rng: random.Random) -> Exercise:
    a = _angle(rng, 40, 140, 10)
    p, q, apex = polar(-90 - a / 2, 0.9), polar(-90 + a / 2, 0.9), polar(90, 0.9)
    lines: tuple[Mark, ...] = tuple(Segment(x, y) for x in ((0.0, 0.0), apex) for y in (p, q))
    angles = (Angle((0, 0), p, q, "1"), Angle(apex, p, q, "2", wanted=True))
    return Exercise((Circle((0, 0), 0.9), *lines, *angles), (a,), a // 2, f"inscribed angle: {a} / 2 = {a // 2}")


def _polygon_sum(rng: random.Random) -> Exercise:
    n = rng.randint(5, 8)
    turn = rng.uniform(0, 360 / n)
    figure = _sides(*(polar(turn + 360 * i / n + rng.uniform(-7, 7), 0.88) for i in range(n)))
    total = 180 * (n - 2)
    why = f"{n} sides: {n} - 2 = {n - 2}, {n - 2} * 180 = {total}"
    return Exercise(figure, (), total, why, question="Find the sum of the interior angles.", sides=n)


def _parallelogram(a: int) -> tuple[Point, Point, Point, Point]:
    """Corners from the lower left, counter-clockwise, with angle ``a`` at the first."""
    lean = 0.5 * polar(a)[0] / polar(a)[1]
    return (-0.6 - lean, -0.5), (0.6 - lean, -0.5), (0.6 + lean, 0.5), (-0.6 + lean, 0.5)


def _opposite(rng: random.Random) -> Exercise:
    a = _angle(rng, 60, 120)
    p, q, r, s = _parallelogram(a)
    figure = (*_sides(p, q, r, s, arrows=(0, 1, 2, 3)), Angle(p, q, s, "1"), Angle(r, q, s, "2", wanted=True))
    return Exercise(figure, (a,), a, f"opposite angles: {a}")


def _adjacent(rng: random.Random) -> Exercise:
    a = _angle(rng, 60, 120)
    p, q, r, s = _parallelogram(a)
    figure = (*_sides(p, q, r, s, arrows=(0, 1, 2, 3)), Angle(p, q, s, "1"), Angle(q, p, r, "2", wanted=True))
    return Exercise(figure, (a,), 180 - a, f"neighbouring angles: 180 - {a} = {180 - a}", f"neighbouring angles: {a}")


def _right_triangle(rng: random.Random) -> Exercise:
    a = _angle(rng, 30, 60)
    p, q, r = _triangle(a, 90)
    angles = (Angle(p, q, r, "1"), Angle(r, p, q, "2", wanted=True))
    return Exercise((*_sides(p, q, r), Square(q, p, r), *angles), (a,), 90 - a, f"right triangle: 90 - {a} = {90 - a}")


def _semicircle(rng: random.Random) -> Exercise:
    a = _angle(rng, 30, 60)
    p, q, r = polar(180, 0.9), polar(0, 0.9), polar(2 * a, 0.9)
    angles = (Angle(p, q, r, "1"), Angle(q, p, r, "2", wanted=True))
    figure = (Circle((0, 0), 0.9), *_sides(p, q, r), *angles)
    return Exercise(figure, (a,), 90 - a, f"half circle: 90 - {a} = {90 - a}")


_EXERCISES: dict[str, Callable[[random.Random], Exercise]] = {
    "vertical": _vertical,
    "linear_pair": _linear_pair,
    "complementary": _complementary,
    "corresponding": _corresponding,
    "co_interior": _co_interior,
    "triangle_third": _third,
    "triangle_exterior": _exterior,
    "isosceles_apex": _isosceles_apex,
    "isosceles_base": _isosceles_base,
    "inscribed": _inscribed,
    "polygon_sum": _polygon_sum,
    "alternate": _alternate,
    "opposite": _opposite,
    "adjacent": _adjacent,
    "right_triangle": _right_triangle,
    "semicircle": _semicircle,
}
OOD_FAMILIES = ("alternate", "opposite", "adjacent", "right_triangle", "semicircle")
ID_FAMILIES = tuple(name for name in _EXERCISES if name not in OOD_FAMILIES + HELD_OUT_FAMILIES)
