"""Line drawings for geometry problems: figures built from marks in plane coordinates, drawn at any size.

Figures live in the square [-1, 1] x [-1, 1] with y upwards. The given angles are blue, the wanted one is orange.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import atan2, cos, degrees, hypot, pi, radians, sin

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]

INK = (25, 60, 140)
GIVEN = (70, 130, 255)
WANTED = (255, 150, 30)
SUPERSAMPLE = 2


@dataclass(frozen=True)
class Segment:
    """A straight line; ``ticks`` mark equal lengths, ``arrows`` mark parallels."""

    a: Point
    b: Point
    ticks: int = 0
    arrows: int = 0


@dataclass(frozen=True)
class Circle:
    """A circle with its centre marked."""

    center: Point
    radius: float


@dataclass(frozen=True)
class Angle:
    """The angle at ``vertex`` between the rays to ``a`` and ``b`` (the one below 180 degrees), filled and numbered."""

    vertex: Point
    a: Point
    b: Point
    label: str
    wanted: bool = False


@dataclass(frozen=True)
class Square:
    """A right-angle mark at ``vertex`` between the rays to ``a`` and ``b``."""

    vertex: Point
    a: Point
    b: Point


Mark = Segment | Circle | Angle | Square


def polar(angle: float, radius: float = 1.0, center: Point = (0.0, 0.0)) -> Point:
    """The point at ``angle`` degrees, counter-clockwise from the right."""
    return center[0] + radius * cos(radians(angle)), center[1] + radius * sin(radians(angle))


def draw(figure: Sequence[Mark], image_size: int, turn: float = 0.0) -> Image.Image:
    """The RGB picture of a figure turned by ``turn`` degrees, ``image_size`` pixels square."""
    side = image_size * SUPERSAMPLE
    image = Image.new("RGB", (side, side), "white")
    canvas = ImageDraw.Draw(image)
    c, s = cos(radians(turn)), sin(radians(turn))

    def place(p: Point) -> Point:
        x, y = c * p[0] - s * p[1], s * p[0] + c * p[1]
        return side / 2 + x * side * 0.45, side / 2 - y * side * 0.45

    for mark in sorted(figure, key=lambda m: not isinstance(m, Angle)):  # fills lie under the lines
        _DRAW[type(mark)](canvas, mark, place, side)
    for mark in figure:
        if isinstance(mark, Angle):
            _draw_label(canvas, mark, place, side)
    return image.reduce(SUPERSAMPLE)


Place = Callable[[Point], Point]


def _draw_segment(canvas: ImageDraw.ImageDraw, mark: Segment, place: Place, side: int) -> None:
    (ax, ay), (bx, by) = place(mark.a), place(mark.b)
    width = max(1, side // 64)
    canvas.line([(ax, ay), (bx, by)], fill=INK, width=width)
    length = hypot(bx - ax, by - ay) or 1.0
    ux, uy = (bx - ax) / length, (by - ay) / length
    size = side * 0.035
    for i in range(mark.ticks + mark.arrows):
        t = 0.5 if mark.ticks else 0.78
        mx = ax + (bx - ax) * t + ux * size * 0.8 * i
        my = ay + (by - ay) * t + uy * size * 0.8 * i
        left, right = (mx - uy * size, my + ux * size), (mx + uy * size, my - ux * size)
        if mark.ticks:
            canvas.line([left, right], fill=(210, 30, 90), width=width)
        else:
            tip = (mx + ux * size * 1.4, my + uy * size * 1.4)
            canvas.polygon([left, tip, right], fill=(210, 30, 90))


def _draw_circle(canvas: ImageDraw.ImageDraw, mark: Circle, place: Place, side: int) -> None:
    (x, y), r = place(mark.center), mark.radius * side * 0.45
    canvas.ellipse([x - r, y - r, x + r, y + r], outline=INK, width=max(1, side // 64))
    dot = side * 0.015
    canvas.ellipse([x - dot, y - dot, x + dot, y + dot], fill=INK)


def _bisector(mark: Angle | Square, place: Place) -> tuple[float, float, float]:
    """Direction of ray a, signed sweep to ray b and middle direction, in picture radians (y down)."""
    (vx, vy), (ax, ay), (bx, by) = place(mark.vertex), place(mark.a), place(mark.b)
    start = atan2(ay - vy, ax - vx)
    sweep = (atan2(by - vy, bx - vx) - start + pi) % (2 * pi) - pi
    return start, sweep, start + sweep / 2


def _draw_angle(canvas: ImageDraw.ImageDraw, mark: Angle, place: Place, side: int) -> None:
    (x, y), r = place(mark.vertex), side * 0.13
    start, sweep, _ = _bisector(mark, place)
    first, last = sorted((degrees(start), degrees(start + sweep)))
    canvas.pieslice([x - r, y - r, x + r, y + r], first, last, fill=WANTED if mark.wanted else GIVEN)


def _draw_label(canvas: ImageDraw.ImageDraw, mark: Angle, place: Place, side: int) -> None:
    (x, y), middle = place(mark.vertex), _bisector(mark, place)[2]
    at = (x + cos(middle) * side * 0.18, y + sin(middle) * side * 0.18)
    canvas.text(at, mark.label, fill=(0, 0, 0), font=ImageFont.load_default(side * 0.1), anchor="mm")


def _draw_square(canvas: ImageDraw.ImageDraw, mark: Square, place: Place, side: int) -> None:
    (x, y), (start, sweep, _) = place(mark.vertex), _bisector(mark, place)
    r = side * 0.08
    p = (x + cos(start) * r, y + sin(start) * r)
    q = (x + cos(start + sweep) * r, y + sin(start + sweep) * r)
    corner = (p[0] + q[0] - x, p[1] + q[1] - y)
    canvas.line([p, corner, q], fill=(210, 30, 90), width=max(1, side // 64))


_DRAW: dict[type, Callable[..., None]] = {
    Segment: _draw_segment,
    Circle: _draw_circle,
    Angle: _draw_angle,
    Square: _draw_square,
}
