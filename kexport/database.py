"""The journal's one SQLite file: its tables, and how it is opened. Raises sqlite3.Error as it comes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

APPLICATION_ID = 0x6B657870  # "kexp"
SCHEMA_VERSION = 1
CHECK_BYTES = 64 << 20  # a whole-file check below this size costs a fraction of a second

SERVED = "CREATE TABLE served (key TEXT PRIMARY KEY, resource BLOB NOT NULL) WITHOUT ROWID"
_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, position BLOB NOT NULL);
CREATE TABLE objects (stream INTEGER NOT NULL, key TEXT NOT NULL, uid TEXT NOT NULL, version TEXT NOT NULL,
                      PRIMARY KEY (stream, key)) WITHOUT ROWID;
CREATE TABLE chunks (last INTEGER PRIMARY KEY, count INTEGER NOT NULL, at REAL NOT NULL, data BLOB NOT NULL);
{SERVED};
CREATE TABLE lanes (name TEXT PRIMARY KEY, cursor INTEGER NOT NULL, dropped INTEGER NOT NULL) WITHOUT ROWID;
"""


class transaction:  # noqa: N801  (reads as a word where it is used)
    """BEGIN IMMEDIATE … COMMIT; rolled back whole when anything fails, COMMIT included."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
                return
            except sqlite3.Error:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def connect(path: Path | str, *, synchronous: str = "full") -> sqlite3.Connection:
    """A connection set up for the journal; `path` may be ":memory:"."""
    # One thread at a time uses it; which one that is, the journal sees to.
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous.upper()}")
    except sqlite3.Error:
        db.close()
        raise
    return db


def create(path: Path | str, *, lost: str = "") -> None:
    """A new, empty journal at `path`; `lost` says that an earlier one could not be used."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        lay_out(db, lost=lost)
    finally:
        db.close()


def lay_out(db: sqlite3.Connection, *, lost: str = "") -> None:
    """The empty tables; the first two settings only take effect on an empty file."""
    db.execute("PRAGMA page_size = 8192")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    if lost:
        db.execute("INSERT INTO meta VALUES ('lost', ?)", (lost,))
