"""All pictures that a run will read are inspected before its first step: in parallel, and once per content.

A cache (SQLite) knows a file by path, size and time of change, and a content by its digest. A file that has not changed
is not opened; one that was touched, moved or copied is read but not decoded.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from PIL import __version__

from ekipl.data.pictures import RULES, BadPicture, Size, content_of, decode, measure
from ekipl.progress import progress

Check = Literal["pixels", "headers"]
T = TypeVar("T")
AT_ONCE = 1024  # files between two writes of the cache, so that Ctrl-C loses little
BAR_FROM = 256  # files to read; for fewer a progress bar would only flicker
VERDICTS = f"{RULES}/{__version__}"  # verdicts of other rules or another decoder are not used

_TABLES = """
create table if not exists files (path text primary key, size integer, changed integer, digest text);
create table if not exists contents (digest text, rules text, width integer, height integer, fault text,
                                     primary key (digest, rules));
"""


@dataclass(frozen=True)
class Picture:
    """A usable picture: its upright size, and a digest of its file ("" where only the header was read)."""

    size: Size
    digest: str


Verdict = Picture | str  # or the reason why the file cannot be used


@dataclass(frozen=True)
class _Known:
    """A file as it was inspected, for the cache."""

    path: Path
    size: int
    changed: int
    digest: str
    verdict: Verdict


def inspect(paths: Sequence[Path], check: Check, cache: Path | None) -> dict[Path, Verdict]:
    """The verdict on each file.

    Args:
        paths: files; a path that stands there twice is read once.
        check: ``pixels`` decodes each file that the cache does not know; ``headers`` reads only its size, and uses no
            cache.
        cache: file that keeps the verdicts for all runs; None = not kept.
    """
    wanted = list(dict.fromkeys(paths))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: too many pixels are a verdict, odd EXIF data are passed over
        if check == "headers":
            return dict(_all(_by_header, wanted))
        with _store(cache) as store:
            contents = _contents(store)
            digests = _unchanged(store, wanted)
            found = {path: contents[digest] for path, digest in digests.items() if digest in contents}
            fresh: list[_Known] = []
            for path, one in _all(partial(_by_content, contents=contents), [p for p in wanted if p not in found]):
                found[path] = one if isinstance(one, str) else one.verdict
                fresh += [] if isinstance(one, str) else [one]
                if len(fresh) >= AT_ONCE:
                    _keep(store, fresh)
                    fresh.clear()
            _keep(store, fresh)
            return found


def _all(look: Callable[[Path], T], paths: Sequence[Path]) -> Iterator[tuple[Path, T]]:
    """Each path with ``look(path)``, in order; decoding and hashing release Python's lock."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    is_long = len(paths) >= BAR_FROM
    with (
        ThreadPoolExecutor(workers) as pool,
        progress(len(paths), "checking pictures", unit="picture", shown=is_long, brief=True) as advance,
    ):
        for start in range(0, len(paths), AT_ONCE):
            chunk = paths[start : start + AT_ONCE]
            for path, found in zip(chunk, pool.map(look, chunk), strict=True):
                advance(1)
                yield path, found


def _by_header(path: Path) -> Verdict:
    try:
        return Picture(measure(path), "")
    except BadPicture as bad:
        return str(bad)


def _by_content(path: Path, contents: Mapping[str, Verdict]) -> _Known | str:
    """The file as the cache will know it, or why it cannot be read at all."""
    try:
        status = path.stat()
        content = content_of(path)
    except (OSError, BadPicture) as bad:
        return getattr(bad, "strerror", None) or str(bad)
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    verdict = contents.get(digest)
    if verdict is None:
        try:
            verdict = Picture(decode(content).size, digest)
        except BadPicture as bad:
            verdict = str(bad)
    return _Known(path, status.st_size, status.st_mtime_ns, digest, verdict)


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
            store = sqlite3.connect(path, timeout=60)
            store.executescript(_TABLES)
            return store
    store = sqlite3.connect(":memory:")
    store.executescript(_TABLES)
    return store


def _contents(store: sqlite3.Connection) -> dict[str, Verdict]:
    """The verdicts under the present rules, by digest."""
    with suppress(sqlite3.Error):
        rows = store.execute("select digest, width, height, fault from contents where rules = ?", (VERDICTS,))
        return {digest: fault or Picture((width, height), digest) for digest, width, height, fault in rows}
    return {}


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
                    size, changed, digest = known[_name(path)]
                    if (status := path.stat()).st_size == size and status.st_mtime_ns == changed:
                        found[path] = digest
    return found


def _keep(store: sqlite3.Connection, known: Sequence[_Known]) -> None:
    files = [(_name(one.path), one.size, one.changed, one.digest) for one in known]
    contents = [
        (one.digest, VERDICTS, *(one.verdict.size if isinstance(one.verdict, Picture) else (None, None)), _fault(one))
        for one in known
    ]
    with suppress(sqlite3.Error), store:  # a full disk
        store.executemany("insert or replace into files values (?, ?, ?, ?)", files)
        store.executemany("insert or replace into contents values (?, ?, ?, ?, ?)", contents)


def _fault(known: _Known) -> str | None:
    return None if isinstance(known.verdict, Picture) else known.verdict


def _name(path: Path) -> str:
    """The path as text that SQLite can hold, whatever its bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
