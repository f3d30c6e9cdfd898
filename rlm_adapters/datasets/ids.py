"""Remember on disk which rows were seen and answered, so that memory does not grow with the data set."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from typing import Final

_BATCH: Final = 10_000  # changes in one transaction; the database is private to this process and may be lost with it


class Ids:
    """Two sets of ids in a temporary database, which SQLite removes after the last use. Thread-safe; blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)  # "": a temporary file
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("PRAGMA journal_mode=OFF")
        for name in ("seen", "answered"):
            self._database.execute(f"CREATE TABLE {name} (id BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")
        self._changes = 0

    def see(self, id: str | int) -> bool:  # noqa: A002 - as in `Row`
        """Add an id of the data; False if it was there before."""
        return bool(self._change("INSERT OR IGNORE INTO seen VALUES (?)", id))

    def forget_seen(self) -> None:
        """Start again with the data."""
        with self._lock:
            self._database.execute("DELETE FROM seen")

    def answer(self, id: str | int) -> None:  # noqa: A002
        """Mark a row as answered, so that it is not asked."""
        self._change("INSERT OR IGNORE INTO answered VALUES (?)", id)

    def ask_again(self, id: str | int) -> None:  # noqa: A002
        """Mark a row to be asked again."""
        self._change("DELETE FROM answered WHERE id = ?", id)

    def is_answered(self, id: str | int) -> bool:  # noqa: A002
        """Whether a row is marked as answered."""
        with self._lock:
            found = self._database.execute("SELECT 1 FROM answered WHERE id = ?", (_key(id),)).fetchone()
        return found is not None

    def close(self) -> None:
        """Remove the database."""
        with self._lock:
            self._database.close()

    def _change(self, statement: str, id: str | int) -> int:  # noqa: A002
        with self._lock:
            changed = self._database.execute(statement, (_key(id),)).rowcount
            self._changes += 1
            if self._changes % _BATCH == 0:
                self._database.execute("COMMIT")
                self._database.execute("BEGIN")
        return changed


def _key(id: str | int) -> bytes:  # noqa: A002
    """A key of fixed size for an id. The number 1 and the text "1" have different keys."""
    return hashlib.sha256(json.dumps(id).encode()).digest()[:16]
