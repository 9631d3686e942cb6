"""All pictures that a run will read are inspected before its first step: in parallel, and decoded once per content.

A cache (SQLite) knows a file by path, size and time of change, and a content by its digest. A file that has not changed
is not opened; one that was touched, moved or copied, and bytes that do not stand in a file of their own, are read but
not decoded.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from PIL import __version__

from ekipl.data.pictures import RULES, BadPicture, Size, inspected, measure
from ekipl.data.sources import Held, Source, content_of, opened

Check = Literal["pixels", "headers"]
T = TypeVar("T")
AT_ONCE = 1024  # files in one question to the cache
VERDICTS = f"{RULES}/{__version__}"  # verdicts of other rules or another decoder are not used

_TABLES = """
create table if not exists files (path text primary key, size integer, changed integer, digest text);
create table if not exists contents (digest text, rules text, width integer, height integer, fault text,
                                     primary key (digest, rules));
"""


@dataclass(frozen=True)
class Picture:
    """A usable picture: its upright size, and a digest of its bytes ("" where only a file's header was read)."""

    size: Size
    digest: str


Verdict = Picture | str  # or the reason why the file cannot be used
Known = Callable[[str], Verdict | None]  # the verdict on the content with a digest


@dataclass(frozen=True)
class _Known:
    """A picture as it was inspected, for the cache; ``file`` is its path, size and time of change if it is a file."""

    file: tuple[str, int, int] | None
    digest: str
    verdict: Verdict


Look = Callable[[Sequence[Source]], dict[Source, Verdict]]


def inspect(sources: Sequence[Source], check: Check, cache: Path | None) -> dict[Source, Verdict]:
    """The verdict on each picture, in one call of ``inspecting``."""
    with inspecting(check, cache) as look:
        return look(sources)


@contextmanager
def inspecting(check: Check, cache: Path | None) -> Iterator[Look]:
    """A function from pictures to the verdict on each; a picture that stands twice in a call is read once.

    Args:
        check: ``pixels`` decodes each picture that the cache does not know; ``headers`` reads only its size, and uses
            no cache.
        cache: file that keeps the verdicts for all runs; None = not kept.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # Pillow's: too many pixels are a verdict, odd EXIF data are passed over
        pool = stack.enter_context(ThreadPoolExecutor(workers))  # decoding and hashing release Python's lock
        if check == "headers":
            yield lambda sources: _each(pool, _by_header, list(dict.fromkeys(sources)))
            return
        store = stack.enter_context(_store(cache))
        yield partial(_look, pool, store, _verdicts(store))


def _look(
    pool: ThreadPoolExecutor,
    store: sqlite3.Connection,
    known: Known,
    sources: Sequence[Source],
) -> dict[Source, Verdict]:
    wanted = list(dict.fromkeys(sources))
    digests = _unchanged(store, [source for source in wanted if isinstance(source, Path)])
    found: dict[Source, Verdict] = {}
    for path, digest in digests.items():
        if (verdict := known(digest)) is not None:
            found[path] = verdict
    fresh: list[_Known] = []
    for source, one in _each(pool, partial(_by_content, known=known), [s for s in wanted if s not in found]).items():
        found[source] = one if isinstance(one, str) else one.verdict
        fresh += [] if isinstance(one, str) else [one]
    _keep(store, fresh)
    return found


def _each(pool: ThreadPoolExecutor, look: Callable[[Source], T], sources: Sequence[Source]) -> dict[Source, T]:
    return dict(zip(sources, pool.map(look, sources), strict=True))


def _by_header(source: Source) -> Verdict:
    try:
        digest = _digest(source.content) if isinstance(source, Held) else ""
        with opened(source) as file:
            return Picture(measure(file), digest)
    except BadPicture as bad:
        return str(bad)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _by_content(source: Source, known: Known) -> _Known | str:
    """The picture as the cache will know it, or why it cannot be read at all."""
    try:
        file = _facts(source) if isinstance(source, Path) else None
        content = content_of(source)
    except (OSError, BadPicture) as bad:
        return getattr(bad, "strerror", None) or str(bad)
    digest = _digest(content)
    verdict = known(digest)
    if verdict is None:
        try:
            verdict = Picture(inspected(content), digest)
        except BadPicture as bad:
            verdict = str(bad)
    return _Known(file, digest, verdict)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _facts(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return _name(path), status.st_size, status.st_mtime_ns


# --- the cache ---


@contextmanager
def _store(path: Path | None) -> Iterator[sqlite3.Connection]:
    """The cache, locked: another process that inspects the same files waits, and finds them done."""
    with ExitStack() as stack:
        yield stack.enter_context(closing(_connected(path, stack)))


def _connected(path: Path | None, stack: ExitStack) -> sqlite3.Connection:
    """A cache that cannot be used (read-only, damaged) only costs time: one in memory takes its place."""
    if path is not None:
        with suppress(OSError, sqlite3.Error):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(path.with_name(f"{path.name}.lock").open("w"))
            with suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            store = sqlite3.connect(path, timeout=60, check_same_thread=False)
            store.executescript(_TABLES)
            return store
    store = sqlite3.connect(":memory:", check_same_thread=False)
    store.executescript(_TABLES)
    return store


def _verdicts(store: sqlite3.Connection) -> Known:
    """The function from a digest to the verdict under the present rules, for all threads."""
    lock = threading.Lock()

    def known(digest: str) -> Verdict | None:
        with suppress(sqlite3.Error), lock:
            query = "select width, height, fault from contents where digest = ? and rules = ?"
            row = store.execute(query, (digest, VERDICTS)).fetchone()
            return row and (row[2] or Picture((row[0], row[1]), digest))
        return None

    return known


def _unchanged(store: sqlite3.Connection, paths: Sequence[Path]) -> dict[Path, str]:
    """The digests of the files that have the size and the time that the cache knows."""
    found: dict[Path, str] = {}
    with suppress(sqlite3.Error):
        for chunk in (paths[start : start + AT_ONCE] for start in range(0, len(paths), AT_ONCE)):
            slots = ",".join("?" * len(chunk))
            query = f"select path, size, changed, digest from files where path in ({slots})"  # noqa: S608 - only slots
            rows = store.execute(query, [_name(path) for path in chunk])
            known = {name: (size, changed, digest) for name, size, changed, digest in rows}
            for path in chunk:
                with suppress(OSError, KeyError):
                    if _facts(path) == (_name(path), *known[_name(path)][:2]):
                        found[path] = known[_name(path)][2]
    return found


def _keep(store: sqlite3.Connection, known: Sequence[_Known]) -> None:
    files = [(*one.file, one.digest) for one in known if one.file]
    contents = [(one.digest, VERDICTS, *_stored(one.verdict)) for one in known]
    with suppress(sqlite3.Error), store:  # a full disk
        store.executemany("insert or replace into files values (?, ?, ?, ?)", files)
        store.executemany("insert or replace into contents values (?, ?, ?, ?, ?)", contents)


def _stored(verdict: Verdict) -> tuple[int | None, int | None, str | None]:
    return (*verdict.size, None) if isinstance(verdict, Picture) else (None, None, verdict)


def _name(path: Path) -> str:
    """The path as text that SQLite can hold, whatever its bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
