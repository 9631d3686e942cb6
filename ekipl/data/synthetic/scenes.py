"""A small renderer of CLEVR-like scenes: solids on a lit ground plane, seen in perspective from one of three cameras.

Ground coordinates: x grows to the right and y away from the centre camera; one unit is one step of the spatial task's
3 x 3 grid, so grid positions are -1, 0 and 1. Solids are meshes of flat faces, drawn from far to near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import cos, pi, radians, sin
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ekipl.reward.simulate import VALUES

Camera = Literal["center", "left", "right"]
Floats = NDArray[np.float64]

SIZES, COLORS, SHAPES = VALUES["size"], VALUES["color"], VALUES["shape"]
MATERIALS = ("metal", "rubber", "glass")  # VALUES["material"] in the order of the random draws, which must not change
LOOKS = {**VALUES, "material": MATERIALS}
OTHER_SHAPES = ("cone", "pyramid", "ring")  # out-of-distribution counting: other things with other names

RGB = {
    "yellow": (245, 220, 30),
    "gray": (112, 112, 112),
    "cyan": (35, 205, 215),
    "blue": (45, 75, 225),
    "brown": (140, 80, 30),
    "green": (30, 155, 45),
    "red": (215, 30, 35),
    "purple": (150, 45, 200),
}
RADIUS = {"small": 0.26, "medium": 0.36, "large": 0.48}
AZIMUTH = {"center": 0.0, "left": radians(40), "right": radians(-40)}
GROUND_HALF = 1.5  # half the side of the ground square
ELEVATION = radians(52)
DISTANCE = 9.0  # from the camera to the middle of the ground, in ground units
VIEW_WIDTH = 3.9  # width of the image in ground units, at the camera's distance
SUPERSAMPLE = 2
LIGHT = np.array([-0.45, -0.55, 0.9]) / np.linalg.norm([-0.45, -0.55, 0.9])


@dataclass(frozen=True)
class Thing:
    """One solid at (x, y) in ground units, rotated about the vertical by ``yaw`` radians."""

    shape: str
    size: str
    color: str
    material: str
    x: float
    y: float
    yaw: float = 0.35


def record(things: Sequence[Thing]) -> list[dict[str, object]]:
    """A scene as plain data for the metadata of an example; ``id`` is the index in the list."""
    return [
        {"id": i, **{key: getattr(t, key) for key in ("shape", "size", "color", "material")}, "position": [t.x, t.y]}
        for i, t in enumerate(things)
    ]


def cell(thing: Thing) -> str:
    """The grid cell of a thing, such as ``b2``: column a (left) to c (right), row 1 (front) to 3 (behind)."""
    return f"{'abc'[round(thing.x) + 1]}{round(thing.y) + 2}"


def render(things: Sequence[Thing], image_size: int, camera: Camera = "center") -> Image.Image:
    """The RGB image of a scene, ``image_size`` x ``image_size`` pixels. Pure: same arguments, same pixels."""
    side = image_size * SUPERSAMPLE
    image = _ground(side, camera)
    draw = ImageDraw.Draw(image, "RGBA")
    for thing in things:
        _draw_shadow(draw, thing, side, camera)
    for thing in sorted(things, key=lambda t: -_to_camera(np.array([[t.x, t.y, 0.0]]), camera)[0, 2]):
        _draw_thing(draw, thing, side, camera)
    return image.reduce(SUPERSAMPLE)


def pixel_of(point: tuple[float, float, float], image_size: int, camera: Camera = "center") -> tuple[float, float]:
    """The pixel (from the left, from the top) of a ground point (x, y, height)."""
    x, y = _to_pixels(_to_camera(np.array([point]), camera), image_size)[0]
    return float(x), float(y)


def _to_camera(points: Floats, camera: Camera) -> Floats:
    """Camera coordinates (right, up, depth) of ground points, shape (..., 3) both."""
    a, e = AZIMUTH[camera], ELEVATION
    x = points[..., 0] * cos(a) - points[..., 1] * sin(a)
    y = points[..., 0] * sin(a) + points[..., 1] * cos(a)
    z = points[..., 2] - 0.25  # the camera looks at the middle of the solids, a little above the ground
    return np.stack([x, y * sin(e) + z * cos(e), DISTANCE + y * cos(e) - z * sin(e)], axis=-1)


def _to_pixels(seen: Floats, side: int) -> Floats:
    scale = side * DISTANCE / VIEW_WIDTH / seen[..., 2]
    return np.stack([side / 2 + seen[..., 0] * scale, side / 2 - seen[..., 1] * scale], axis=-1)


@cache
def _backdrop(side: int, camera: Camera) -> Image.Image:
    """A grey floor, lighter in the middle, with the outline of the ground square."""
    ys, xs = np.mgrid[0:side, 0:side] / side - 0.5
    level = 222 - 55 * np.clip(xs**2 + (ys - 0.1) ** 2, 0, 0.6) / 0.6
    image = Image.fromarray(np.repeat(level[..., None], 3, axis=2).astype(np.uint8))
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=float) * [GROUND_HALF, GROUND_HALF, 1]
    edge = [tuple(p) for p in _to_pixels(_to_camera(corners, camera), side)]
    ImageDraw.Draw(image).polygon(edge, outline=(200, 200, 200), width=SUPERSAMPLE)
    return image


def _ground(side: int, camera: Camera) -> Image.Image:
    return _backdrop(side, camera).copy()


def _draw_shadow(draw: ImageDraw.ImageDraw, thing: Thing, side: int, camera: Camera) -> None:
    r = RADIUS[thing.size]
    turn = np.linspace(0, 2 * pi, 20, endpoint=False)
    disc = np.stack([thing.x + 0.2 * r + r * np.cos(turn), thing.y + 0.25 * r + r * np.sin(turn), 0 * turn], axis=-1)
    outline = [tuple(p) for p in _to_pixels(_to_camera(disc, camera), side)]
    draw.polygon(outline, fill=(40, 40, 40, 40 if thing.material == "glass" else 80))


def _draw_thing(draw: ImageDraw.ImageDraw, thing: Thing, side: int, camera: Camera) -> None:
    faces, normals = _mesh(thing.shape)
    c, s = cos(thing.yaw), sin(thing.yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    world = faces @ turn.T * RADIUS[thing.size] + [thing.x, thing.y, 0]
    normals = normals @ turn.T
    seen = _to_camera(world, camera)
    pixels = _to_pixels(seen, side)
    fills = _shade(thing, normals, camera)
    edge_a, edge_b = pixels[:, 1] - pixels[:, 0], pixels[:, 2] - pixels[:, 0]
    towards = edge_a[:, 0] * edge_b[:, 1] - edge_a[:, 1] * edge_b[:, 0] < 0  # counter-clockwise faces face the camera
    for i in np.argsort(-seen[..., 2].mean(axis=1)):
        if towards[i] or thing.material == "glass":
            draw.polygon([tuple(p) for p in pixels[i]], fill=tuple(fills[i]))


def _shade(thing: Thing, normals: Floats, camera: Camera) -> NDArray[np.int64]:
    """RGBA of each face: rubber is matte, metal has a highlight and reflects a dark horizon, glass is transparent."""
    a, e = AZIMUTH[camera], ELEVATION
    view = np.array([-sin(a) * cos(e), -cos(a) * cos(e), sin(e)])
    half = (LIGHT + view) / np.linalg.norm(LIGHT + view)
    diffuse = np.clip(normals @ LIGHT, 0, 1)[:, None]
    gloss = np.clip(normals @ half, 0, 1)[:, None]
    base = np.array(RGB[thing.color], dtype=float)
    alpha = np.full((len(normals), 1), 255.0)
    if thing.material == "rubber":
        color = base * (0.38 + 0.72 * diffuse) + 35 * gloss**8
    elif thing.material == "metal":
        sky = np.clip(normals[:, 2:], 0, 1) ** 4
        color = base * (0.25 + 0.6 * diffuse) + 75 * sky + 150 * gloss**14
    else:
        color = base * (0.75 + 0.3 * diffuse) + 90 * gloss**20
        alpha[:] = 120
    fills: NDArray[np.float64] = np.concatenate([np.clip(color, 0, 255), alpha], axis=1)
    return fills.astype(np.int64)


@cache
def _mesh(shape: str) -> tuple[Floats, Floats]:
    """Faces (F, 4, 3), counter-clockwise from outside, and unit normals (F, 3): a solid of radius about 1 on z = 0."""
    faces = np.array(_FACES[shape](), dtype=float)
    normals = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
    flat = np.linalg.norm(normals, axis=1) < 1e-9  # the first two corners of a triangle coincide: use the others
    normals[flat] = np.cross(faces[flat, 2] - faces[flat, 1], faces[flat, 3] - faces[flat, 1])
    return faces, normals / np.linalg.norm(normals, axis=1, keepdims=True)


Faces = list[list[tuple[float, float, float]]]


def _around(profile: Sequence[tuple[float, float]], steps: int, turn: float = 0.0) -> Faces:
    """The solid of revolution of a profile of (radius, height) points, listed from the bottom up."""
    angles = [turn + 2 * pi * i / steps for i in range(steps + 1)]
    return [
        [
            (r0 * cos(a), r0 * sin(a), z0),
            (r0 * cos(b), r0 * sin(b), z0),
            (r1 * cos(b), r1 * sin(b), z1),
            (r1 * cos(a), r1 * sin(a), z1),
        ]
        for (r0, z0), (r1, z1) in zip(profile, profile[1:], strict=False)
        for a, b in zip(angles, angles[1:], strict=False)
    ]


def _sphere() -> Faces:
    rings = [-pi / 2 + pi * i / 10 for i in range(11)]
    return _around([(max(cos(t), 1e-6), 1 + sin(t)) for t in rings], 18)


def _ring() -> Faces:
    turn = [-pi / 2 + 2 * pi * i / 10 for i in range(11)]
    return _around([(0.68 + 0.32 * cos(t), 0.32 + 0.32 * sin(t)) for t in turn], 20)


_FACES = {
    "cube": lambda: _around([(1.2, 0), (1.2, 1.5), (1e-6, 1.5)], 4, pi / 4),
    "sphere": _sphere,
    "cylinder": lambda: _around([(0.7, 0), (0.7, 2.3), (1e-6, 2.3)], 18),
    "cone": lambda: _around([(1.0, 0), (1e-6, 2.1)], 18),
    "pyramid": lambda: _around([(1.25, 0), (1e-6, 1.9)], 4, pi / 4),
    "ring": _ring,
}
