"""Rows are read rightly, whatever wrote the file, or refused by name; so are those that a model cannot read."""

from __future__ import annotations

import json
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ekipl.algorithm.types import Example, Problem
from ekipl.data.own import OwnData
from ekipl.data.problems import LazyProblems
from ekipl.data.reason_rft import ReasonRFTData
from ekipl.errors import BadRow, UsageError
from ekipl.files import decode_text, parse_rows, read_jsonl
from ekipl.policy.encoding import encode_prompt
from ekipl.policy.fits import Reader, reader
from ekipl.policy.model import VLM, load_model
from ekipl.run.reading import settled
from ekipl.tasks.counting import Counting
from tests.test_pictures import file_of, noise

ROW = {"id": "a", "image": "a.png", "problem": "How many?", "answer": "3"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (8, 6)).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def read(root: Path, *rows: Any, content: bytes | None = None, ending: str = "json", **options: Any) -> list[Problem]:
    file = root / f"Visual-Counting-id-test-2.{ending}"
    file.write_bytes(json.dumps(rows).encode() if content is None else content)
    try:
        return list(ReasonRFTData(root=str(root), **options).problems(Counting(), "id"))
    finally:
        file.unlink()


def refused(root: Path, *rows: Any, **options: Any) -> str:
    with pytest.raises(UsageError) as error:
        read(root, *rows, **options)
    return str(error.value)


ROWS = [ROW, {**ROW, "id": "é", "image": "b.png"}]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


