"""Rows of one's own are read as they are in every format, or refused by name."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ekipl.algorithm.types import Problem
from ekipl.config import check
from ekipl.data.table.source import TableData
from ekipl.errors import MissingSplit, UsageError
from ekipl.policy.fits import reader
from ekipl.run.reading import reader_of_training
from ekipl.tasks.vqa import VQA
from tests.tables import (
    FORMATS,
    base64_of,
    encoded,
    png,
    problems,
    rows_with_pictures,
    write_csv,
    write_folder,
    write_json,
    write_jsonl,
    write_parquet,
)
from tests.test_config import composed


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def facts(problem: Problem) -> tuple[Any, ...]:
    pixels = [(image.size, image.tobytes()) for image in problem.images]
    return problem.id, problem.prompt, problem.answer, problem.kind, problem.metadata.get("accepted"), pixels


def refused(path: str | dict[str, str], **options: Any) -> str:
    with pytest.raises(UsageError) as error:
        problems(path, **options)
    return str(error.value)


ROW = {"id": "a", "image": "pics/0.png", "question": "What?", "answer": "3"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows_with_pictures(tmp_path, 2)
    return tmp_path


# --- formats ---

TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
ANSWERS = TEXTS | st.integers(-99, 99) | st.lists(TEXTS, min_size=1, max_size=3)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=2)), min_size=1, max_size=5), st.data())
def test_the_same_rows_in_every_format_give_the_same_problems(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows_with_pictures(folder, 5)
    rows = [
        {"id": f"{n}", "image": f"pics/{n}.png", "question": question, "answer": answers, "kind": "text"}
        for n, (question, answers) in enumerate(texts)
    ]
    found = [[facts(one) for one in problems(write(folder / "t", rows))] for write in FORMATS.values()]
    assert len(found[0]) == len(rows)
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_of_several_kinds(format: str, tmp_path: Path) -> None:
    rows = rows_with_pictures(tmp_path)
    found = problems(FORMATS[format](tmp_path / "t", rows))
    assert [one.id for one in found] == [f"q{n}" for n in range(6)]
    assert [one.kind for one in found] == ["number", "text", "choice", "expression", "number", "text"]
    assert [one.images[0].size for one in found] == [(40 + n, 30) for n in range(6)]
    assert found[1].prompt.startswith("What is it, 1? Output the thinking process in <think> </think>")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("format", ["jsonl", "json", "csv"])
def test_text_in_any_unicode(format: str, encoding: str, folder: Path) -> None:
    path = Path(FORMATS[format](folder / "t", [{**ROW, "question": "Grüße?\nNoch eine Zeile"}, {**ROW, "id": "é"}]))
    path.write_bytes(path.read_text().encode(encoding))
    first, second = problems(str(path))
    assert (first.question, second.id) == ("Grüße?\nNoch eine Zeile", "é")


def test_csv_with_another_separator_and_blank_lines(folder: Path) -> None:
    (folder / "t.csv").write_text('id;image;question;answer\r\n\r\na;pics/0.png;"Which; one?";3,5\r\n')
    (folder / "t.tsv").write_text('id\timage\tquestion\tanswer\na\tpics/0.png\t"Which ""one""?"\t4\n')
    (one,), (other,) = problems(str(folder / "t.csv")), problems(str(folder / "t.tsv"))
    assert (one.question, one.answer) == ("Which; one?", "3,5")
    assert (other.question, other.answer) == ('Which "one"?', "4")


# --- columns ---


@pytest.mark.parametrize(
    ("question", "answer", "images"),
    [
        ("problem", "solution", "image"),
        ("query", "label", "images"),
        ("Question", "Ground Truth", "Image_Path"),
        ("prompt", "answers", "img"),
    ],
)
def test_usual_spellings_are_found_and_said(
    question: str, answer: str, images: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_jsonl(folder / "t", [{question: "What?", answer: 3, images: "pics/0.png", "source": "web"}])
    (found,) = problems(path)
    assert (found.question, found.answer, found.id, len(found.images)) == ("What?", "3", "row-1", 1)
    assert f"t.jsonl: images = {images}, question = {question}, answer = {answer}, " in (err := capsys.readouterr().err)
    assert "id = number of the row (not read: source)" in err
    assert "train: 1 rows; answers: 1 number (inferred)" in err


def test_columns_by_setting_also_inside_mappings(folder: Path) -> None:
    row = {"q": "What?", "question": "no", "meta": {"gold": "5"}, "image": "pics/1.png"}
    (found,) = problems(write_parquet(folder / "t", [row]), columns={"question": "q", "answer": "meta.gold"})
    assert (found.question, found.answer) == ("What?", "5")


def test_columns_that_are_not_there(folder: Path) -> None:
    path = write_csv(folder / "t", [{"text": "What?", "anwser": "3"}])
    message = refused(path, columns={"answer": "answer"})
    assert "data.columns.answer: answer: no such column in t.csv; it has text, anwser; did you mean anwser?" in message
    assert "data.columns.question: null: t.csv has text, anwser, and none of question, problem, query" in message
    assert "set data.columns.question=NAME" in message


@pytest.mark.parametrize(
    "turns",
    [
        [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "red"}],
        [{"role": "user", "content": "<image>\nWhat?"}, {"role": "assistant", "content": "red"}],
        [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nWhat?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        ],
    ],
    ids=["llava", "sharegpt", "parts"],
)
def test_conversations(turns: list[Any], folder: Path) -> None:
    for name in ("conversations", "messages", "prompt"):
        row = {"image": "pics/0.png", name: turns}
        (found,) = problems(write_jsonl(folder / name, [row]))
        assert (found.question, found.answer) == ("<image>\nWhat?", "red")
        assert isinstance(found.parts[0], Image.Image)
    (found,) = problems(write_folder(folder / "f", [{"image": "pics/0.png", "messages": turns}]))
    assert found.answer == "red"


def test_a_conversation_of_several_turns_is_refused(folder: Path) -> None:
    turns = [{"from": who, "value": "x"} for who in ("human", "gpt", "human", "gpt")]
    message = refused(write_jsonl(folder / "t", [{"conversations": turns}]))
    assert "conversations: 4 turns (user, assistant, user, assistant); one question and one answer are read" in message


# --- pictures ---


def picture_of(folder: Path, cell: Any, **options: Any) -> Image.Image:
    (problem,) = problems(write_jsonl(folder / "t", [{**ROW, "image": cell}]), **options)
    return problem.images[0]


def test_a_picture_in_every_form_is_the_same(folder: Path) -> None:
    content = png((0, 90, 10), (40, 30))

    def of_parquet(cell: Any) -> Image.Image:
        (problem,) = problems(write_parquet(folder / f"t{len(str(cell))}", [{**ROW, "image": cell}]))
        return problem.images[0]

    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/x.png", content)
    forms = {
        "path": picture_of(folder, "pics/0.png"),
        "absolute": picture_of(folder, str(folder.resolve() / "pics" / "0.png")),
        "base64": picture_of(folder, base64_of(content)),
        "uri": picture_of(folder, f"data:image/png;base64,{base64_of(content)}"),
        "member": picture_of(folder, "a.zip/in/x.png"),
        "zip as root": picture_of(folder, "in/x.png", root=str(folder / "a.zip")),
        "bytes": of_parquet(content),
        "struct": problems(write_parquet(folder / "s", [{**ROW, "image": {"bytes": content, "path": None}}]))[0].images[
            0
        ],
        "struct of a path": problems(
            write_parquet(folder / "p", [{**ROW, "image": {"bytes": None, "path": "pics/0.png"}}])
        )[0].images[0],
    }
    for form, picture in forms.items():
        assert (picture.size, picture.tobytes()) == (forms["path"].size, forms["path"].tobytes()), form


def test_image_features_of_datasets(folder: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
    from datasets import Image as ImageFeature

    pictures = [Image.new("RGB", (8, 6), "red"), Image.new("RGB", (9, 6), "blue")]
    features = Features(
        {"images": List(ImageFeature()), "question": Value("string"), "label": ClassLabel(names=["cat", "dog"])}
    )
    rows = Dataset.from_dict({"images": [pictures, pictures[:1]], "question": ["a?", "b?"], "label": [1, 0]}, features)
    DatasetDict({"train": rows, "validation": rows.select([1])}).save_to_disk(folder / "d")
    found = problems(str(folder / "d"))
    assert [[image.size for image in one.images] for one in found] == [[(8, 6), (9, 6)], [(8, 6)]]
    assert [(one.answer, one.kind) for one in found] == [("dog", "text"), ("cat", "text")]
    assert [one.question for one in problems(str(folder / "d"), "id")] == ["b?"]


def test_rows_without_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**ROW, "image": None}, {**ROW, "id": "b"}, {**ROW, "id": "c", "image": []}]
    assert [len(one.images) for one in problems(write_jsonl(folder / "t", rows))] == [0, 1, 0]
    assert "3 rows, 2 without an image" in capsys.readouterr().err
    (bare,) = problems(write_jsonl(folder / "u", [{"question": "2 + 2?", "answer": 4}]))
    assert bare.parts == [bare.prompt]


def odd(name: str) -> bytes:
    image = Image.new("RGB", (40, 30), "red")
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "cmyk": lambda: encoded(image.convert("CMYK"), "JPEG"),
        "16 bit": lambda: encoded(Image.new("I;16", (40, 30), 40_000), "PNG"),
        "animated": lambda: encoded(image, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 30))]),
        "one pixel": lambda: encoded(image.resize((1, 1)), "PNG"),
        "turned": lambda: encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=turned),
        "palette": lambda: encoded(image.convert("P"), "PNG"),
    }[name]()


@pytest.mark.parametrize("name", ["cmyk", "16 bit", "animated", "one pixel", "turned", "palette"])
def test_odd_pictures_are_read(name: str, folder: Path) -> None:
    picture = picture_of(folder, base64_of(odd(name)))
    assert picture.mode == "RGB"
    assert picture.size == ((1, 1) if name == "one pixel" else (40, 30))


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("pics/none.png", "image: 'pics/none.png': no such file in"),
        ("../out.png", "lies outside"),
        ("/etc/hostname", "an absolute path outside"),
        ("link.png", "lies outside"),
        ("https://example.org/x.png", "an address; download the picture"),
        ("data:image/png;base64,@@@@", "no base64"),
        ("data:image/png,abc", "a data URI that is not in base64"),
        ("iVBORw0KGgo!" + "A" * 100, "no base64"),
        (base64_of(b"no picture " * 20), "cannot be read: no PNG"),
        (7, "neither a path, bytes, nor base64"),
        ("a.zip/none.png", "no such file in"),
        ("pics", "no such file in"),
        ("bad.zip/x.png", "no zip file, or a damaged one"),
        ("\x00", "no such file in"),
    ],
)
def test_pictures_that_cannot_be_used(cell: Any, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rows_with_pictures(folder, 1)
    (tmp_path / "out.png").write_bytes(png((1, 2, 3)))
    (folder / "link.png").symlink_to(tmp_path / "out.png")
    (folder / "bad.zip").write_bytes(b"PK no zip")
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("x.png", png((1, 2, 3)))
    message = refused(write_jsonl(folder / "t", [{**ROW, "image": cell}, {**ROW, "id": "good"}]))
    assert "line 1 (id 'a'): image: " in message
    assert reason in message
    assert "good" not in message
    assert len(message.splitlines()) == 2


def test_zip_bombs_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekipl.data.sources.MOST_BYTES", 10_000)
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.png", b"\0" * 10_000_000)
    assert "more than the 10,000 bytes that are read" in refused(
        write_jsonl(folder / "t", [{**ROW, "image": "a.zip/x.png"}])
    )


def test_a_decompression_bomb_in_bytes_is_refused(folder: Path) -> None:
    large = encoded(Image.new("1", (12_000, 12_000)), "PNG")
    assert "12,000 x 12,000 pixels" in refused(write_parquet(folder / "t", [{**ROW, "image": large}]))


# --- splits ---


def ids(path: str | dict[str, str], split: str, **options: Any) -> list[str]:
    return [one.id for one in problems(path, split, **options)]


def test_splits_by_file_and_by_column(folder: Path) -> None:
    train, test = ({**ROW, "id": name} for name in ("t", "e"))
    files = {"train": write_jsonl(folder / "a", [train]), "id": write_csv(folder / "b", [test])}
    assert (ids(files, "train"), ids(files, "id")) == (["t"], ["e"])
    rows = [{**train, "split": "train"}, {**test, "split": "validation"}, {**test, "id": "o", "split": "ood"}]
    path, task = write_jsonl(folder / "c", rows), VQA(splits=["id", "ood"])
    assert (ids(path, "train"), ids(path, "id"), ids(path, "ood", task=task)) == (["t"], ["e"], ["o"])
    with pytest.raises(MissingSplit, match="no rows of the split ood; it has train, id"):
        ids(files, "ood", task=task)


def test_some_training_rows_are_held_out_and_which_does_not_depend_on_the_others(folder: Path) -> None:
    rows = [{"question": f"{n}?", "answer": n} for n in range(400)]
    path = write_jsonl(folder / "t", rows)
    train, held = ids(path, "train", holdout=0.1), ids(path, "id", holdout=0.1)
    assert sorted(train + held) == sorted(f"row-{n + 1}" for n in range(400))
    assert 20 <= len(held) <= 60  # 40 are expected, and 3.3 standard deviations are 20
    more = write_jsonl(folder / "u", rows + [{"question": f"{n}?", "answer": n} for n in range(100)])
    assert set(held) <= set(ids(more, "id", holdout=0.1))
    assert not set(train) & set(ids(more, "id", holdout=0.1))
    few = write_jsonl(folder / "few", rows[:2])
    assert [len(ids(few, split, holdout=0.05)) for split in ("train", "id")] == [1, 1]


@pytest.mark.parametrize(
    ("rows", "holdout", "message"),
    [
        (1, 0.05, "data.holdout: 0.05: of the 1 rows of .* it holds none out"),
        (3, 0.999, "it leaves none to train on"),
        (3, 0.0, "no rows of the split id; it has train; .* or data.holdout=0.05"),
    ],
)
def test_a_hold_out_that_leaves_nothing(rows: int, holdout: float, message: str, folder: Path) -> None:
    path = write_jsonl(folder / "t", [{"question": f"{n}?", "answer": n} for n in range(rows)])
    with pytest.raises(UsageError, match=message):
        ids(path, "train" if "train on" in message else "id", holdout=holdout)


# --- bad rows and files ---


def test_bad_rows_are_told_together_or_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        ROW,
        {**ROW, "id": "q", "question": None},
        {**ROW, "id": "n", "answer": None},
        {**ROW, "id": "t", "answer": True},
        {**ROW, "id": "e", "answer": []},
        {**ROW, "id": "d", "answer": {"x": 1}},
        {**ROW, "id": "k", "kind": "colour"},
        {**ROW, "id": "m", "question": "<image> <image>?"},
        ROW,
    ]
    path = write_jsonl(folder / "t", rows)
    lines = refused(path).splitlines()[1:]
    expected = [
        "line 2 (id 'q'): question: missing",
        "line 3 (id 'n'): answer: missing",
        "line 4 (id 't'): answer: True: not a text; write the word that is to be said, such as yes",
        "line 5 (id 'e'): answer: an empty list",
        "line 6 (id 'd'): answer: {'x': 1}: not a text",
        "line 7 (id 'k'): kind: 'colour': not one of number, choice",
        "line 8 (id 'm'): question: 2 <image> markers for 1 image",
        "line 9 (id 'a'): line 1 has the same id",
    ]
    assert all(line.strip().startswith(start) for line, start in zip(lines, expected, strict=True))
    assert [one.id for one in problems(path, bad_rows="skip")] == ["a"]
    assert "8 of 9 rows are skipped" in capsys.readouterr().err


def test_messages_name_the_columns_of_the_file(folder: Path) -> None:
    message = refused(
        write_jsonl(folder / "t", [{"problem": None, "solution": ["x", None]}, {"problem": "a", "solution": 1}])
    )
    assert "line 1 (id 'row-1'): problem: missing" in message
    assert "line 1 (id 'row-1'): solution: missing" in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b"", "holds no rows"),
        ("t.json", b"[]", "holds no rows"),
        ("t.json", b'[{"a": 1}, {"a": ]', "line 1 column 18: Expecting value"),
        ("t.json", b'[{"a": 1} {"a": 2}]', "Expecting ',' or ']'"),
        ("t.json", b'{"rows": [\n{"question": "a?"}\n]}', "one JSON object on several lines"),
        ("t.json", b"[" * 100_000, "nested too deeply"),
        ("t.csv", b"question,answer\n", "holds no rows"),
        ("t.csv", b"question,question\na,b\n", "two columns are called 'question'"),
        ("t.csv", b"question,answer\nWhat, really?,3\nWhy?,4\n", "line 2 (id None): 3 fields, and the header has 2"),
        ("t.csv", b'question,answer\n"What?,3\nWhy?,4\n', "a quote is opened and never closed"),
        ("t.csv", b"question,answer\nWhat?,\xff\xfe\n", "not UTF-8"),
        ("t.csv", b"question,answer\nWhat?," + b"x" * 300_000, "300,000 characters; at most 10,000"),
        ("t.jsonl", b'{"question": "a?", "answer": NaN}\n', "NaN is not a JSON number"),
        ("t.jsonl", b'{"question": "a?", "answer": 1}\n{"question', "line 2 (id None): not JSON"),
        ("t.parquet", b"PAR1 cut", "no Parquet file, or a damaged one"),
        ("t.xlsx", b"PK", "the ending '.xlsx' is not known; known are files in .jsonl"),
        ("t", b"x", "the ending '' is not known"),
        ("none.jsonl", None, "no such file or folder"),
    ],
)
def test_files_that_are_no_table(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    found = refused(str(tmp_path / name))
    assert message in found
    assert name in found
    assert len(found) < 2000


def test_a_cut_parquet_file_and_a_folder_that_is_none(folder: Path) -> None:
    path = Path(write_parquet(folder / "t", [ROW] * 100))
    whole = path.read_bytes()
    for keep in (len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:keep])
        assert "no Parquet file, or a damaged one" in refused(str(path))
    assert "not written by save_to_disk of datasets; name one of its files" in refused(str(folder / "pics"))
    dataset = Path(write_folder(folder / "d", [ROW]))
    (dataset / "state.json").write_text("{")
    assert "cannot be read" in refused(str(dataset))


def test_a_file_that_changes_while_it_is_used(folder: Path) -> None:
    from ekipl.errors import BadRow

    path = Path(write_jsonl(folder / "t", [ROW, {**ROW, "id": "b"}]))
    found = TableData(path=str(path), holdout=0, cache=None).problems(VQA(), "train")
    assert found[1].id == "b"
    os.truncate(path, 20)
    with pytest.raises(BadRow, match="line 2"):
        found[1]


def test_a_picture_too_thin_for_the_model_is_told_by_its_row(folder: Path) -> None:
    limits = reader("tiny", min_pixels=2304, max_pixels=153_600, trust_remote_code=False, answer=64, key="k")
    thin = {**ROW, "id": "thin", "image": base64_of(encoded(Image.new("RGB", (20_000, 20)), "PNG"))}
    data = TableData(path=write_jsonl(folder / "t", [ROW, thin]), holdout=0, cache=None)
    with pytest.raises(UsageError, match=r"line 2 \(id 'thin'\): image: 20000 x 20 pixels: .*ratio must be smaller"):
        data.problems(VQA(), "train", None, limits)


def test_ranks_that_wait_for_each_other_need_an_image_in_every_row(folder: Path) -> None:
    settings = check(composed("train", "engine=zero3", "engine.num_processes=2"), "train")
    data = TableData(path=write_jsonl(folder / "t", [{**ROW, "image": None}]), holdout=0, cache=None)
    with pytest.raises(UsageError, match=r"line 1 \(id 'a'\): no image: every row needs one with ZeRO-3 on 2 ranks"):
        data.problems(VQA(), "train", None, reader_of_training(settings))
    alone = replace(settings, engine=replace(settings.engine, num_processes=1))
    assert len(data.problems(VQA(), "train", None, reader_of_training(alone))) == 1


def test_a_data_set_of_a_hub_that_does_not_help_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    assert "nor in the cache of datasets, and the hub was not asked (HF_HUB_OFFLINE)" in refused("Some/Data")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    message = refused("Some/Data")
    assert "data.path: Some/Data: no such file or folder here, and the hub cannot be reached (" in message
    assert len(message.splitlines()) == 1


def test_metadata_and_reasoning(folder: Path) -> None:
    rows = [{**ROW, "cot": "<think>I look.</think><answer>3</answer>", "metadata": {"family": "cups", "x": None}}]
    for write in (write_jsonl, write_csv, write_parquet):
        (found,) = problems(write(folder / "t", rows))
        assert dict(found.metadata) == {"cot": "I look.", "family": "cups"}
    for value, told in [
        ([1], "not a mapping"),
        ({"accepted": ["x"]}, "accepted: names of ekipl's own"),
        ({"scene": {"objects": 3}}, "scene: not as docs/tasks.md describes it"),
        ("text", "not a mapping"),
    ]:
        assert told in refused(write_jsonl(folder / "t", [{**ROW, "metadata": value}]))


# --- large tables ---


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_jsonl, write_csv], ids=["jsonl", "csv"])
def test_a_large_table_is_opened_in_little_memory(write: Any, tmp_path: Path) -> None:
    """Ten problems of 60,000 rows of 1 kB: the places of the rows are 24 bytes each, the rows stay on disk."""
    import tracemalloc

    path = write(tmp_path / "t", [{"id": str(n), "question": "x" * 1000, "answer": n} for n in range(60_000)])
    tracemalloc.start()
    found = TableData(path=path, holdout=0, cache=None).problems(VQA(), "train", 10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 10
    assert peak < 30e6  # a block of 4 MB, its lines, and 1.4 MB of places; the texts alone are 60 MB


def test_a_resumed_run_sees_which_rows_have_changed(folder: Path) -> None:
    def outlines(*rows: dict[str, Any]) -> list[Any]:
        found = TableData(path=write_jsonl(folder / "t", rows), holdout=0, cache=None).problems(VQA(), "train")
        return [found.outline(n) for n in range(len(found))]  # type: ignore[attr-defined]

    first = outlines(ROW, {**ROW, "id": "b", "image": base64_of(png((1, 1, 1)))})
    assert outlines(ROW, {**ROW, "id": "b", "image": base64_of(png((1, 1, 1)))}) == first
    other = outlines({**ROW, "answer": "4"}, {**ROW, "id": "b", "image": base64_of(png((2, 2, 2)))})
    assert [one.id for one in other] == ["a", "b"]
    assert other[0].digest.split(":")[0] != first[0].digest.split(":")[0]
    assert other[1].digest.split(":")[1] != first[1].digest.split(":")[1]


def test_json_arrays_of_any_spacing(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": n} for n in range(3)]
    for text in (
        json.dumps(rows),
        json.dumps(rows, indent=3),
        "\n [" + " ,\r\n\t".join(map(json.dumps, rows)) + " ]\n",
    ):
        (tmp_path / "t.json").write_text(text)
        assert [one.question for one in problems(str(tmp_path / "t.json"))] == ["0?", "1?", "2?"]
    assert write_json(tmp_path / "u", rows).endswith("u.json")
