"""Which column holds what: as the settings name them, else by the usual spellings."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from ekipl.algorithm.ranges import Name
from ekipl.data.rows import Fields
from ekipl.data.table import cells
from ekipl.errors import UsageError

SPELLINGS: Mapping[str, tuple[str, ...]] = {  # best first; case, spaces and hyphens do not count
    "id": ("id", "uid", "uuid", "question_id", "problem_id", "sample_id", "qid", "pid"),
    "images": (
        "image", "images", "img", "picture", "pictures", "photo", "image_path", "image_paths", "img_path", "image_file",
        "image_name", "file_name", "filename", "image_bytes", "image_base64",
    ),
    "question": ("question", "problem", "query", "prompt", "instruction"),
    "answer": (
        "answer", "answers", "solution", "ground_truth", "groundtruth", "gt", "gt_answer", "gold", "label", "target",
        "response", "reward_model.ground_truth",
    ),
    "kind": ("kind", "answer_kind"),
    "split": ("split",),
    "cot": ("cot", "reasoning", "rationale", "thinking"),
    "metadata": ("metadata",),
}  # fmt: skip
CONVERSATIONS = ("conversations", "messages", "conversation")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of columns; of a mapping in a column, ``column.key``.

    Attributes:
        id: unique in its split; null: ``id`` and the like, else rows are numbered.
        images: paths, bytes, base64, or an Image feature of ``datasets``; one, a list, or none.
        question: text, or a conversation; null: ``question``, ``problem``, ``query``..., else ``conversations``.
        answer: a text, a number, or a list of accepted answers; null: ``answer``, ``solution``, ``label`` and the like.
        kind: of the answer: number, choice, expression, functions or text.
        split: the split of a row, such as train or test.
        cot: reasoning, for supervised training.
        metadata: a mapping that graders and tables may read, such as ``{family: charts}``.
    """

    id: Name | None = None
    images: Name | None = None
    question: Name | None = None
    answer: Name | None = None
    kind: Name | None = None
    split: Name | None = None
    cot: Name | None = None
    metadata: Name | None = None


@dataclass(frozen=True)
class Found:
    """The columns of a table by what they hold; ``conversation`` is the one that holds question and answer."""

    columns: Mapping[str, str]
    conversation: str | None
    unused: tuple[str, ...]

    @property
    def words(self) -> dict[str, str]:
        """The fields as messages name them."""
        asked = self.columns.get("question") or str(self.conversation)
        words = {"id": "id", "cot": "cot", "images": "image", "question": asked, "answer": asked} | dict(self.columns)
        return {**words, "image": words["images"]}

    def __str__(self) -> str:
        parts = [f"{role} = {name}" for role, name in self.columns.items()]
        parts += [f"question and answer = {self.conversation}"] if self.conversation else []
        parts += [] if "id" in self.columns else ["id = number of the row"]
        parts += [] if "images" in self.columns else ["no images"]
        return ", ".join(parts) + (f" (not read: {', '.join(self.unused)})" if self.unused else "")


def find(where: str, names: Sequence[str], first: Any, wanted: Columns) -> Found:
    """The columns of a table.

    Args:
        where: the file, for messages.
        names: of its columns.
        first: a row, to look into mappings; not a mapping if it could not be read.
        wanted: names from the settings.

    Raises:
        UsageError: a named column is not there, or no column for questions or answers is found.
    """
    row = first if isinstance(first, Mapping) else {}
    plain = {_plain(name): name for name in reversed(names)}
    columns: dict[str, str] = {}
    faults = []
    for role in (field.name for field in fields(Columns)):
        given = getattr(wanted, role)
        if given is None:
            spelled = (plain.get(name, name if _inside(name, row) else None) for name in SPELLINGS[role])
            given = next((name for name in spelled if name is not None), None)
        elif given not in names and not _inside(given, row):
            close = get_close_matches(given, names, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            faults.append(f"data.columns.{role}: {given}: no such column in {where}; it has {_listed(names)}{meant}")
        if given is not None:
            columns[role] = given
    talks = None
    if "question" not in columns:
        talks = next((plain[name] for name in CONVERSATIONS if name in plain), None)
    for role in ("question", "answer"):
        is_told = talks or (role == "answer" and _is_conversation(columns.get("question"), row))
        if role not in columns and not is_told:
            looked = ", ".join([*SPELLINGS[role], *(CONVERSATIONS if role == "question" else ())])
            faults.append(
                f"data.columns.{role}: null: {where} has {_listed(names)}, and none of {looked}; "
                f"set data.columns.{role}=NAME"
            )
    if faults:
        raise UsageError("\n".join(faults))
    used = {*columns.values(), *(name.partition(".")[0] for name in columns.values()), talks}
    return Found(columns, talks, tuple(name for name in names if name not in used))


def fields_of(row: Mapping[str, Any], found: Found, number: int, find_image: cells.Find) -> Fields | ValueError:
    """The fields of a row, or why there are none."""
    values = {role: _value(row, name) for role, name in found.columns.items()}
    question, answer = values.get("question"), values.get("answer")
    try:
        talk = row.get(found.conversation) if found.conversation else question
        if found.conversation or cells.is_conversation(talk):
            name = found.conversation or found.columns["question"]
            if talk is None:
                raise ValueError(f"{name}: missing")
            question, said = _conversation(name, talk)
            answer = said if "answer" not in found.columns else answer
        notes = cells.metadata(values.get("metadata"))
    except ValueError as error:
        return error
    return Fields(
        cells.identity(values["id"]) if "id" in values else numbered(number),
        cells.pictures(values.get("images"), find_image),
        question,
        cells.answer(answer),
        values.get("kind"),
        values.get("cot"),
        notes,
    )


def numbered(number: int) -> str:
    """The id of a row without one: its number, from 1."""
    return f"row-{number + 1}"


def _conversation(name: str, cell: Any) -> tuple[str, str | None]:
    try:
        return cells.conversation(cell)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _value(row: Mapping[str, Any], name: str) -> Any:
    """The cell, or what a mapping in a cell holds."""
    if name in row:
        return row[name]
    outer, _, inner = name.partition(".")
    cell = row.get(outer)
    return _value(cell, inner) if inner and isinstance(cell, Mapping) else None


def value_of(row: Any, name: str) -> Any:
    """The cell of a row that may have been unreadable."""
    return _value(row, name) if isinstance(row, Mapping) else None


def _inside(name: str, row: Mapping[str, Any]) -> bool:
    return "." in name and _value(row, name) is not None


def _is_conversation(question: str | None, row: Mapping[str, Any]) -> bool:
    return question is not None and cells.is_conversation(_value(row, question))


def _plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(reprlib.repr(name)[1:-1] for name in names[:40]) or "no columns"
    return shown if len(names) <= 40 else f"{shown} and {len(names) - 40} more"