@pytest.mark.parametrize(
    "text", [json.dumps(ROWS, ensure_ascii=False), json.dumps(ROWS, indent=1), LINES, LINES + "\r\n\n"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_and_json_lines_in_any_unicode(root: Path, text: str, encoding: str) -> None:
    for ending in ("json", "jsonl"):
        problems = read(root, content=text.encode(encoding), ending=ending)
        assert [problem.id for problem in problems] == ["a", "é"]


def test_other_encodings_and_broken_lines_are_told_by_place() -> None:
    with pytest.raises(ValueError, match=r"not UTF-8 \(byte 3\); save it as UTF-8"):
        decode_text("ab\xe9".encode("latin-1"))
    rows = parse_rows(b'{"id": 1}\n[2]\n\n{"id": ')
    assert [place for place, _ in rows] == ["line 1", "line 2", "line 4"]
    assert [str(row) for _, row in rows[1:]] == ["not a JSON object", "not JSON (Expecting value, column 8)"]


def test_lines_that_another_program_has_rewritten_are_read(tmp_path: Path) -> None:
    path = tmp_path / "actions.jsonl"
    for content in (json.dumps(ROWS).encode(), LINES.encode("utf-16"), LINES.encode("utf-8-sig")):
        path.write_bytes(content)
        assert read_jsonl(path) == ROWS
    path.write_bytes(b"[1, {}]")
    with pytest.raises(UsageError, match="actions.jsonl: row 1: not a JSON object"):
        read_jsonl(path)


def test_whole_numbers_are_the_text_that_they_stand_for(root: Path) -> None:
    first, second = read(root, {**ROW, "id": 7, "answer": 3}, {**ROW, "id": 0, "answer": -12})
    assert [(one.id, one.answer, one.kind) for one in (first, second)] == [("7", "3", "number"), ("0", "-12", "number")]
    assert "row 2 (id '7'): row 1 has the same id" in refused(root, {**ROW, "id": 7}, {**ROW, "id": "7"})
    for value in (True, 2.5, ["3"]):
        assert f"answer: {value!r}: not a text" in refused(root, {**ROW, "answer": value})


@pytest.mark.parametrize("field", ["id", "problem", "answer", "cot"])
def test_half_of_a_surrogate_pair_is_no_text(root: Path, field: str) -> None:
    message = refused(root, {**ROW, field: "3 \ud83d"})
    assert f"{field}: " in message
    assert r"half of a surrogate pair ('\ud83d') is no character" in message
    message.encode()


@pytest.mark.parametrize("field", ["id", "problem", "answer", "cot"])
def test_a_huge_field_is_refused_at_once(root: Path, field: str) -> None:
    start = time.monotonic()
    message = refused(root, {**ROW, field: "9 " * 5_000_000})
    assert f"{field}: " in message
    assert "10,000,000 characters; at most" in message
    assert len(message) < 1000
    assert time.monotonic() - start < 10


def test_markers_are_as_many_as_the_images(root: Path) -> None:
    (problem,) = read(root, {**ROW, "problem": "<image>How many?"})
    assert [type(part) for part in problem.parts] == [Image.Image, str]
    message = refused(root, {**ROW, "problem": "<image> and <image>: how many?"})
    assert "problem: 2 <image> markers for 1 image; write one for each image, or none" in message


def test_the_near_match_of_a_missing_file_is_named(root: Path) -> None:
    (root / "images" / "sub").mkdir()
    for name in ("Photo.PNG", unicodedata.normalize("NFD", "café.png"), "sub/x.jpeg"):
        (root / "images" / name).write_bytes(file_of(noise(), "PNG"))

    def said(name: str) -> str:
        return refused(root, {**ROW, "image": name})

    assert "image: 'photo.png': no such file in" in said("photo.png")
    assert "did you mean 'Photo.PNG'?" in said("photo.png")
    assert "the same name in another Unicode form" in said(unicodedata.normalize("NFC", "café.png"))
    assert "did you mean 'x.jpeg'?" in said("sub/x.jpg")
    assert "did you mean 'x.jpeg'?" in said("SUB/X.jpeg")
    assert said("nothing.png").endswith("images")


def test_bad_rows_are_all_told_or_skipped(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "images" / "cut.jpg").write_bytes(file_of(noise(), "JPEG")[:-20])
    bad = [{**ROW, "id": "cut", "image": "cut.jpg"}, {**ROW, "id": "no", "answer": None}, {**ROW, "id": "b"}]
    message = refused(root, ROW, *bad)
    assert "2 faults; correct or remove what is listed, or set data.bad_rows=skip" in message
    assert "row 2 (id 'cut'): image: 'cut.jpg': cannot be read: image file is truncated" in message
    assert "row 3 (id 'no'): answer: missing" in message
    assert [problem.id for problem in read(root, ROW, *bad, bad_rows="skip")] == ["a", "b"]
    assert "2 of 4 rows are skipped (data.bad_rows=skip):\n  row 2 (id 'cut')" in capsys.readouterr().err
    assert "skip" not in refused(root, *bad[:2], bad_rows="skip")  # nothing would be left
    with pytest.raises(BadRow, match="truncated"):  # it has a sound header
        read(root, ROW, *bad, check="headers", bad_rows="skip")


def test_a_row_that_fails_later_is_named_and_left_out_where_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "Visual-Counting-id-test-2.json"
    file.write_text(json.dumps(ROWS))
    refusing, skipping = (
        ReasonRFTData(root=str(root), bad_rows=way).problems(Counting(), "id") for way in ("refuse", "skip")
    )  # type: ignore[arg-type]
    (root / "images" / "b.png").unlink()
    with pytest.raises(BadRow, match=r"b.png \(row id 'é'\): cannot be read: No such file"):
        settled(refusing, range(2))
    assert [problem.id for problem in settled(skipping, range(2))] == ["a"]
    assert "b.png (row id 'é')" in capsys.readouterr().err


@dataclass(frozen=True)
class Mine:
    """A source of one's own with a fault in row 2, or this gold answer in row 4."""

    answer: str | None = None

    def problems(self, task: Counting, split: str, limit: int | None = None) -> LazyProblems:
        def row(index: int) -> Example:
            if index == 1 and self.answer is None:
                raise KeyError("colour")
            answer = self.answer if self.answer and index == 3 else "1"
            return Example(str(index), (Image.new("I;16", (4, 4), 65_535),), "How many?", answer, "number")

        return LazyProblems(task, split, range(4)[:limit], row)


def test_a_source_of_ones_own_is_read_before_the_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    def of(**options: Any) -> list[str]:
        return [one.id for one in OwnData(kind="tests.test_rows:Mine", **options).problems(Counting(), "id")]

    with pytest.raises(UsageError, match=r"tests.test_rows:Mine: id: 1 fault.*\n  row 2: KeyError: 'colour'"):
        of()
    assert of(bad_rows="skip") == ["0", "2", "3"]
    with pytest.raises(BadRow, match="row 2: KeyError: 'colour'; correct the source"):
        of(check="headers")
    with pytest.raises(UsageError, match=r"1 fault.*\n  row 4 \(id '3'\): answer: .*half of a surrogate pair"):
        of(args={"answer": "half \ud83d"})
    first = OwnData(kind="tests.test_rows:Mine", check="headers").problems(Counting(), "id")[0]
    assert first.images[0].getpixel((0, 0)) == (255, 255, 255)


# --- the limits of a model ---


@pytest.fixture(scope="module")
def limits() -> Reader:
    found = reader(
        "tiny", min_pixels=2304, max_pixels=153_600, trust_remote_code=False, answer=64, key="rollout.max_tokens"
    )
    assert found is not None
    return found


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load_model("tiny", min_pixels=2304, max_pixels=153_600, weights=False)


def test_an_image_too_thin_is_told_by_its_row(root: Path, limits: Reader) -> None:
    Image.new("RGB", (2000, 5)).save(root / "images" / "thin.png")
    file = root / "Visual-Counting-id-test-2.json"
    file.write_text(json.dumps([ROW, {**ROW, "id": "thin", "image": "thin.png"}]))
    for check in ("pixels", "headers"):
        with pytest.raises(
            UsageError, match=r"row 2 \(id 'thin'\): image: 2000 x 5 pixels: .*ratio must be smaller than 200"
        ):
            ReasonRFTData(root=str(root), check=check).problems(Counting(), "id", None, limits)  # type: ignore[arg-type]
    assert list(limits("?", [(1, 1), (20_000, 101)])) == []


def test_the_longest_prompt_that_fits_is_the_longest_that_is_encoded(limits: Reader, vlm: VLM) -> None:
    image = Image.new("RGB", (96, 96))

    def tokens(words: int) -> int:
        problem = Problem("p", "counting", "id", (image,), "?", "many " * words, "1", "number")
        return len(encode_prompt(vlm, problem).ids)

    room = 4096 - 64  # the context less the answer
    each = tokens(1001) - tokens(1000)
    fitting = 1000 + (room - tokens(1000)) // each
    assert list(limits("many " * fitting, [(96, 96)])) == []
    (line,) = limits("many " * (fitting + 6), [(96, 96)])  # the frame is counted to within a few tokens
    assert line.startswith("prompt: 4,0")
    assert "of images), with rollout.max_tokens=64 more than the 4,096 that tiny reads" in line


def test_markers_put_the_tokens_of_an_image_in_their_place(vlm: VLM) -> None:
    image = Image.new("RGB", (96, 96))

    def ids(prompt: str) -> tuple[int, ...]:
        return encode_prompt(vlm, Problem("p", "counting", "id", (image,), "?", prompt, "1", "number")).ids

    assert ids("<image>How many?") == ids("How many?")
    inside, before = ids("How many <image> are red?"), ids("How many  are red?")
    assert inside.count(vlm.image_token) == before.count(vlm.image_token) == 36  # 96 x 96 pixels / (16 x 16)
    assert inside.index(vlm.image_token) > before.index(vlm.image_token)
