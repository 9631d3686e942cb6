"""What the cells of a table say: pictures in the forms that files have for them, conversations, answers, metadata."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ekipl.algorithm.types import MARKER
from ekipl.data.pictures import MOST_BYTES, BadPicture
from ekipl.data.places import Place, finder
from ekipl.data.sources import Held, Member, Source, members
from ekipl.reward.simulate import reaches

Find = Callable[[str], Source | str]  # a name in a row -> the picture, or why there is none
Turn = tuple[str, str]  # who speaks, and what

MOST_IMAGES = 1_000  # of one row
NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=_\s-]")
BEGINNINGS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk0")  # of PNG, JPEG, GIF, WebP and BMP in base64
SHORTEST = 64  # signs of base64; a shorter text is a name
LONGEST_NAME = 4096  # signs of a name; a longer text is base64
RESERVED = ("accepted", "cot", "mistakes", "variants", "skill")  # metadata that ekipl fills in or knows a form of
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def pictures(cell: Any, find: Find) -> list[tuple[str, Source | str]]:
    """The pictures of a cell: name, and source or the reason why there is none."""
    if cell is None or cell == "":
        return []
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        cell = _json_or(cell)
    cells = list(cell) if isinstance(cell, list | tuple) else [cell]
    if len(cells) > MOST_IMAGES:
        return [("", f"image: {len(cells):,} of them; at most {MOST_IMAGES:,} are read")]
    return [_picture(one, f"image {number}", find) for number, one in enumerate(cells, 1)]


def _picture(cell: Any, name: str, find: Find) -> tuple[str, Source | str]:
    if isinstance(cell, Mapping):  # an Image feature of datasets
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, bytes | bytearray | memoryview):
        return name, _held(name, bytes(cell))
    if not isinstance(cell, str) or not cell.strip():
        return name, f"image: {reprlib.repr(cell)}: neither a path, bytes, nor base64"
    if cell.startswith("data:"):
        head, comma, body = cell.partition(",")
        if not comma or not head.endswith(";base64"):
            return name, f"image: {reprlib.repr(cell)}: a data URI that is not in base64"
        return name, _decoded(name, body)
    if cell.startswith(("http://", "https://")):
        return name, f"image: {reprlib.repr(cell)}: an address; download the picture and name the file"
    source = find(cell.removeprefix("file://")) if len(cell) < LONGEST_NAME else ""
    is_long = len(cell) > SHORTEST and not NOT_BASE64.search(cell)
    if isinstance(source, str) and (is_long or not source or cell.startswith(BEGINNINGS)):
        return name, _decoded(name, cell)
    return cell, source


def _held(name: str, content: bytes) -> Source | str:
    return Held(name, content) if content else f"image: {name}: no bytes"


def _decoded(name: str, text: str) -> Source | str:
    if len(text) > MOST_BYTES * 4 // 3 + 4:
        return f"image: {name}: {len(text):,} signs of base64; at most {MOST_BYTES:,} bytes are read"
    plain = re.sub(r"\s+", "", text).translate(str.maketrans("-_", "+/"))
    try:
        return _held(name, base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True))
    except (binascii.Error, ValueError) as error:
        return f"image: {reprlib.repr(text)}: no base64 ({error})"


def finding(rows: Path, root: Path | None) -> Find:
    """The function from names to pictures in ``root`` (a folder or a zip file), else beside the rows."""
    if root is not None and root.is_file():
        return lambda name: _in_zip(root, name)
    base = (root or rows.absolute().parent).resolve()
    inside = (rows.absolute().name,) if root is None and rows.is_dir() else ()
    find = finder(Place(rows, (base,), (*inside, "", "images")))

    def found(name: str) -> Source | str:
        archive, ending, member = name.partition(".zip/")
        if not ending:
            return find(name)
        file = find(archive + ".zip")
        return file if isinstance(file, str) else _in_zip(file, member)

    return found


def _in_zip(file: Path, name: str) -> Source | str:
    try:
        there = members(file)
    except (OSError, BadPicture) as error:
        return f"image: {reprlib.repr(name)}: {file}: {error}"
    return Member(file, name) if name in there else f"image: {reprlib.repr(name)}: no such file in {file}"


def answer(cell: Any) -> Any:
    """A text, or a tuple of accepted ones; numbers as text. Anything else stays, and is refused with its row."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        inner = _json_or(cell)
        cell = inner if isinstance(inner, list) and any(isinstance(one, str) for one in inner) else cell  # not [1, 2]
    if isinstance(cell, list | tuple):
        return tuple(answer(one.get("answer", one) if isinstance(one, Mapping) else one) for one in cell)
    if isinstance(cell, float) and math.isfinite(cell):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 10**15 else repr(cell)
    return cell


