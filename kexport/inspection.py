"""The journal's file looked at from outside, while kexport runs or not: it is only read, and nothing is held.

For `kexport journal` and, where no kexport runs, `kexport status`. Raises ConfigError where there is no
journal, JournalError for one that cannot be read.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kexport.chunks import unpack
from kexport.errors import DamagedChunkError, JournalError
from kexport.event import Event
from kexport.places import Lane
from kexport.statedir import present
from kexport.store import Store


class Stored(NamedTuple):
    """One chunk as it lies on disk: its events' positions, and when it was written (seconds since 1970)."""

    first: int
    last: int
    bytes: int
    at: float


class Inspection:
    """A consistent look at the file: what is written meanwhile is not seen."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._store = Store(db)

    def chunks(self) -> Iterator[Stored]:
        rows = self._db.execute("SELECT last, count, length(data), at FROM chunks ORDER BY last")
        for last, count, size, at in rows:
            yield Stored(last - count + 1, last, size, at)

    def events(self, first: int, last: int) -> Iterator[Event]:
        """The stored events at positions `first` to `last`; raises DamagedChunkError."""
        rows = self._db.execute(
            "SELECT last, count, data FROM chunks WHERE last >= ? AND last - count < ? ORDER BY last",
            (first, last),
        )
        for end, count, data in rows:
            for position, line in enumerate(unpack(end, count, data), start=end - count + 1):
                if first <= position <= last:
                    yield Event(line, position=position)

    def problems(self) -> Iterator[str]:
        """What is wrong with the file, in words; nothing, if it is sound."""
        for (text,) in self._db.execute("PRAGMA integrity_check"):
            if text != "ok":
                yield f"SQLite: {text}"
        before = None
        for chunk in self.chunks():
            if before is not None and chunk.first != before + 1:
                yield f"events {before + 1} to {chunk.first - 1} are missing between two chunks"
            before = chunk.last
            yield from self._chunk_problems(chunk)
        yield from self._lane_problems()

    def _lane_problems(self) -> Iterator[str]:
        newest = self._store.last()
        try:
            lanes = self.lanes
        except sqlite3.DatabaseError as error:  # a checksum
            yield str(error)
            return
        for name, lane in lanes.items():
            if lane.cursor > newest:
                yield f"sink {name} is at event {lane.cursor}, and the newest is {newest}"

    def _chunk_problems(self, chunk: Stored) -> Iterator[str]:
        try:
            for event in self.events(chunk.first, chunk.last):
                _ = event.attributes
        except (DamagedChunkError, msgspec.DecodeError) as error:
            yield f"events {chunk.first} to {chunk.last}: {error}"

    @property
    def lanes(self) -> dict[str, Lane]:
        return self._store.lanes()

    def status(self) -> dict[str, Any]:
        """As far as a file tells: the members of `/status.json` that do not need a process."""
        chunks = list(self.chunks())
        newest = self._store.last()
        return {
            "cluster": self._store.meta("cluster"),
            "streams": [
                {
                    "key": key,
                    "resource_version": place.version or (place.resync.since if place.resync else ""),
                    "state": "comparing" if place.resync else "listed" if place.version else "new",
                }
                for key, place in sorted(self._store.positions().items())
            ],
            "sinks": [
                {"name": name, "lag_events": max(0, newest - lane.cursor), "dropped": lane.dropped}
                for name, lane in sorted(self.lanes.items())
            ],
            "journal": {
                "bytes": sum(chunk.bytes for chunk in chunks),
                "events": sum(chunk.last - chunk.first + 1 for chunk in chunks),
                "oldest_seconds": round(time.time() - chunks[0].at, 3) if chunks else None,
            },
        }


@contextmanager
def inspect(directory: Path) -> Iterator[Inspection]:
    """Look at the journal in this directory."""
    file = present(directory)
    try:
        # Percent signs and question marks would mean something in a URI.
        uri = f"{file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)) as db:
            db.execute("BEGIN")
            yield Inspection(db)
    except sqlite3.Error as error:
        raise JournalError(f"the journal {file} cannot be read: {error}") from error


def holder(directory: Path) -> int | None:
    """The process that holds this journal; None if nobody does."""
    try:
        descriptor = os.open(directory.expanduser() / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, 32).decode(errors="replace").strip()
        # Asked only about a process that is there, since whoever starts now would find the lock taken by us.
        if not text.isdigit() or not Path(f"/proc/{text}").exists():
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(text)
    finally:
        os.close(descriptor)
    return None
