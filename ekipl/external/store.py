"""The cache of paid answers, and the SQLite file behind it and behind the ledger."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ekipl.errors import UsageError
from ekipl.external.request import Completion
from ekipl.masking import without_password

SCHEMA = 1  # part of every key; raise it when the same key would mean another question
ROOM = 16 * 2**20  # bytes that must be free on the disk before a call, so that its answer can be stored
PATIENCE_S = 60.0  # for the transactions of other processes, which take milliseconds
# SQLite's write-ahead log needs memory that its users share, so it does not work on file systems of several machines.
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "afs", "fuse.glusterfs", "fuse.sshfs")

_STORED = TypeAdapter(Completion)
_FIELDS = {field.name for field in fields(Completion)}
_TABLES = ("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL)",)


class Database:
    """One connection to a SQLite file that many processes write at once.

    Committed transactions survive ``kill -9`` of any process. A power cut may lose the last few.
    """

    def __init__(self, path: Path | None, setting: str, tables: Sequence[str]) -> None:
        """Opens or creates the file.

        Args:
            path: None = in memory.
            setting: the setting that names the file, for error messages.
            tables: statements that create missing tables.

        Raises:
            UsageError: the file cannot be used.
        """
        self._name = f"{setting}: {path}"
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self._name}: {error.strerror}; name another file") from error
        with self._usage_errors():
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            is_shared = path is not None and file_system(path.parent) in NETWORK
            self._set_journal_mode("DELETE" if is_shared else "WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            with self.transaction():
                for statement in tables:
                    self._connection.execute(statement)

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """All rows of one statement, which is a transaction of its own outside ``transaction``. Raises UsageError."""
        with self._usage_errors():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits the statements in the block together, or none of them; other processes see no state in between."""
        self.rows("BEGIN IMMEDIATE")
        try:
            yield
            self.rows("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full
                self.rows("ROLLBACK")
            raise

    def close(self) -> None:
        """Closes the connection; may be called twice."""
        self._connection.close()

    def _set_journal_mode(self, mode: str) -> None:
        """Sets WAL (readers do not wait for a writer) or DELETE. SQLite does not wait for this lock, so retry here."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._connection.execute(f"PRAGMA journal_mode = {mode}")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    @contextmanager
    def _usage_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UsageError(f"{self._name}: {error}; make room or access for it, or name another file") from error


def file_system(folder: Path) -> str:
    """Linux's name for the type of the file system of ``folder``; empty where it is unknown."""
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2] == number), "")


def key_of(
    model: str,
    api_base: str | None,
    messages: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    sample: int,
) -> str:
    """The cache key of one answer: SHA-256 (hex) of everything that the answer depends on.

    The same name at another ``api_base`` is another model. ``messages`` have digests of pixels in place of images.
    ``sample`` gives the samples of a problem different keys.
    """
    address = api_base and without_password(api_base)  # a new password gets the same answers
    parts = [SCHEMA, model, address, messages, parameters, sample]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()


class Cache:
    """Completions by key, for all runs: no answer is paid for twice.

    Many processes use the file at once. To keep two of them from paying for the same answer, a process **claims** a
    key before it sends the call, looks into the cache once more, and releases the claim when the answer is stored. A
    claim is an operating-system lock on one byte of a lock file, at an offset derived from the key. The system drops
    the lock when its process ends, however it ends, so a killed process never blocks a key.

    Such locks belong to the process: closing a second ``Cache`` of the same file drops the claims of the first. Open
    one per file and process.
    """

    def __init__(self, path: Path, setting: str = "external.cache") -> None:
        """Opens or creates the file and its lock file ``NAME.lock``; ``setting`` names it, for messages.

        Raises:
            UsageError: it cannot be used.
        """
        self._database = Database(path, setting, _TABLES)
        self._setting = setting
        self._locks = path.with_name(f"{path.name}.lock").open("ab")
        self._path = path
        self._claimed: set[str] = set()

    def get(self, key: str) -> Completion | None:
        """The stored answer, which may be faulty (empty or filtered): it was paid for as well.

        Raises:
            UsageError: its value is not what was written.
        """
        found = self._database.rows("SELECT value FROM answers WHERE key = ?", key)
        if not found:
            return None
        try:
            value = json.loads(found[0][0])
            return _STORED.validate_python({name: value[name] for name in _FIELDS & value.keys()})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{self._setting}: {self._path}: the value of the key {key} is not what was written; remove it "
                f"(sqlite3 {self._path} \"DELETE FROM answers WHERE key = '{key}'\") to ask again, or name another file"
            ) from error

    def put(self, key: str, completion: Completion, usd: float | None) -> None:
        """Stores the answer with its cost (None = unknown) and the time. An answer already stored stays."""
        value = json.dumps({**completion.__dict__, "usd": usd, "time": time.time()})
        self._database.rows("INSERT OR IGNORE INTO answers VALUES (?, ?)", key, value)

    def claim(self, key: str) -> bool:
        """Whether the caller now holds the claim on ``key``.

        On False, retry later: the answer will be in the cache, or the claim will have been released.

        Raises:
            UsageError: an answer could not be stored because the disk is full, or the file system has no locks.
        """
        if shutil.disk_usage(self._path.parent).free < ROOM:
            raise UsageError(
                f"{self._setting}: {self._path}: less than {ROOM / 2**20:.0f} MiB are free on its disk, and an answer "
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
                f"{self._setting}: {self._path}: no file locks here; name a file on a local disk"
            ) from error
        self._claimed.add(key)
        return True

    def release(self, key: str) -> None:
        """Releases a claim."""
        self._claimed.discard(key)
        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _offset(key))

    def close(self) -> None:
        """Closes both files; may be called twice."""
        self._database.close()
        self._locks.close()


def _offset(key: str) -> int:
    return int(key[:15], 16)  # 60 bits: below the largest offset of a file
