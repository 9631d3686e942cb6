from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ekipl.algorithm.seams import Task
from ekipl.config import check
from ekipl.data.gold import answer_kind
from ekipl.data.reason_rft import ReasonRFTData
from ekipl.errors import UsageError
from ekipl.reward.graders import grader
from ekipl.run import build
from ekipl.tasks.counting import Counting
from ekipl.tasks.spatial import Spatial
from ekipl.tasks.structure import Structure
from tests.test_config import composed

Example = dict[str, Any]
Write = Callable[..., Path]

COUNTING: list[Example] = [
    {"id": "c-1", "image": "a.png", "problem": "How many cubes?", "answer": "3"},
    {
        "id": "c-2",
        "image": ["b.png"],
        "problem": "How many?",
        "answer": None,
        "solution": "<answer> 4 </answer>",
        "cot": None,
    },
]
STRUCTURE: list[Example] = [
    {"id": "geomath-1", "image": "a.png", "problem": "Find x. Choices: A. 30 B. 40", "answer": "B"},
    {"id": "geomath-2", "image": "a.png", "problem": "Find x.", "answer": "40"},
    {"id": "geomath-3", "image": "a.png", "problem": "Find x.", "answer": r"5\sqrt{2}"},
]
SPATIAL: list[Example] = [
    {"id": "t-1", "image": ["init.C.png", "fin.L.png"], "problem": "What changed?", "answer": "change_color(2, cyan)"}
]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as a published file, with the images that they name."""

    def write(rows: list[Example], file: str = "Visual-Counting-id-test-1k.json", split: str = "test") -> Path:
        (tmp_path / f"{split}_jsons").mkdir(exist_ok=True)
        (tmp_path / f"{split}_jsons" / file).write_text(json.dumps(rows))
        images = tmp_path / "images" / f"{split}_images"
        images.mkdir(parents=True, exist_ok=True)
        for row in rows:
            for name in [row["image"]] if isinstance(row.get("image"), str) else row.get("image", []):
                if isinstance(name, str) and name.endswith(".png") and Path(name).name == name:
                    Image.new("RGB", (8, 6), (len(name), 2, 3)).save(images / name)
        return tmp_path

    return write


def faults(root: Path, task: Task | None = None, split: str = "id", limit: int | None = None) -> str:
    with pytest.raises(UsageError) as error:
        ReasonRFTData(root).problems(task or Counting(), split, limit)
    return str(error.value)


def test_rows_become_problems(write: Write) -> None:
    problems = ReasonRFTData(write(COUNTING)).problems(Counting(), "id")
    first, second = problems
    assert (first.id, first.task, first.split, first.kind, first.answer) == ("c-1", "counting", "id", "number", "3")
    assert first.prompt.startswith("How many cubes? Output the thinking process")
    assert second.answer == "4"
    assert [(image.mode, image.size) for image in second.images] == [("RGB", (8, 6))]
    assert [problem.id for problem in problems[1:]] == ["c-2"]


def test_kinds_are_settled_when_rows_are_read(write: Write) -> None:
    rows = [
        *STRUCTURE,
        {"id": "x", "image": "a.png", "problem": "Name the point.", "answer": "B", "kind": "expression"},
    ]
    root = write(rows, "Structure-Perception-id-test-820.json")
    problems = ReasonRFTData(root).problems(Structure(), "id")
    assert [problem.kind for problem in problems] == ["choice", "number", "expression", "expression"]
    assert "chosen letter" in problems[0].prompt
    assert "float number" in problems[2].prompt


@pytest.mark.parametrize(
    ("answer", "question", "kind"),
    [
        ("3", "", "number"),
        ("1/2", "", "number"),
        ("30°", "", "number"),
        ("B", "", "choice"),
        ("E", "", "expression"),
        ("E", "Choices: A. 1 E. 5", "choice"),
        ("12", "Choices: A. 12", "number"),  # no letter can be right here
        *(
            (spelled, "Find x. Choices: A. 10 B. 12", "choice")
            for spelled in ("(B)", "b", "B.", "B. 12", "Option B", "AB")
        ),
        *((spelled, "", "expression") for spelled in ("(B)", "b", "Option B", "AB", "x+y=5", "(1,2)", "about 5")),
        *((spelled, "", "number") for spelled in ("50海里", "65度", "60 km/h", r"50\%", "twelve", "3 cubes", "2^{10}")),
        (r"5\sqrt{2}", "", "expression"),
        ("change_size(0, small)", "", "functions"),
    ],
)
def test_answer_kind(answer: str, question: str, kind: str) -> None:
    assert answer_kind(answer, question) == kind


def test_images_keep_their_order(write: Write) -> None:
    root = write(SPATIAL, "Spatial-Transformation-ood-left-test-1k.json")
    (problem,) = ReasonRFTData(root).problems(Spatial(), "ood_left")
    assert [image.getpixel((0, 0)) for image in problem.images] == [(10, 2, 3), (9, 2, 3)]


def test_train_starts_where_told_and_carries_reasoning_without_tags(write: Write) -> None:
    cots = ["plain", "<think>\ntagged\n</think>\n<answer>5</answer>", " spaced "]
    rows = [{**COUNTING[0], "id": str(i), "cot": cot} for i, cot in enumerate(cots)]
    root = write(rows, "A3-Visual-Counting-train-35k-cot.json", "train")
    problems = ReasonRFTData(root).problems(Counting(), "train")
    assert [problem.metadata["cot"] for problem in problems] == ["plain", "tagged", "spaced"]
    assert [problem.id for problem in ReasonRFTData(root, train_start=1).problems(Counting(), "train", 1)] == ["1"]
    with pytest.raises(UsageError, match=r"data.train_start: 3: leaves none of the 3 rows"):
        ReasonRFTData(root, train_start=3).problems(Counting(), "train")


def test_flat_layout_and_a_split_that_serves_as_train(write: Write, tmp_path: Path) -> None:
    root = write(COUNTING)
    flat = tmp_path / "flat"
    shutil.copytree(root / "images" / "test_images", flat / "images")
    shutil.copy(root / "test_jsons" / "Visual-Counting-id-test-1k.json", flat / "Visual-Counting-id-test-2.json")
    assert len(ReasonRFTData(flat).problems(Counting(), "id")) == 2
    message = faults(flat, split="train")
    assert f"{flat}: no *Visual-Counting-train*.json" in message
    assert "data.train_split=id" in message
    (problem,) = ReasonRFTData(flat, train_start=1, train_split="id").problems(Counting(), "train")
    assert (problem.id, problem.split) == ("c-2", "train")
    assert len(ReasonRFTData(flat, train_start=1, train_split="id").problems(Counting(), "id")) == 2


def test_a_task_of_ones_own_reads_files_of_its_name(write: Write) -> None:
    class Colours(Counting):
        name = "colours"
        kinds = ("expression",)

    root = write([{**COUNTING[0], "answer": "red"}], "colours-id-test.json")
    assert ReasonRFTData(root).problems(Colours(), "id")[0].kind == "expression"


def test_splits_that_are_not_there(write: Write) -> None:
    root = write(COUNTING)
    assert "no Visual-Counting-ood-test*.json in test_jsons/" in faults(root, split="ood")
    assert "counting has train, id, ood" in faults(root, split="ood_left")
    write(COUNTING, "Visual-Counting-id-test-2.json")
    assert "2 files match Visual-Counting-id-test*.json" in faults(root)


def test_eval_goes_on_without_a_split_where_told_to(write: Write, tmp_path: Path) -> None:
    root = write(COUNTING)

    def opened(*overrides: str) -> list[str]:
        cfg = composed("eval", "data=reason_rft", f"data.root={root}", *overrides)
        return list(build.open_problems(check(cfg, "eval"), Counting()))

    with pytest.raises(
        UsageError, match=r"no Visual-Counting-ood-.*; name the splits .* splits=\[id\], or missing_split=skip"
    ):
        opened()
    assert opened("missing_split=skip") == ["id"]
    with pytest.raises(UsageError, match="no Visual-Counting-ood-"):
        opened("missing_split=skip", "splits=[ood]")  # nothing is left
    write([{**COUNTING[0], "answer": ""}], "Visual-Counting-id-test-1k.json")
    with pytest.raises(UsageError, match="answer: ''"):
        opened("missing_split=skip")


def test_all_faults_of_the_rows_are_said_at_once(write: Write) -> None:
    good = COUNTING[0]
    bad: list[Any] = [
        good,
        {**good, "id": "no-image", "image": "missing.jpg"},
        {**good, "id": "float", "answer": 3.5},
        {**good, "id": "word", "answer": "plenty"},
        {"id": "bare"},
        good,
        "a string",
        {**good, "id": "two", "image": ["a.png", "a.png"]},
        {**good, "id": "kind", "kind": "colour"},
        {**good, "id": "cot", "cot": 5},
        {**good, "id": True},
        {**good, "id": "nul", "image": "a\0.jpg"},
        {**good, "id": "long", "image": "x" * 5000},
        {**good, "id": "\ud800", "problem": ""},
    ]
    message = faults(write_raw(write(COUNTING), bad))
    for expected in (
        "row 2 (id 'no-image'): image: 'missing.jpg': no such file in",
        "row 3 (id 'float'): answer: 3.5: not a text; quote it",
        "row 4 (id 'word'): answer: 'plenty': expression; counting needs number",
        "row 5 (id 'bare'): problem: missing",
        "row 5 (id 'bare'): answer: missing",
        "row 5 (id 'bare'): image: None: not a file name",
        "row 6 (id 'c-1'): row 1 has the same id",
        "row 7 (id None): 'a string': not an object",
        "row 8 (id 'two'): image: 2 of them; counting needs 1",
        "row 9 (id 'kind'): kind: 'colour': not one of number, choice, expression, functions",
        "row 10 (id 'cot'): cot: 5: not a text",
        "row 11 (id None): id: True: not a text",
        "row 12 (id 'nul'): image: ",
        "row 13 (id 'long'): image: ",
    ):
        assert expected in message
    assert len(message) < 4000


def write_raw(root: Path, rows: list[Any]) -> Path:
    (root / "test_jsons" / "Visual-Counting-id-test-1k.json").write_text(json.dumps(rows))
    return root


def test_many_faults_are_counted(write: Write) -> None:
    message = faults(write([{**COUNTING[0], "id": str(i), "answer": []} for i in range(57)]))
    assert "57 faults" in message
    assert message.endswith("... and 37 more")
    assert len(message.splitlines()) == 22


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"id": "a",\n  "image": }]', "line 2 column 12: Expecting value"),
        ("", "empty"),
        ("{}", "row 1 (id None): id: missing"),
        ('{"id": "a"}\n{"id": ', "line 2 (id None): not JSON (Expecting value, column 8)"),
        ("id,problem\n1,What?\n", "line 1 (id None): not JSON"),
        ("[]", "holds no rows"),
        ("[" * 200_000, "nested too deeply"),
        (b"[\xff]", "not UTF-8 (byte 2); save it as UTF-8"),
        ("[" + "1" * 5000 + "]", "digits"),
    ],
)
def test_files_that_are_no_json(write: Write, content: str | bytes, expected: str) -> None:
    root = write(COUNTING)
    file = root / "test_jsons" / "Visual-Counting-id-test-1k.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = faults(root)
    assert str(file) in message
    assert expected in message


def test_no_image_outside_the_root(write: Write, tmp_path: Path) -> None:
    root = write(COUNTING)
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    Image.new("RGB", (4, 4)).save(outside)
    (root / "images" / "test_images" / "link.gif").symlink_to(outside)
    (root / "images" / "test_images" / "loop.gif").symlink_to("loop.gif")
    names = [str(outside), f"../../../{outside.name}", "link.gif", "loop.gif", "."]
    message = faults(write_raw(root, [{**COUNTING[0], "id": str(i), "image": name} for i, name in enumerate(names)]))
    assert "row 1 (id '0'): image: " in message
    assert "an absolute path" in message
    for row in ("row 2 (id '1')", "row 3 (id '2')"):
        assert "lies outside" in next(line for line in message.splitlines() if row in line)
    assert "row 4" in message
    assert "row 5" in message


def png(width: int, height: int) -> bytes:
    """The header of a large picture and no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image",
        png(8, 6)[:20],
        png(8, 6)[:-12],
        png(60_000, 60_000),
        png(12_000, 12_000),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    ],
    ids=["empty", "text", "cut", "without end", "bomb", "large", "postscript"],
)
def test_unreadable_images_are_found_early(write: Write, content: bytes) -> None:
    root = write(COUNTING)
    (root / "images" / "test_images" / "a.png").write_bytes(content)
    assert "row 1 (id 'c-1'): image: 'a.png': cannot be read" in faults(root)


