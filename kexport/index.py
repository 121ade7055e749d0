"""The index of known objects in the journal's file, which follows behind.

With many objects nearly each change would rewrite a page of its own. So a commit only puts its moves down, in
one row, and when enough have gathered the index takes them all in, in its tree's order: a third of the work.
Index and moves together are the truth at every moment, since each transaction keeps them so.

Synchronous, on the journal's own thread. Raises sqlite3.Error as it comes, DatabaseError for damaged moves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

import msgspec
import zstandard

from kexport.change import Known

TABLES = """
CREATE TABLE IF NOT EXISTS objects (stream INTEGER NOT NULL, key TEXT NOT NULL, uid TEXT NOT NULL,
                                    version TEXT NOT NULL, PRIMARY KEY (stream, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS moves (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, count INTEGER NOT NULL,
                                  data BLOB NOT NULL);
"""
MOST_MOVES = 32_768
"""So many wait at most; twice as many would save a tenth more, and hold a commit up twice as long."""

Moves = Mapping[str, Known | None]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Known | None]).decode


class Index:
    """Which objects each stream knows; streams are the numbers that the file gives them."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._zstd = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self._gathered: int | None = None

    def known(self, stream: int) -> dict[str, Known]:
        rows = self._db.execute("SELECT key, uid, version FROM objects WHERE stream = ?", (stream,))
        known: dict[str, Known | None] = {key: Known(uid, version) for key, uid, version in rows}
        for moves in self._moves(stream):
            known |= moves
        return {key: each for key, each in known.items() if each}

    def write(self, objects: Mapping[int, Moves]) -> None:
        """What became of these objects, None for one that is gone; within a transaction."""
        for stream, moves in objects.items():
            row = (stream, len(moves), self._zstd.compress(_encode(moves)))
            self._db.execute("INSERT INTO moves (stream, count, data) VALUES (?, ?, ?)", row)
            if self._gathered is not None:
                self._gathered += len(moves)
        if self._gathered is None:  # the first since the start, or since a transaction failed
            self._gathered = int(self._db.execute("SELECT total(count) FROM moves").fetchone()[0])
        if self._gathered >= MOST_MOVES:
            self._take_in()

    def _take_in(self) -> None:
        self._gathered = None
        for (stream,) in self._db.execute("SELECT DISTINCT stream FROM moves").fetchall():
            last: dict[str, Known | None] = {}
            for moves in self._moves(stream):
                last |= moves
            keys = sorted(last)
            self._db.executemany(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)",
                ((stream, key, known.uid, known.version) for key in keys if (known := last[key])),
            )
            self._db.executemany(
                "DELETE FROM objects WHERE stream = ? AND key = ?",
                ((stream, key) for key in keys if not last[key]),
            )
        self._db.execute("DELETE FROM moves")

    def forget(self) -> None:
        """Every object of every stream; within a transaction."""
        self._db.execute("DELETE FROM objects")
        self._db.execute("DELETE FROM moves")

    def _moves(self, stream: int) -> Iterator[dict[str, Known | None]]:
        for (data,) in self._db.execute("SELECT data FROM moves WHERE stream = ? ORDER BY id", (stream,)):
            try:
                yield _decode(zstandard.ZstdDecompressor().decompress(data))
            except (zstandard.ZstdError, msgspec.MsgspecError, TypeError, MemoryError) as error:
                raise sqlite3.DatabaseError(f"the journal's index of objects is damaged: {error}") from error
