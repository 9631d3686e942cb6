"""A SQLite file that many processes write at once and that no ``kill -9`` harms."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ekipl.errors import UsageError

PATIENCE_S = 60.0  # for other processes' transactions, which take milliseconds
# A write-ahead log has shared memory in it: of one machine. Homes and run directories of clusters are shared by many.
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "afs", "fuse.glusterfs", "fuse.sshfs")


class Database:
    """One connection. Committed is what a killed process leaves; a power cut may take the last moments with it."""

    def __init__(self, path: Path | None, setting: str, tables: Sequence[str]) -> None:
        """Opens or makes the file.

        Args:
            path: None keeps it in memory.
            setting: which names the file, for messages.
            tables: statements that make what is not there yet.

        Raises:
            UsageError: the file cannot be used.
        """
        self._told = f"{setting}: {path}"
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self._told}: {error.strerror}; name another file") from error
        with self._in_words():
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            is_shared = path is not None and file_system(path.parent) in NETWORK
            self._keep_journal("DELETE" if is_shared else "WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            with self.transaction():
                for statement in tables:
                    self._connection.execute(statement)

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """All rows of a query, or of one statement that is a transaction by itself."""
        with self._in_words():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is run inside happens as a whole, with no other process in between, or not at all."""
        self.rows("BEGIN IMMEDIATE")
        try:
            yield
            self.rows("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self.rows("ROLLBACK")
            raise

    def close(self) -> None:
        """Closing twice is fine."""
        self._connection.close()

    def _keep_journal(self, mode: str) -> None:
        """With WAL readers do not wait for a writer. The switch itself does not wait for others, so this does."""
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
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UsageError(f"{self._told}: {error}; make room or access for it, or name another file") from error


def file_system(folder: Path) -> str:
    """The type of the file system that ``folder`` is on, as Linux names it; empty where nobody says."""
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2] == number), "")
