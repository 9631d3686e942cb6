"""Images for those who look at a run: where the data are files their paths, else small copies in the run directory."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

from PIL import Image

from ekipl.algorithm.types import PATH, Problem
from ekipl.files import atomic_write
from ekipl.report.statement import Statement

FOLDER = "images"  # in a run directory
SIDE = 512  # pixels of the longer side of a copy, at most
QUALITY = 80  # of WebP


def statement_of(problem: Problem, directory: Path) -> Statement:
    """The problem's words and the files of its images; copies of images that are no files lie in ``directory``.

    A copy is named by its pixels and written once, by whichever rank comes first.
    """
    family = problem.metadata.get("family")
    images = tuple(str(image.info.get(PATH) or _kept(image, directory)) for image in problem.images)
    return Statement(problem.question, problem.answer, None if family is None else str(family), images)


def _kept(image: Image.Image, directory: Path) -> str:
    digest = hashlib.blake2b(repr((image.mode, image.size)).encode() + image.tobytes(), digest_size=10).hexdigest()
    name = f"{FOLDER}/{digest}.webp"
    if not (directory / name).exists():
        with atomic_write(directory / name) as file:
            file.write(thumbnail(image))
    return name


def thumbnail(image: Image.Image) -> bytes:
    """The image as a WebP file of at most 512 pixels a side."""
    small, content = image.copy(), BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(content, "WEBP", quality=QUALITY)
    return content.getvalue()
