"""One table of problems, written in every format that ``data=table`` reads."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ekipl.algorithm.types import Problem
from ekipl.data.table.columns import Columns
from ekipl.data.table.source import TableData
from ekipl.tasks.vqa import VQA

Row = Mapping[str, Any]


def png(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> bytes:
    return encoded(Image.new("RGB", size, colour), "PNG")


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def rows_with_pictures(folder: Path, count: int = 6) -> list[dict[str, Any]]:
    """Rows of several kinds of answer, their pictures in ``folder/pics``."""
    (folder / "pics").mkdir(exist_ok=True)
    answers = ["3", "red", "B", "2*x + 1", "12 cm", "the left one"]
    rows = []
    for number in range(count):
        (folder / "pics" / f"{number}.png").write_bytes(png((number * 30, 90, 10), (40 + number, 30)))
        question = f"What is it, {number}?"
        rows.append(
            {"id": f"q{number}", "image": f"pics/{number}.png", "question": question, "answer": answers[number % 6]}
        )
    return rows


def write_jsonl(path: Path, rows: Sequence[Row]) -> str:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def write_json(path: Path, rows: Sequence[Row]) -> str:
    path = path.with_suffix(".json")
    path.write_text(json.dumps(rows, indent=1))
    return str(path)


def write_csv(path: Path, rows: Sequence[Row]) -> str:
    path = path.with_suffix(".csv")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: _in_a_cell(value) for key, value in row.items()} for row in rows)
    return str(path)


def _in_a_cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def write_parquet(path: Path, rows: Sequence[Row]) -> str:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = path.with_suffix(".parquet")
    parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    return str(path)


def write_folder(path: Path, rows: Sequence[Row]) -> str:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    path = path.with_suffix(".dataset")
    Dataset.from_list([dict(row) for row in rows]).save_to_disk(path)
    return str(path)


FORMATS: dict[str, Callable[[Path, Sequence[Row]], str]] = {
    "jsonl": write_jsonl,
    "json": write_json,
    "csv": write_csv,
    "parquet": write_parquet,
    "folder": write_folder,
}


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def problems(path: str | dict[str, str], split: str = "train", **options: Any) -> list[Problem]:
    """All problems of a table; of a single file nothing is held out."""
    task = options.pop("task", None) or VQA()
    options["columns"] = Columns(**options.get("columns", {}))
    return list(TableData(**{"path": path, "holdout": 0.0, "cache": None, **options}).problems(task, split))