def test_only_the_rows_asked_for_are_checked(write: Write) -> None:
    root = write(COUNTING)
    (root / "images" / "test_images" / "b.png").unlink()
    assert [problem.id for problem in ReasonRFTData(root).problems(Counting(), "id", 1)] == ["c-1"]
    assert "'b.png'" in faults(root)


def test_pixels_are_read_with_the_problem(write: Write) -> None:
    root = write(COUNTING)
    file = root / "images" / "test_images" / "a.png"
    problems = ReasonRFTData(root).problems(Counting(), "id")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])  # the header is there
    with pytest.raises(UsageError, match=r"a.png \(row id 'c-1'\): cannot be read"):
        problems[0]
    file.write_bytes(whole)
    assert problems[0].images[0].size == (8, 6)


def test_zip_files_of_a_hub_copy(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "EXTRACTED_DATASETS_PATH", tmp_path / "cache" / "extracted")
    root = write(COUNTING)
    shutil.make_archive(str(root / "images" / "test_images"), "zip", root / "images", "test_images")
    shutil.rmtree(root / "images" / "test_images")
    problems = ReasonRFTData(hub=str(root)).problems(Counting(), "id")
    assert [problem.images[0].size for problem in problems] == [(8, 6), (8, 6)]
    with pytest.raises(UsageError, match=r"data.hub: .*0 files match Visual-Counting-ood-test\*.json"):
        ReasonRFTData(hub=str(root)).problems(Counting(), "ood")


@pytest.mark.skipif("EKIPL_REAL_DATA" not in os.environ, reason="EKIPL_REAL_DATA names no folder of real rows")
def test_real_rows() -> None:
    data = ReasonRFTData(os.environ["EKIPL_REAL_DATA"], train_split="id")
    tasks: list[Task] = [Counting(), Structure(), Spatial()]
    splits = [(task, split) for task in tasks for split in ("train", *task.splits) if split != "ood"]
    problems = [problem for task, split in splits for problem in data.problems(task, split)]
    assert len({(problem.task, problem.split, problem.id) for problem in problems}) == len(problems) >= 37
    for problem in problems:
        assert grader("strict")(problem, f"<think>so</think>\n<answer>{problem.answer}</answer>").total == 2
        assert all(image.mode == "RGB" for image in problem.images)
