"""The watch cache of one resource: the last changes in a ring, and the watches that follow it.

It decides what a real API server decides here: from which version a watch may still begin, what a selector
makes of a change, and when a client that doesn't read is dropped.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Iterable, Iterator

from kexport.testing.clock import Clock
from kexport.testing.failure import WATCH_EXPIRED, expired
from kexport.testing.kinds import Resource
from kexport.testing.ring import Ring
from kexport.testing.selectors import Selection
from kexport.testing.store import Change, Entry, Store

_MOST_BYTES_AT_ONCE = 64 * 1024

# A bookmark is an empty object of its kind, and Go writes the fields that it can't leave out.
_EMPTY: dict[str, dict[str, object]] = {
    "events": {
        "involvedObject": {},
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    },
    "pods": {"spec": {"containers": None}, "status": {}},
    "namespaces": {"spec": {}, "status": {}},
    "services": {"spec": {}, "status": {"loadBalancer": {}}},
    "leases.coordination.k8s.io": {"spec": {}},
    "jobs.batch": {"spec": {"template": {"metadata": {}, "spec": {"containers": None}}}, "status": {}},
}


class Ending(enum.Enum):
    """How the server ends a watch."""

    CLEAN = enum.auto()
    DRAINED = enum.auto()
    """Clean too, but only after everything that happened was sent."""
    MID_LINE = enum.auto()
    MID_LINE_CLEAN = enum.auto()
    ABORT = enum.auto()


class Watcher:
    """One open watch: what it wants, and the lines that wait for its client."""

    def __init__(
        self,
        resource: Resource,
        *,
        prefix: str,
        selection: Selection,
        metadata_only: bool,
        bookmarks: bool,
        after: int,
        buffer: int,
    ) -> None:
        self.resource = resource
        self.after = after
        self.blocked = False
        self.ending: Ending | None = None
        self._prefix = prefix
        self._selection = selection
        self._metadata_only = metadata_only
        self._bookmarks = bookmarks
        self._buffer = buffer
        self._opening: Iterator[bytes] = iter(())
        self._live: deque[bytes] = deque()
        self._woken = asyncio.Event()

    @property
    def wants_bookmarks(self) -> bool:
        return self._bookmarks and self.resource.cached

    def replay(self, changes: Iterable[Change]) -> None:
        """Begin with changes that have already happened; unlike live ones they don't count for the buffer."""
        self._opening = (line for change in changes if (line := self._line(change)))

    def snapshot(self, entries: Iterable[Entry], *, end_at: int | None) -> None:
        """Begin with the whole state as ADDED, then the bookmark that ends it if the client takes some."""
        self._opening = self._snapshot_lines(list(entries), end_at)

    def offer(self, change: Change) -> None:
        if self.ending or change.revision <= self.after or not (line := self._line(change)):
            return
        if self.blocked and len(self._live) >= self._buffer:
            self.end(Ending.CLEAN)
            return
        self._live.append(line)
        self._woken.set()

    def bookmark(self, revision: int) -> None:
        # The real dispatcher drops bookmarks for a full buffer, and those not beyond the watch's own start.
        if (
            self.ending
            or not self.wants_bookmarks
            or revision <= self.after
            or len(self._live) >= self._buffer
        ):
            return
        self._live.append(self._bookmark_line(revision))
        self._woken.set()

    def end(self, ending: Ending) -> None:
        self.ending = self.ending or ending
        if ending is not Ending.DRAINED:
            self._live.clear()
            self._opening = iter(())
        self._woken.set()

    def wake(self) -> None:
        self._woken.set()

    def take(self) -> bytes:
        """Return the lines that are due, about as many as a TCP buffer holds; nothing if none is due."""
        lines: list[bytes] = []
        size = 0
        while size < _MOST_BYTES_AT_ONCE and (line := next(self._opening, b"") or self._next_live()):
            lines.append(line)
            size += len(line)
        return b"".join(lines)

    async def wait(self, seconds: float) -> None:
        """Return when there is something to send or to end, or when the time is over."""
        self._woken.clear()
        if self._live or self.ending:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _next_live(self) -> bytes:
        return self._live.popleft() if self._live else b""

    def _line(self, change: Change) -> bytes:
        """Encode what the change means to this selection: leaving it is DELETED, entering it is ADDED."""
        now = change.entry is not None and self._admits(change.entry)
        before = change.previous is not None and self._admits(change.previous)
        if now:
            assert change.entry is not None
            return self._encode(b"MODIFIED" if before else b"ADDED", change.entry)
        return self._encode(b"DELETED", change.departed) if before else b""

    def _admits(self, entry: Entry) -> bool:
        return entry.key.startswith(self._prefix) and (
            self._selection.everything or self._selection.admits(entry.object)
        )

    def _encode(self, verb: bytes, entry: Entry) -> bytes:
        body = entry.body(self.resource, metadata_only=self._metadata_only)
        return b'{"type":"%b","object":%b}\n' % (verb, body)

    def _snapshot_lines(self, entries: list[Entry], end_at: int | None) -> Iterator[bytes]:
        yield from (self._encode(b"ADDED", entry) for entry in entries if self._admits(entry))
        if end_at is not None and self._bookmarks:
            yield self._bookmark_line(end_at, annotations={"k8s.io/initial-events-end": "true"})

    def _bookmark_line(self, revision: int, **more: object) -> bytes:
        empty = {"kind": self.resource.kind, "apiVersion": self.resource.api_version}
        metadata = {"metadata": {"resourceVersion": str(revision)} | more}
        entry = Entry("", empty | metadata | _EMPTY.get(self.resource.name, {}), revision)
        return self._encode(b"BOOKMARK", entry)


class WatchCache:
    def __init__(
        self, resource: str, *, clock: Clock, capacity: int | None, listed_at: int, store: Store | None
    ) -> None:
        self.oldest = listed_at
        """The L of "too old resource version: N (L)": the oldest version that a watch can begin at."""
        self.watchers: list[Watcher] = []
        self._resource = resource
        self._store = store
        self._ring = Ring(clock, capacity)

    @property
    def cached(self) -> bool:
        return self._store is None

    def add(self, change: Change) -> None:
        if self._ring.add(change):
            self.oldest = self._ring.changes[0].revision - 1
        for watcher in tuple(self.watchers):
            watcher.offer(change)
            if watcher.ending:  # its handler may hang in a write that nobody reads
                self.watchers.remove(watcher)

    def after(self, revision: int) -> list[Change]:
        """Return the changes after a revision, or fail as a watch at it fails."""
        if self._store:
            if revision + 1 < self._store.compacted:
                raise expired(WATCH_EXPIRED)
            return self._store.changes_after(revision, self._resource)
        if revision < self.oldest:
            raise expired(f"too old resource version: {revision} ({self.oldest})")
        return [change for change in self._ring.changes if change.revision > revision]

    def begin_anew(self, revision: int, ending: Ending = Ending.CLEAN) -> None:
        """Forget everything, as an API server that starts: nothing before this can be watched any more."""
        self._ring.clear()
        self.oldest = revision
        self.end(ending)

    def end(self, ending: Ending) -> None:
        for watcher in self.watchers:
            watcher.end(ending)
        self.watchers.clear()

    def bookmark(self, revision: int) -> None:
        for watcher in tuple(self.watchers):
            watcher.bookmark(revision)

    def wake(self) -> None:
        for watcher in self.watchers:
            watcher.wake()
