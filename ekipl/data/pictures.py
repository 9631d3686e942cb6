"""From an image file to the picture that the policy and the external models see.

A picture is 8-bit RGB, upright (EXIF orientation), on white where it is transparent, and the first frame of an
animation. Grey values are scaled by their range:

    I;16 in any byte order   0 to 65535, the range of the format: 65535 is white, 32768 is 128
    I, F                     the smallest of 0 to 255 (I), 0 to 1, 0 to 255 (F) and 0 to 65535 that holds all values;
                             else from the picture's least value (black) to its largest (white)

A file is read strictly: one that is cut, has a wrong checksum or leaves pixels undefined is an error. JPEG has no
checksum, so a changed byte that still decodes is not found.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ekipl.algorithm.types import FILE, LOSSY, PATH

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")  # for some other formats Pillow starts another program
MOST_PIXELS = 89_478_485  # about 9,459 x 9,459, 268 MB in memory; beyond it Pillow warns of a decompression bomb
MOST_BYTES = 2**28  # of a file
ORIENTATION = 0x0112  # the EXIF tag
END = 4096  # bytes at the end of a PNG that hold its last chunk
RULES = 1  # version of what this file accepts; a cache of verdicts is kept by it

Size = tuple[int, int]  # width, height in pixels


class BadPicture(Exception):
    """A file that is no usable picture; the text is the reason."""


def read(path: Path) -> Image.Image:
    """The picture in the file, whose place is its ``info[PATH]``. Raises BadPicture."""
    picture = decode(content_of(path))
    picture.info[PATH] = str(path.absolute())
    return picture


def content_of(path: Path) -> bytes:
    """The bytes of the file. Raises BadPicture."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise BadPicture(f"{size:,} bytes; at most {MOST_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise BadPicture(f"cannot be read: {error.strerror or error}") from error


def decode(content: bytes) -> Image.Image:
    """The picture in the bytes of a file. Where these bytes show exactly its pixels, ``info[FILE]`` holds them.

    Raises:
        BadPicture: the bytes are no picture, a damaged one, or one of too many pixels.
    """
    try:
        with _opened(content) as image:
            if image.format == "PNG":
                with _opened(content) as same:
                    same.verify()  # the checksums, which loading ignores
            image.load()
            turned = _upright(image)
            picture = rgb(turned)
            exact = turned is image and image.mode in ("RGB", "L", "1", "P") and picture.size == image.size
            sent = image.format in ("JPEG", "PNG", "WEBP") and not getattr(image, "is_animated", False)
            picture = picture.copy() if picture is image else picture
            picture.info = {LOSSY: image.format in ("JPEG", "MPO")}
            if exact and sent and not image.has_transparency_data:
                picture.info[FILE] = content
            return picture
    except BadPicture:
        raise
    except Exception as error:  # decoders raise many classes
        raise BadPicture(_reason(error)) from error


def measure(path: Path) -> Size:
    """Width and height of the upright picture, by the header of the file alone. Raises BadPicture."""
    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            _bounded(image.size)
            if image.format == "PNG" and b"IEND" not in _end_of(path):
                raise BadPicture("cannot be read: it is cut off")  # an interrupted download
            known = image.format != "PNG" or "exif" in image.info  # the rest of a PNG would have to be read
            turned = known and _orientation(image) >= 5
            return (image.height, image.width) if turned else image.size
    except BadPicture:
        raise
    except Exception as error:
        raise BadPicture(_reason(error)) from error


def rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB, on white where it is transparent; itself if it is that already.

    Raises:
        ValueError: values that are no numbers, or a mode without a known meaning.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(image).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Grey values of 16 or 32 bits, or of floating point, in 8 bits; the one that is transparent is white."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("holds values that are no finite numbers")
    ranges: Sequence[float] = (65535,) if ";" in image.mode else (255, 65535) if image.mode == "I" else (1, 255, 65535)
    least, most = (values.min(), values.max()) if values.size else (0.0, 0.0)
    top = next((top for top in ranges if least >= 0 and most <= top), None)
    low, high = (least, most) if top is None else (0.0, top)
    grey = np.rint((values - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey)


def _opened(content: bytes) -> Image.Image:
    image = Image.open(BytesIO(content), formats=FORMATS)
    _bounded(image.size)
    return image


def _bounded(size: Size) -> None:
    width, height = size
    if width * height > MOST_PIXELS:
        raise BadPicture(f"cannot be read: {width:,} x {height:,} pixels; at most {MOST_PIXELS:,} in all are read")


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say; itself if they say nothing, or nothing that can be read."""
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _orientation(image: Image.Image) -> int:
    """1 (upright) to 8; damaged EXIF data count as upright."""
    try:
        stated = image.getexif().get(ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, EOFError, struct.error):
        return 1
    return stated if stated in range(1, 9) else 1


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - END))
        return file.read()


def _reason(error: Exception) -> str:
    """One line of what a decoder says."""
    if isinstance(error, UnidentifiedImageError):
        return f"cannot be read: no {', '.join(FORMATS)} file, or a damaged one"
    if isinstance(error, Image.DecompressionBombError):
        return f"cannot be read: too many pixels; at most {MOST_PIXELS:,} are read"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read: {' '.join(text.split())}"