def identity(cell: Any) -> Any:
    """An id as text: 3.0 is what a table makes of 3 in a column with gaps."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def metadata(cell: Any) -> Mapping[str, Any]:
    """A mapping, or one in JSON. Raises ValueError for anything else, and for names that mean something to ekipl."""
    found = _json_or(cell) if isinstance(cell, str) else cell
    if found is None:
        return {}
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"metadata: {reprlib.repr(cell)}: not a mapping")
    if taken := [key for key in RESERVED if key in found]:
        raise ValueError(f"metadata: {', '.join(taken)}: names of ekipl's own; choose others")
    if found.get("scene") is not None:
        try:
            reaches(found["scene"], [])
        except Exception as error:  # whatever a strange scene leads to
            raise ValueError(f"metadata: scene: not as docs/tasks.md describes it ({type(error).__name__})") from error
    return {key: value for key, value in found.items() if value is not None}


def is_conversation(cell: Any) -> bool:
    """Whether a cell is a list of turns: {from, value} of LLaVA, or {role, content}."""
    turns = _json_or(cell) if isinstance(cell, str) and cell.lstrip().startswith("[{") else cell
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(
            isinstance(turn, Mapping) and ({"from", "value"} <= turn.keys() or {"role", "content"} <= turn.keys())
            for turn in turns
        )
    )


def conversation(cell: Any) -> tuple[str, str | None]:
    """The question and, where it is given, the answer of a conversation of one turn each; a system's text comes first.

    Raises:
        ValueError: it is no conversation, or one of several turns.
    """
    if not is_conversation(cell):
        raise ValueError(f"{reprlib.repr(cell)}: no conversation; give turns such as {{from: human, value: ...}}")
    said = [_turn(turn) for turn in (_json_or(cell) if isinstance(cell, str) else cell)]
    order = "".join(who[0] for who, _ in said)
    if order.lstrip("s") not in ("u", "ua") or order.count("s") > 1:
        raise ValueError(
            f"{len(said)} turns ({', '.join(who for who, _ in said)}); one question and one answer are read"
        )
    question = "\n".join(text for who, text in said if who != "assistant")
    return question, next((text for who, text in said if who == "assistant"), None)


def _turn(turn: Mapping[str, Any]) -> Turn:
    who, content = (turn["from"], turn["value"]) if "from" in turn else (turn["role"], turn["content"])
    if who not in SPEAKERS:
        raise ValueError(f"{reprlib.repr(who)}: no speaker; known are {', '.join(SPEAKERS)}")
    if isinstance(content, list):
        content = "".join(_part(part) for part in content)
    if not isinstance(content, str):
        raise ValueError(f"{reprlib.repr(content)}: not the text of a turn")
    return SPEAKERS[who], content


def _part(part: Any) -> str:
    """A part of a turn in the form of chat templates: text, or a picture."""
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(part, Mapping) and part.get("type") in ("image", "image_url"):
        return MARKER
    raise ValueError(f"{reprlib.repr(part)}: neither text nor image")


def _json_or(text: str) -> Any:
    """The value of a text of JSON; the text itself if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
