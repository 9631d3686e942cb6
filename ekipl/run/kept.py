"""Completions that ``eval`` and ``passk`` keep as they come, so that a stopped command goes on from where it was.

They are appended to ``actions.jsonl.partial``, which is renamed when all are there. ``unfinished`` beside it says what
they are completions of: the settings and the files of the models. The same command finds them again, in its own folder
or in one beside it, however it ended: by Ctrl-C, by ``kill -9`` or with a full disk.
"""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.algorithm.seams import Decoding, Grader
from ekipl.algorithm.types import Problem
from ekipl.errors import UsageError
from ekipl.files import atomic_write, write_text
from ekipl.run.actions_io import draw_model, rewarded
from ekipl.run.code import digests
from ekipl.run.records import Record, line_of, read_actions, write_actions
from ekipl.run.sampling import Progress, grade_drawn
from ekipl.run.signals import lock_directory

if TYPE_CHECKING:
    from ekipl.config import Settings

ACTIONS, PARTIAL, MARK = "actions.jsonl", "actions.jsonl.partial", "unfinished"
Key = tuple[str, str, str]  # model, split, problem


def sample_models(
    settings: Settings,
    directory: Path,
    paths: Sequence[str],
    decoding: Decoding,
    problems: Mapping[str, Sequence[Problem]],
    samples: int,
    grade: Grader,
    progress: Progress,
) -> Path:
    """The file with the graded completions of all models; those of a stopped command are not sampled again.

    ``progress`` gets the number of problems done since its last call. Raises UsageError when ``directory`` holds
    completions of another command.
    """
    with lock_directory(directory), _told_when_interrupted(directory):
        done = _taken_up(directory, _identity(directory / "config.yaml", paths, digests(settings)), samples)
        progress(len(done))

        def records() -> Iterator[Record]:
            for path in paths:
                missing = [Missing(split, path, name, done) for name, split in problems.items()]
                drawn = draw_model(settings, path, decoding, missing, samples, progress)
                for one, scores in grade_drawn(grade, drawn, lambda one: (one.problem, one.actions)):
                    yield from rewarded(one, scores, settings.seed, directory)

        write_actions(directory / ACTIONS, records(), append=True)
        (directory / MARK).unlink()
    return directory / ACTIONS


class Missing(Sequence[Problem]):
    """The problems of a split that a model has no completions of yet; each is read when it is asked for."""

    def __init__(self, problems: Sequence[Problem], model: str, split: str, done: set[Key]) -> None:
        """``done`` are the problems that have theirs."""
        known = {problem for path, name, problem in done if (path, name) == (model, split)}
        self._problems = problems
        self._places = [i for i in range(len(problems)) if not known or problems[i].id not in known]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Problem:  # type: ignore[override]
        return self._problems[self._places[place]]


def _identity(config: Path, paths: Sequence[str], code: Mapping[str, str]) -> str:
    """What completions depend on, as a digest: settings, own code, and names, sizes and times of the models' files."""
    digest = hashlib.sha256(config.read_bytes())
    if code:
        digest.update(repr(sorted(code.items())).encode())
    for path in paths:
        folder = Path(path).expanduser()
        files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
        stats = [(str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        digest.update(repr((path, stats)).encode())
    return digest.hexdigest()


def _taken_up(directory: Path, identity: str, samples: int) -> set[Key]:
    """The problems that a stopped command has all completions of; its file lies in ``directory`` afterwards."""
    partial, mark = directory / PARTIAL, directory / MARK
    if partial.exists() and not partial.stat().st_size:  # of a command that had begun nothing
        partial.unlink()
    if partial.exists() and _text(mark) != identity:
        raise UsageError(
            f"hydra.run.dir: {directory}: holds completions of a command that was stopped and had other settings or "
            f"another model; give the same to go on with it, another directory, or remove {partial}"
        )
    if not partial.exists():
        for other in directory.parent.iterdir():
            if other != directory and (other / PARTIAL).is_file() and _text(other / MARK) == identity:
                _move(other, directory)
    write_text(mark, identity)
    if not partial.exists():
        return set()
    return _whole_problems(partial, samples)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _move(other: Path, directory: Path) -> None:
    """Take over the completions of ``other``, unless its command is still at work."""
    try:
        with lock_directory(other):
            (other / PARTIAL).rename(directory / PARTIAL)
            (other / MARK).unlink()
    except (UsageError, OSError):
        return
    print(f"ekipl: goes on with the completions in {other}, where this command was stopped", file=sys.stderr)


def _whole_problems(partial: Path, samples: int) -> set[Key]:
    """The problems of which the file holds all samples; the rest of it, with a torn last line, is cut off."""
    content = partial.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with atomic_write(partial) as file:
            file.write(whole)
    found: dict[Key, list[Record]] = defaultdict(list)
    for record in read_actions(partial):
        found[str(record.sampling["model"]), record.split, record.action.problem_id].append(record)
    done = {key: records for key, records in found.items() if len(records) >= samples}
    if len(done) < len(found):
        with atomic_write(partial) as file:
            file.writelines(line_of(record) for records in done.values() for record in records)
    return set(done)


@contextmanager
def _told_when_interrupted(directory: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print(
            f"ekipl: the completions so far are kept in {directory}; the same command goes on from there",
            file=sys.stderr,
        )
        raise
