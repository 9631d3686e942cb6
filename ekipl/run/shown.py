"""From actions files and scores to problems with their answers, one at a time: files may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ekipl.algorithm.types import POLICY, Action, Finish, Reward
from ekipl.data.pictures import BadPicture, decode
from ekipl.data.sources import content_of
from ekipl.errors import UsageError
from ekipl.files import parse_line
from ekipl.report.html.parts import Shown
from ekipl.report.statement import Statement
from ekipl.run.records import Record, stream_actions
from ekipl.run.thumbnails import FOLDER, thumbnail

SMALL = 200_000  # bytes of a copy that is taken as it is
Statements = Mapping[tuple[str, str], Statement]  # by split and problem


def groups_of(path: Path) -> list[Shown]:
    """The groups of a training step."""
    return list(shown_in(path))


def shown_in(path: Path, model: str | None = None) -> Iterator[Shown]:
    """The problems of an actions file with their answers, those of one model if it is named."""
    records = (record for record in stream_actions(path) if model is None or model_of(record) == model)
    for (split, problem), found in groupby(records, lambda record: (record.split, record.action.problem_id)):
        rows = list(found)
        yield Shown(
            id=problem,
            split=split,
            statement=rows[0].statement,
            actions=tuple(record.action for record in rows),
            kept=tuple(record.kept for record in rows),
            advantages=tuple(record.advantage for record in rows),
            refused=rows[0].refused,
        )


def model_of(record: Record) -> str:
    """The model that gave an answer: the policy's path, or the external model's name."""
    return str(record.sampling.get("model", POLICY)) if record.action.source == POLICY else record.action.source


def models_in(path: Path) -> list[str]:
    """The models of an actions file, in order of appearance."""
    return list(dict.fromkeys(map(model_of, stream_actions(path))))


def statements_in(path: Path) -> dict[tuple[str, str], Statement]:
    """What the problems of an actions file say; images are made absolute, for another run may show them."""
    found: dict[tuple[str, str], Statement] = {}
    for record in stream_actions(path):
        key = (record.split, record.action.problem_id)
        if record.statement is not None and key not in found:
            images = tuple(str(path.parent.absolute() / name) for name in record.statement.images)
            found[key] = replace(record.statement, images=images)
    return found


def rows_in(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, one at a time. Raises UsageError for one that cannot be read."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    yield parse_line(line)
            except ValueError as error:
                raise UsageError(f"{path}:{number}: {error}; write the file again") from error


def scored_in(path: Path, model: str, statements: Statements) -> Iterator[Shown]:
    """The problems of a ``scores.jsonl`` with the answers of a model."""
    rows = (row for row in rows_in(path) if row.get("model") == model)
    for (split, problem), found in groupby(rows, lambda row: (str(row.get("split")), str(row.get("problem")))):
        kept = list(found)
        said = statements.get((split, problem)) or _said(kept[0])
        none = (None,) * len(kept)
        failed = [str(row["error"]) for row in kept if row.get("error")]
        refused = {reason: failed.count(reason) for reason in failed}
        yield Shown(problem, split, said, tuple(map(_action, kept)), none, none, refused)


def _said(row: Mapping[str, Any]) -> Statement:
    family = row.get("family")
    return Statement(
        str(row.get("question") or ""), str(row.get("answer") or ""), None if family is None else str(family)
    )


def _action(row: Mapping[str, Any]) -> Action:
    well_formed, accuracy = row.get("format"), row.get("accuracy")
    detail = {str(key): float(value) for key, value in (row.get("detail") or {}).items()}
    reward = None if well_formed is None or accuracy is None else Reward(float(well_formed), float(accuracy), detail)
    length = row.get("length")
    tokens = (0,) * length if isinstance(length, int) else None
    finish: Finish = "length" if row.get("finish") == "length" else "stop"
    index = int(row.get("sample") or 0)
    return Action(str(row["problem"]), str(row["model"]), index, str(row.get("text", "")), finish, tokens, None, reward)


def images_of(directory: Path, roots: Iterable[Path]) -> Callable[[str], bytes | None]:
    """The image of a name as WebP, from the run directory and the folders of its data alone: names are not trusted."""
    here = directory.resolve()
    allowed = [here, *(root.expanduser().resolve() for root in roots)]

    def image(name: str) -> bytes | None:
        try:
            path = (directory / name).resolve()
            if not any(path.is_relative_to(root) for root in allowed) or not path.is_file():
                return None
            if path.parent.name == FOLDER and path.suffix == ".webp" and path.stat().st_size <= SMALL:
                return path.read_bytes()
            return thumbnail(decode(content_of(path)))
        except (OSError, ValueError, RuntimeError, BadPicture):
            return None

    return image
