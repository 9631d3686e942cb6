"""Answers that were paid for, kept across runs: none is asked for twice."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ekipl.errors import UsageError
from ekipl.external.client import Completion
from ekipl.external.store import Database

SCHEMA = 1  # goes up when the same key would mean another question
ROOM = 16 * 2**20  # bytes on the disk for the answers of calls that are under way: they are paid for before they come

_TABLES = ("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL)",)


def key_of(
    model: str,
    api_base: str | None,
    messages: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    sample: int,
) -> str:
    """The name of one answer: SHA-256 of everything that it depends on.

    Args:
        model: the provider's name of it.
        api_base: a model of the same name behind another address is another model.
        messages: with digests of pixels in place of images.
        parameters: what is sent along.
        sample: its number, or all samples of a problem would be one.
    """
    parts = [SCHEMA, model, api_base, messages, parameters, sample]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()


class Cache:
    """Completions by key, in a SQLite file that many processes may use at once; values are JSON."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file, and a lock file beside it. Raises UsageError when it cannot be used."""
        self._database = Database(path, "external.cache", _TABLES)
        self._locks = path.with_name(f"{path.name}.lock").open("ab")
        self._path = path
        self._claimed: set[str] = set()

    def get(self, key: str) -> Completion | None:
        """The answer, also one that a provider left empty or filtered."""
        found = self._database.rows("SELECT value FROM answers WHERE key = ?", key)
        if not found:
            return None
        value = json.loads(found[0][0])
        return Completion(**{name: value[name] for name in Completion.__dataclass_fields__ if name in value})

    def put(self, key: str, completion: Completion, usd: float | None) -> None:
        """Keeps the answer, with what it cost (None: unknown) and the time."""
        value = json.dumps({**completion.__dict__, "usd": usd, "time": time.time()})
        self._database.rows("INSERT OR IGNORE INTO answers VALUES (?, ?)", key, value)

    def claim(self, key: str) -> bool:
        """Whether the caller shall ask: no other process, and nobody in this one, is asking for ``key`` right now.

        One Cache a file and process: when a second one is closed, the system drops the claims of the first.
        A claim is a lock of the operating system on one byte, at an offset made from the key: it ends with its
        process, however that ends. Who is told no asks again later; by then the answer is there, or the claim is free.

        Raises:
            UsageError: an answer could not be kept: the disk is full, or its file system has no locks.
        """
        if shutil.disk_usage(self._path.parent).free < ROOM:
            raise UsageError(
                f"external.cache: {self._path}: less than {ROOM / 2**20:.0f} MiB are free on its disk, and an answer "
                "that cannot be kept is paid for again; make room, or name another file"
            )
        if key in self._claimed:
            return False
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise UsageError(
                f"external.cache: {self._path}: no file locks here; name a file on a local disk"
            ) from error
        self._claimed.add(key)
        return True

    def release(self, key: str) -> None:
        """Gives a claim back."""
        self._claimed.discard(key)
        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _offset(key))

    def close(self) -> None:
        """Closing twice is fine."""
        self._database.close()
        self._locks.close()


def _offset(key: str) -> int:
    return int(key[:15], 16)  # 60 bits: below the largest offset of a file
