"""Pictures reach the policy upright, in their true greys and on white, or their file is refused."""

from __future__ import annotations

import base64
import os
import random
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ekipl.algorithm.types import FILE, Problem
from ekipl.data.inspection import Picture, inspect
from ekipl.data.pictures import BadPicture, decode, inspected, measure, rgb
from ekipl.external import images
from ekipl.external.images import changes, encoded
from ekipl.external.request import Question, data_url

GREYS = np.array([[0, 257, 32_768], [32_896, 65_278, 65_535]])
SHOWN = [[0, 1, 128], [128, 254, 255]]  # values / 257, rounded: 32,768 / 257 = 127.5, 32,896 / 257 = 128


def noise(width: int = 48, height: int = 32) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(0).randbytes(width * height * 3))


def file_of(image: Image.Image, format: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.mode == b.mode == "RGB" and a.size == b.size and a.tobytes() == b.tobytes()


def test_sixteen_bit_grey_keeps_its_greys() -> None:
    little = Image.fromarray(GREYS.astype("<u2"))
    big = Image.frombytes("I;16B", (3, 2), GREYS.astype(">u2").tobytes())
    from_file = decode(file_of(little, "PNG"))
    for picture in (from_file, rgb(little), rgb(big), rgb(Image.fromarray(GREYS.astype("int32")))):
        assert picture.mode == "RGB"
        assert np.asarray(picture)[..., 0].tolist() == SHOWN


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0, 128, 255], [0, 128, 255]),  # 8 bits
        ([0, 1000, 65_535], [0, 4, 255]),  # 16 bits: 1000 / 257 = 3.9
        ([-100, 0, 300], [0, 64, 255]),  # of neither range, so from the least to the largest: 100 / 400 x 255 = 63.75
        ([7, 7, 7], [7, 7, 7]),
    ],
)
def test_integers_of_32_bits_by_the_smallest_range_that_holds_them(values: list[int], shown: list[int]) -> None:
    picture = rgb(Image.fromarray(np.array([values], dtype="int32")))
    assert np.asarray(picture)[0, :, 0].tolist() == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.2, 255.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([-5.0, -5.0, -5.0], [0, 0, 0]),
    ],
)
def test_floating_point_by_the_smallest_range_that_holds_it(values: list[float], shown: list[int]) -> None:
    picture = rgb(Image.fromarray(np.array([values], dtype="float32")))
    assert np.asarray(picture)[0, :, 0].tolist() == pytest.approx(shown, abs=1)
    with pytest.raises(ValueError, match="no finite numbers"):
        rgb(Image.fromarray(np.array([[np.nan]], dtype="float32")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_pictures_stand_upright(format: str, orientation: int, tmp_path: Path) -> None:
    back = {  # undoes what the orientation says
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste("white", (0, 0, 24, 16))  # the corner at the top left
    stored = upright.transpose(back[orientation]) if orientation in back else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = file_of(stored, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    picture = decode(content)
    assert picture.size == (48, 32)
    assert [picture.getpixel(place)[0] > 128 for place in ((4, 4), (44, 4), (4, 28), (44, 28))] == [True] + [False] * 3  # type: ignore[index]
    (path := tmp_path / "picture").write_bytes(content)
    if format != "PNG":  # its EXIF data stand behind the pixels
        with path.open("rb") as file:
            assert measure(file) == (48, 32)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_odd_exif_data_turn_nothing() -> None:
    content = file_of(noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert decode(content).size == (48, 32)


def test_other_kinds_of_files() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    half = Image.new("LA", (4, 4), (0, 128))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert decode(file_of(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert decode(file_of(half, "PNG")).getpixel((0, 0)) == (127, 127, 127)
    assert decode(file_of(palette, "PNG")).getpixel((0, 0)) == (255, 0, 0)
    assert decode(file_of(palette, "PNG", transparency=1)).getpixel((0, 0)) == (255, 255, 255)
    assert decode(file_of(palette, "GIF", transparency=1)).getpixel((0, 0)) == (255, 255, 255)
    assert decode(file_of(Image.new("1", (4, 4), 1), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    cmyk = decode(file_of(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG")).getpixel((8, 8))
    assert cmyk == pytest.approx((0, 255, 255), abs=3)
    for format in ("GIF", "PNG", "WEBP"):
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        options = {"lossless": True} if format == "WEBP" else {}
        moving = decode(file_of(frames[0], format, save_all=True, append_images=frames[1:], **options))
        assert moving.getpixel((0, 0)) == (255, 0, 0)
        assert FILE not in moving.info  # not every API takes an animation
    for size in ((1, 1), (20_000, 20)):
        assert decode(file_of(Image.new("RGB", size), "PNG")).size == size


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.6, 0.9])
def test_a_cut_file_is_refused(format: str, part: float) -> None:
    content = file_of(noise(), format)
    with pytest.raises(BadPicture, match="cannot be read: "):
        decode(content[: int(len(content) * part)])


@given(st.data())
def test_no_flipped_byte_changes_a_png_unseen(data: st.DataObject) -> None:
    content = bytearray(file_of(noise(8, 8), "PNG"))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(BadPicture):
        assert same(decode(bytes(content)), noise(8, 8))  # the last checksum is that of no pixels


def test_a_flipped_byte_that_derails_a_jpeg_is_found() -> None:
    content = file_of(noise(), "JPEG")
    start = content.index(b"\xff\xda") + 14  # behind the header of the scan
    found = harmful = 0
    for place in range(start, len(content) - 2, 7):
        flipped = bytearray(content)
        flipped[place] ^= 0x10
        try:
            inspected(bytes(flipped))
            changed = np.abs(np.asarray(decode(bytes(flipped)), int) - np.asarray(decode(content), int)).mean()
            harmful += changed > 20
        except BadPicture as bad:
            assert "cannot be read: " in str(bad)  # noqa: PT017 - most flips are no error
            found += 1
    assert found > 2 * harmful > 0  # JPEG has no checksum: not every one can be found


def test_a_sound_jpeg_of_any_kind_is_no_fault() -> None:
    colour = noise()
    for image in (colour, colour.convert("L"), colour.convert("CMYK"), colour.resize((1, 1))):
        for options in ({}, {"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1}):
            assert inspected(file_of(image, "JPEG", **options)) == image.size
    content = file_of(colour, "JPEG")
    assert inspected(content + b"\0" * 100) == colour.size
    assert inspected(content[:-2] + b"\0\0" + content[-2:]) == colour.size  # padding, as some cameras write it


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP"]), st.binary(max_size=40), st.integers(0, 3000))
def test_whatever_the_bytes_it_is_a_picture_or_a_line(format: str, inserted: bytes, place: int) -> None:
    content = file_of(noise(), format)
    with suppress(BadPicture):
        assert decode(content[:place] + inserted + content[place + len(inserted) :]).mode == "RGB"


def test_each_content_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        "ekipl.data.inspection.inspected", lambda content: seen.append(len(content)) or inspected(content)
    )
    good, copy, cut = (tmp_path / name for name in ("good.png", "copy.png", "cut.png"))
    for path in (good, copy):
        path.write_bytes(file_of(noise(), "PNG"))
    cut.write_bytes(good.read_bytes()[:-30])

    def verdicts() -> tuple[Any, ...]:
        found = inspect([good, cut, good, copy, tmp_path / "none.png"], "pixels", tmp_path / "cache" / "c.sqlite")
        return tuple(found[path] for path in (good, copy, cut, tmp_path / "none.png"))

    first = verdicts()
    assert [type(one) for one in first] == [Picture, Picture, str, str]
    assert first[0].size == (48, 32)
    assert first[0].digest == first[1].digest
    decoded = len(seen)
    assert verdicts() == first
    os.utime(good, (time.time() - 5,) * 2)  # read again, known by its content
    assert verdicts() == first
    assert len(seen) == decoded
    good.write_bytes(cut.read_bytes())  # known too, as the other file
    assert verdicts()[0] == first[2]
    assert len(seen) == decoded


@pytest.mark.parametrize("content", [b"no database", None])
def test_a_cache_that_cannot_be_used_costs_time_only(content: bytes | None, tmp_path: Path) -> None:
    (path := tmp_path / "a.png").write_bytes(file_of(noise(), "PNG"))
    cache = tmp_path / "cache"
    cache.mkdir() if content is None else cache.write_bytes(content)
    found = inspect([path], "pixels", cache)[path]
    assert isinstance(found, Picture)
    assert found.size == (48, 32)


def sent(image: Image.Image) -> tuple[str, Image.Image, bytes]:
    url = data_url(image)
    content = base64.b64decode(url.partition(",")[2])
    return url.partition(";")[0], Image.open(BytesIO(content)).convert("RGB"), content


def test_an_api_gets_the_file_itself_where_it_shows_these_pixels() -> None:
    for format in ("JPEG", "PNG", "WEBP"):
        content = file_of(noise(), format)
        kind, picture, bytes_ = sent(decode(content))
        assert (kind, bytes_) == (f"data:image/{format.lower()}", content)
        assert same(picture, decode(content))


def test_what_had_to_be_changed_is_encoded_anew() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(file_of(noise(), "JPEG", exif=exif))
    kind, picture, _ = sent(turned)
    assert (kind, picture.size) == ("data:image/jpeg", (32, 48))
    for image in (
        decode(file_of(Image.fromarray(GREYS.astype("<u2")), "PNG")),
        decode(file_of(noise(), "GIF")),
        decode(file_of(Image.new("RGBA", (4, 4), (9, 9, 9, 99)), "PNG")),
        noise(),
    ):
        kind, picture, _ = sent(image)
        assert kind == "data:image/png"
        assert same(picture, image)


def test_nothing_above_the_limits_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MOST_BYTES", 4000)
    monkeypatch.setattr(images, "MOST_SIDE", 100)
    large, wide = noise(60, 60), Image.new("RGB", (200, 4))  # 10,800 bytes of noise; too wide
    for image in (large, wide, decode(file_of(large, "PNG")), decode(file_of(wide, "JPEG"))):
        form = encoded(image)
        assert len(form.content) <= 4000
        assert max(Image.open(BytesIO(form.content)).size) <= 100
        assert "sent as JPEG of " in form.changed
    problem = Problem("p7", "counting", "train", (large, noise(8, 8)), "?", "?", "1", "number")
    (line,) = changes(problem)
    assert line.startswith("p7: 60 x 60 pixels, 1")


def test_markers_stand_for_the_images_in_their_places() -> None:
    first, second = noise(8, 8), noise(4, 4)

    def parts(prompt: str, *pictures: Image.Image) -> list[Image.Image | str]:
        return Problem("p", "t", "s", pictures, "?", prompt, "1", "number").parts

    assert parts("How many?", first) == [first, "How many?"]
    assert parts("<image>How many?", first) == [first, "How many?"]
    assert parts("From <image> to <image>: what?", first, second) == ["From ", first, " to ", second, ": what?"]
    assert parts("<image><image>", first, second) == [first, second]
    assert parts("The tag <image>", first, second) == [first, second, "The tag <image>"]  # text, as it is not for both
    assert parts("no picture") == ["no picture"]
    asked = Question(Problem("p", "t", "s", (first,), "?", "See <image> now", "1", "number")).messages[0]["content"]
    assert [part["type"] for part in asked] == ["text", "image_url", "text"]
