"""The journal's one SQLite file: its tables, how it is opened, and the checksums that SQLite doesn't keep.

Raises sqlite3.Error as it comes.
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import msgspec

from kexport import index, states
from kexport.places import Lane, Position

APPLICATION_ID = 0x6B657870  # "kexp"
SCHEMA_VERSION = 4
CHECK_BYTES = 64 << 20  # a whole-file check below this size costs a fraction of a second

_MAY_PASS = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY,
})  # fmt: skip
SERVED = "CREATE TABLE served (key TEXT PRIMARY KEY, resource BLOB NOT NULL) WITHOUT ROWID"
_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, position BLOB NOT NULL);
CREATE TABLE chunks (last INTEGER PRIMARY KEY, count INTEGER NOT NULL, at REAL NOT NULL, data BLOB NOT NULL);
{SERVED};
CREATE TABLE lanes (name TEXT PRIMARY KEY, cursor INTEGER NOT NULL, dropped INTEGER NOT NULL,
                    sum INTEGER) WITHOUT ROWID;
{index.TABLES}
{states.TABLES}
"""


def may_pass(error: sqlite3.Error) -> bool:
    """Whether the disk refuses (full, read-only, an I/O error), which says nothing about the file itself."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _MAY_PASS and code != sqlite3.SQLITE_IOERR_SHORT_READ


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
            except BaseException:  # MemoryError, too: to Python that is SQLITE_NOMEM
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


def bring_up_to_date(db: sqlite3.Connection) -> None:
    """Add what a journal of an earlier version lacks."""
    if "sum" not in {column[1] for column in db.execute("PRAGMA table_info(lanes)")}:
        with transaction(db):
            db.execute("ALTER TABLE lanes ADD COLUMN sum INTEGER")
    if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
        added = index.TABLES + states.TABLES
        db.executescript(f"BEGIN; {added} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def say_lost(path: Path, lost: str) -> None:
    """Streams that this journal doesn't know yet are not new: what was known of them is lost."""
    with closing(connect(path)) as db:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('lost', ?)", (lost,))


def lay_out(db: sqlite3.Connection, *, lost: str = "") -> None:
    """The empty tables; the first two settings only take effect on an empty file."""
    # With many objects a change rewrites a page of their last states of its own: small ones are cheaper.
    db.execute("PRAGMA page_size = 4096")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    if lost:
        db.execute("INSERT INTO meta VALUES ('lost', ?)", (lost,))


def lane_sum(name: str, lane: Lane) -> int:
    """A checksum of a sink's place: SQLite keeps none, and a place that is too far loses events."""
    return zlib.crc32(f"{name}/{lane.cursor}/{lane.dropped}".encode())


def sealed(key: str, position: Position) -> bytes:
    """The place as JSON whose last member is a checksum of the rest, and of whose place it is."""
    text = msgspec.json.encode(position)
    comma = b"," if len(text) > len(b"{}") else b""
    return b'%b%b"sum":"%08x"}' % (text[:-1], comma, zlib.crc32(key.encode() + text))


def unsealed(key: str, stored: bytes) -> Position:
    """What `sealed` made; raises sqlite3.DatabaseError, as SQLite does for damage that it notices itself."""
    try:
        position = msgspec.json.decode(stored, type=Position)
        text, found, _ = stored.rpartition(b'"sum":"')
    except (msgspec.MsgspecError, AttributeError, TypeError) as error:
        raise sqlite3.DatabaseError(f"the place of the stream {key} cannot be read: {error}") from error
    plain = text.removesuffix(b",") + b"}"
    if found and stored != b'%b"sum":"%08x"}' % (text, zlib.crc32(key.encode() + plain)):
        raise sqlite3.DatabaseError(f"the place of the stream {key} does not match its checksum")
    return position
