"""What is read from the journal's tables, and written to them.

Everything here is synchronous and runs on the journal's own thread.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping

import msgspec
import zstandard

from kexport import states
from kexport.change import Known, Resource, StreamKey
from kexport.chunks import ZSTD, Chunk, cut, seal, unpack
from kexport.database import SERVED, lane_sum, may_pass, sealed, transaction, unsealed
from kexport.errors import DamagedChunkError
from kexport.index import Index
from kexport.places import Commit, Lane, Position, Resync, State

SHRINK_PAGES = 1000  # 4 MB a call: some 50 ms of the writer's thread
SPARE_PAGES = 1000  # at least


class Store:
    """An open journal file, or one in memory; raises sqlite3.Error as it comes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._zstd = zstandard.ZstdCompressor(compression_params=ZSTD)
        self._index = Index(connection)
        self._streams: dict[str, int] = dict(self._db.execute("SELECT key, id FROM streams"))

    def close(self) -> None:
        self._db.close()

    # -- reading, at start ------------------------------------------------------------------------------

    def meta(self, name: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else ""

    def positions(self) -> dict[StreamKey, Position]:
        rows = self._db.execute("SELECT key, position FROM streams")
        return {StreamKey(key): unsealed(key, text) for key, text in rows}

    def lanes(self) -> dict[str, Lane]:
        lanes = {}
        for name, cursor, dropped, *summed in self._db.execute("SELECT * FROM lanes"):
            lanes[name] = Lane(cursor, dropped)
            if any(summed) and summed != [lane_sum(name, lanes[name])]:
                raise sqlite3.DatabaseError(f"the place of the sink {name} does not match its checksum")
        return lanes

    def served(self) -> dict[StreamKey, Resource]:
        """How each stream's resource was last served; a journal of before 0.2 doesn't know."""
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'served'").fetchone():
            self._db.execute(SERVED)
        rows = self._db.execute("SELECT key, resource FROM served")
        return {StreamKey(key): msgspec.json.decode(text, type=Resource) for key, text in rows}

    def last(self) -> int:
        """The position of the newest event ever written, also when its chunk is gone."""
        (newest,) = self._db.execute("SELECT max(last) FROM chunks").fetchone()
        return max(newest or 0, int(self.meta("last") or 0))

    def size(self) -> int:
        """Bytes of all chunks, compressed."""
        (total,) = self._db.execute("SELECT total(length(data)) FROM chunks").fetchone()
        return int(total)

    def known(self, stream: StreamKey) -> dict[str, Known]:
        return self._index.known(self._streams.get(stream, -1))

    def states(self, stream: StreamKey, keys: Iterable[str]) -> dict[str, State]:
        """The last told states of these objects."""
        return states.read(self._db, self._id(stream), keys)

    def state_keys(self, stream: StreamKey) -> set[str]:
        """The objects whose last told state is there."""
        return states.keys(self._db, self._id(stream))

    def _id(self, stream: StreamKey) -> int:
        """The stream's number; one that another connection registered is looked up."""
        if stream not in self._streams:
            self._streams = dict(self._db.execute("SELECT key, id FROM streams"))
        return self._streams.get(stream, -1)

    # -- writing ----------------------------------------------------------------------------------------

    def register_streams(self, streams: Iterable[StreamKey], cluster_uid: str) -> None:
        """Make room for these streams. New ones begin with a listing; after a lost journal, with a gap."""
        keys, lost = list(streams), self.meta("lost")
        resync = Resync(reason=f"journal-lost: {lost}") if lost else None
        start = Position(resync=resync, epoch=self._newest_epoch())
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR IGNORE INTO streams (key, position) VALUES (?, ?)",
                [(key, sealed(key, start)) for key in keys],
            )
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('cluster', ?)", (cluster_uid,))
            self._db.execute("DELETE FROM meta WHERE (name = 'lost' AND ?) OR value = ''", (bool(keys),))
        self._streams = dict(self._db.execute("SELECT key, id FROM streams"))

    def _newest_epoch(self) -> int:
        """Of any stream: in an older one, one that begins now might give the ids of void versions again."""
        return max((each.epoch for each in self.positions().values()), default=0)

    def serve(self, stream: StreamKey, resource: Resource | None) -> None:
        """Remember how this stream's resource is served; None: it is not any more."""
        if resource:
            row = (stream, msgspec.json.encode(resource))
            self._db.execute("INSERT OR REPLACE INTO served VALUES (?, ?)", row)
        else:
            self._db.execute("DELETE FROM served WHERE key = ?", (stream,))

    def begin_anew(self, cluster_uid: str, reason: str) -> None:
        """Forget every stream's place and objects: they are another cluster's. Events and lanes stay."""
        start = Position(resync=Resync(reason=reason), epoch=self._newest_epoch())
        with transaction(self._db):
            self._index.forget()
            self._db.execute("DELETE FROM served")
            states.forget(self._db)
            self._db.executemany(
                "UPDATE streams SET position = ? WHERE key = ?",
                [(sealed(key, start), key) for key in self._streams],
            )
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('cluster', ?)", (cluster_uid,))

    def register_lanes(self, lanes: Iterable[str]) -> None:
        """Make room for these lanes; a new one begins behind the newest event."""
        newest = self.last()
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR IGNORE INTO lanes (name, cursor, dropped, sum) VALUES (?, ?, 0, ?)",
                [(name, newest, lane_sum(name, Lane(newest))) for name in lanes],
            )

    def keep_states(self, wanted: Mapping[StreamKey, str]) -> None:
        """Forget the last told states of other streams, and of those that were shaped otherwise."""
        with transaction(self._db):
            states.keep(self._db, {self._streams[key]: shape for key, shape in wanted.items()})

    def forget_lanes(self, keep: Iterable[str]) -> list[str]:
        """Drop the places of sinks that are no longer configured; their names."""
        gone = sorted(set(self.lanes()) - set(keep))
        with transaction(self._db):
            self._db.executemany("DELETE FROM lanes WHERE name = ?", [(name,) for name in gone])
        return gone

    def commit(self, commit: Commit) -> int:
        """Write it all, durably, or nothing; the bytes that the chunks took."""
        frames = [
            (last, len(lines), seal(last, len(lines)) + self._zstd.compress(b"\n".join(lines)))
            for last, lines in cut(commit.last, commit.lines)
        ]
        now = time.time()
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO chunks VALUES (?, ?, ?, ?)",
                [(last, count, now, data) for last, count, data in frames],
            )
            self._index.write({self._streams[key]: moves for key, moves in commit.objects.items()})
            for stream, told in commit.states.items():
                states.write(self._db, self._streams[stream], told)
            self._db.executemany(
                "UPDATE streams SET position = ? WHERE key = ?",
                [(sealed(key, place), key) for key, place in commit.positions.items()],
            )
            self._db.executemany(
                "UPDATE lanes SET cursor = ?, dropped = ?, sum = ? WHERE name = ?",
                [(*lane, lane_sum(name, lane), name) for name, lane in commit.lanes.items()],
            )
        return sum(len(data) for _, _, data in frames)

    def trim(self, *, passed: int, before: float, most: int = 256) -> int:
        """Delete chunks up to position `passed` that are older than `before`; the bytes that this freed.

        At most `most` rows a call, so that a commit never waits long behind it.
        """
        old = self._db.execute(
            "SELECT last FROM chunks WHERE last <= ? AND at < ? ORDER BY last LIMIT ?", (passed, before, most)
        ).fetchall()
        if not old:
            return 0
        # Those between go as well, from the oldest on: a clock that was ahead made them look younger.
        gone = self._db.execute(
            "SELECT last, length(data) FROM chunks WHERE last <= ? ORDER BY last LIMIT ?", (old[-1][0], most)
        ).fetchall()
        with transaction(self._db):
            # Positions never start again, even when the last chunk is gone.
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('last', ?)", (str(self.last()),))
            self._db.execute("DELETE FROM chunks WHERE last <= ?", (gone[-1][0],))
        return sum(size for _, size in gone)

    def shrink(self) -> bool:
        """Give the disk back some of the room that trimming has left in the file; whether there is more.

        A part stays for what comes next: whatever is stored behind the gap must be moved to make the file
        shorter, and a journal that is filled as fast as it empties would write everything twice.
        """
        pages: int = self._db.execute("PRAGMA page_count").fetchone()[0]
        free: int = self._db.execute("PRAGMA freelist_count").fetchone()[0]
        if (surplus := free - max(SPARE_PAGES, pages // 4)) <= 0:
            return False
        try:
            # Not `execute`: it frees only the first of them.
            self._db.executescript(f"PRAGMA incremental_vacuum({min(surplus, SHRINK_PAGES)})")
        except sqlite3.DatabaseError as error:
            if not may_pass(error):
                raise
            return True  # a full disk has no room for what must be moved either
        return surplus > SHRINK_PAGES

    def oldest(self) -> tuple[int, int] | None:
        """The oldest chunk as (position of its last event, count)."""
        row = self._db.execute("SELECT last, count FROM chunks ORDER BY last LIMIT 1").fetchone()
        return (row[0], row[1]) if row else None

    def stored_since(self, moment: float) -> tuple[int, float] | None:
        """Of the events that were stored since a Unix time: the position before the first, and its time."""
        row = self._db.execute(
            "SELECT last - count, at FROM chunks WHERE at >= ? ORDER BY last LIMIT 1", (moment,)
        ).fetchone()
        return (row[0], row[1]) if row else None

    # -- reading, by lanes that are behind ---------------------------------------------------------------

    def read(self, after: int, *, most_bytes: int = 4 << 20) -> list[Chunk]:
        """The chunks that hold the events after position `after`, oldest first, about `most_bytes` of text.

        Raises DamagedChunkError when the first of them is damaged; before a later one the answer ends.
        """
        chunks: list[Chunk] = []
        total = 0
        rows = self._db.execute(
            "SELECT last, count FROM chunks WHERE last > ? ORDER BY last LIMIT 64", (after,)
        ).fetchall()
        for last, count in rows:
            try:
                self._look_for_hole(chunks[-1].last if chunks else after, last, count)
                lines = self._lines(last, count)
            except DamagedChunkError:
                if not chunks:
                    raise
                break
            if lines is None:
                break
            chunks.append(Chunk(last, lines))
            total += sum(map(len, lines))
            if total >= most_bytes:
                break
        return chunks

    def _look_for_hole(self, after: int, last: int, count: int) -> None:
        """Stored events follow each other. Only before the oldest some may be missing: they were given up."""
        missing = last - count - after
        if missing <= 0 or not self._db.execute("SELECT 1 FROM chunks WHERE last <= ?", (after,)).fetchone():
            return
        raise DamagedChunkError(
            f"the journal's events {after + 1} to {last - count} are missing",
            last=last - count,
            count=missing,
        )

    def _lines(self, last: int, count: int) -> list[bytes] | None:
        """The lines of one chunk; None when it was deleted meanwhile."""
        try:
            row = self._db.execute("SELECT data FROM chunks WHERE last = ?", (last,)).fetchone()
        except sqlite3.DatabaseError as error:
            if may_pass(error):
                raise
            raise DamagedChunkError(
                f"the journal's chunk that ends at event {last} is damaged: {error}", last=last, count=count
            ) from error
        return unpack(last, count, row[0]) if row else None
