"""The last told state of each object of the streams with diffs, in the journal's file.

Synchronous, on the journal's own threads, and within its transactions: a state stands or falls with the event
that told it. Raises sqlite3.Error as it comes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import islice

from kexport.places import State

TABLES = """
CREATE TABLE IF NOT EXISTS states (stream INTEGER NOT NULL, key TEXT NOT NULL, uid TEXT NOT NULL, data BLOB NOT NULL,
                                   PRIMARY KEY (stream, key));
CREATE TABLE IF NOT EXISTS trails (stream INTEGER PRIMARY KEY, shape TEXT NOT NULL);
"""  # noqa: E501  (SQL, as it will be shown by SQLite)
_MOST_KEYS = 500  # in one question


def read(db: sqlite3.Connection, stream: int, keys: Iterable[str]) -> dict[str, State]:
    """The states of these objects, as far as there are any."""
    found: dict[str, State] = {}
    left = iter(keys)
    while some := list(islice(left, _MOST_KEYS)):
        places = ", ".join("?" * len(some))
        rows = db.execute(
            f"SELECT key, uid, data FROM states WHERE stream = ? AND key IN ({places})",  # noqa: S608
            [stream, *some],
        )
        found |= {key: State(uid, data) for key, uid, data in rows}
    return found


def keys(db: sqlite3.Connection, stream: int) -> set[str]:
    """The objects of this stream that have a state."""
    return {key for (key,) in db.execute("SELECT key FROM states WHERE stream = ?", (stream,))}


def write(db: sqlite3.Connection, stream: int, states: Mapping[str, State | None]) -> None:
    """Put these in place of what was there; None takes a state out."""
    db.executemany(
        "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)",
        sorted((stream, key, *state) for key, state in states.items() if state),
    )
    db.executemany(
        "DELETE FROM states WHERE stream = ? AND key = ?",
        [(stream, key) for key, state in states.items() if state is None],
    )


def keep(db: sqlite3.Connection, wanted: Mapping[int, str]) -> None:
    """Forget the states of all streams but these, and of those that were shaped otherwise.

    A value that is to be redacted now must not come out again as what was there before.
    """
    known = dict(db.execute("SELECT stream, shape FROM trails"))
    stale = [(stream,) for stream in known if known[stream] != wanted.get(stream)]
    db.executemany("DELETE FROM states WHERE stream = ?", stale)
    db.executemany("DELETE FROM trails WHERE stream = ?", stale)
    db.executemany("INSERT OR IGNORE INTO trails VALUES (?, ?)", wanted.items())


def forget(db: sqlite3.Connection) -> None:
    """All of them."""
    db.execute("DELETE FROM states")
    db.execute("DELETE FROM trails")
