"""An image as an API receives it: the file itself where it shows these very pixels, and never above the limits."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from ekipl.algorithm.types import FILE, LOSSY, Problem

MOST_BYTES = 5 * 2**20 * 3 // 4  # 3.9 MB: Anthropic takes 5 MiB in base64, the least of the large providers
MOST_SIDE = 8000  # pixels, Anthropic's too
QUALITY = 95  # of JPEG, at which differences are hard to see
STEP = 0.7  # of the sides, about half of the pixels
FORMATS = {b"\x89PNG": "png", b"\xff\xd8": "jpeg", b"RIFF": "webp"}  # by the first bytes of a file


@dataclass(frozen=True)
class Sent:
    """An image as it is sent.

    Attributes:
        content: of the file.
        format: ``png``, ``jpeg`` or ``webp``.
        changed: what was done to keep the limits; "" = nothing.
    """

    content: bytes
    format: str
    changed: str = ""


def data_url(image: Image.Image) -> str:
    """The image as a data URL."""
    sent = encoded(image)
    return f"data:image/{sent.format};base64,{base64.b64encode(sent.content).decode('ascii')}"


def encoded(image: Image.Image) -> Sent:
    """The file that the image was read from, if it shows these very pixels; else PNG, or JPEG where the file was one.

    Above the limits: JPEG, scaled down until it keeps them.
    """
    first = _file(image)
    if len(first.content) <= MOST_BYTES and max(image.size) <= MOST_SIDE:
        return first
    scale = min(1.0, MOST_SIDE / max(image.size))
    while True:
        width, height = (max(1, int(side * scale)) for side in image.size)
        made = _saved(image if scale == 1 else image.resize((width, height), Image.Resampling.LANCZOS), "JPEG")
        if len(made) <= MOST_BYTES:
            before = f"{image.width} x {image.height} pixels, {len(first.content):,} bytes"
            return Sent(made, "jpeg", f"{before}: sent as JPEG of {width} x {height} pixels, {len(made):,} bytes")
        scale *= STEP


def changes(problem: Problem) -> Iterator[str]:
    """What the limits change about the images of a problem; small images are not encoded to find out."""
    for image in problem.images:
        file = image.info.get(FILE)
        most = image.width * image.height * 3 if file is None else len(file)
        if (most > MOST_BYTES or max(image.size) > MOST_SIDE) and (changed := encoded(image).changed):
            yield f"{problem.id}: {changed}"


def _file(image: Image.Image) -> Sent:
    content = image.info.get(FILE)
    if content is not None:
        return Sent(content, next(name for start, name in FORMATS.items() if content.startswith(start)))
    format = "JPEG" if image.info.get(LOSSY) else "PNG"
    return Sent(_saved(image, format), format.lower())


def _saved(image: Image.Image, format: str) -> bytes:
    file = BytesIO()
    if format == "PNG":
        image.save(file, format)
    else:
        image.convert("RGB").save(file, format, quality=QUALITY)
    return file.getvalue()
