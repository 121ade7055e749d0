"""One stream: list, watch, resume, compare after a gap; Changes into the journal.

The position lives in the journal and nowhere else, so every step may fail, or the process end, at any
point: the next step starts from what is durable. A failed read says nothing about any object, and nothing is
concluded from it. The reader waits for memory and the local disk only, never for a sink.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from itertools import chain

import msgspec

from kexport import snapshot as snapshots
from kexport.backoff import Backoff
from kexport.change import ChangeType, Known, Metadata, Origin, RawObject, Stream
from kexport.diff import portions
from kexport.encoder import Encoder, now
from kexport.errors import ApiError, ConnectionLostError, JournalError, ProtocolError
from kexport.event import Event
from kexport.journal import Journal
from kexport.kube import INACTIVITY_SECONDS, Client
from kexport.lines import decode_bookmark, decode_line, decode_metadata
from kexport.places import Position, Resync
from kexport.recovery import Recovery
from kexport.shape import Shaper
from kexport.snapshot import Snapshot
from kexport.telemetry import StreamStats, get_log

SHORT_WATCH_SECONDS = 1.0
FORBIDDEN_SECONDS = 30.0
ROOM_SECONDS = 2.0  # how long a watch stays open, unread, while the disk is behind
_TOO_OLD = re.compile(r"too old resource version: \d+ \((\d+)\)")
_CHANGES = {
    "ADDED": ChangeType.ADDED,
    "MODIFIED": ChangeType.MODIFIED,
    "DELETED": ChangeType.DELETED,
}


class Informer:
    """Follows one stream for ever. `snapshot_slots` bounds how many streams are listed at the same time."""

    def __init__(
        self,
        stream: Stream,
        *,
        client: Client,
        journal: Journal,
        encoder: Encoder,
        shaper: Shaper,
        stats: StreamStats,
        snapshot_slots: asyncio.Semaphore,
    ) -> None:
        self._stream = stream
        self._client = client
        self._journal = journal
        self._encoder = encoder
        self._shaper = shaper
        self._stats = stats
        self._slots = snapshot_slots
        self._backoff = Backoff()
        self._log = get_log("informer", stream=stream.key)
        self._expired = False  # a 410 was met, and the second opinion is being asked for
        self._bookmarked = False  # bookmarks are known to come, so silence means a dead connection

    async def run(self) -> None:
        """Follow the stream until cancelled; whatever goes wrong is answered here."""
        while True:
            wait = 0.0
            try:
                await self._journal.room()
                await self._step()
            except ApiError as error:
                wait = await self._answer(error)
            except (ConnectionLostError, ProtocolError) as error:
                wait = self._trouble("disconnected", error)
            except JournalError:
                raise
            except Exception as error:  # noqa: BLE001  (a bug must not end the stream: retried, loudly)
                self._log.exception("unexpected error in a stream; it is tried again", error)
                wait = self._trouble("failed", error)
            if wait:
                await asyncio.sleep(wait)

    async def _step(self) -> None:
        position = self._journal.positions[self._stream.key]
        if position.resync:
            await self._synchronise(position.resync)
        elif not position.version:
            await self._synchronise(Resync(reason="initial"))
        else:
            await self._watch(position.version)

    # -- answers to what goes wrong -----------------------------------------------------------------------

    async def _answer(self, error: ApiError) -> float:
        """Seconds to wait after the server said no."""
        if error.expired:
            return self._answer_expired(error)
        if error.status == 403:
            self._trouble("forbidden", error)
            return max(FORBIDDEN_SECONDS, error.retry_after or 0)
        state = {401: "unauthorized", 404: "missing", 429: "throttled"}.get(error.status, "failing")
        return self._trouble(state, error)

    def _answer_expired(self, error: ApiError) -> float:
        """410: ask once more on a new connection, since another replica may remember; then compare."""
        position = self._journal.positions[self._stream.key]
        if position.resync:  # the version that was to be listed exactly went out of reach meanwhile
            return self._trouble("resyncing", error)
        if not self._expired:
            self._expired = True
            return 0.001
        self._expired = False
        found = _TOO_OLD.search(str(error))
        resync = Resync(reason="expired", since=position.version, at=found[1] if found else "")
        self._log.warning("history was lost; comparing", since=position.version, server_remembers=resync.at)
        self._journal.append(self._stream.key, (), {}, Position(resync=resync))
        return 0.0

    def _trouble(self, state: str, error: Exception) -> float:
        retry_after = error.retry_after if isinstance(error, ApiError) else None
        wait = self._backoff.next(retry_after)
        self._stats.state, self._stats.error = state, str(error)
        self._log.warning("stream interrupted", state=state, error=error, again_in_seconds=round(wait, 1))
        return wait

    # -- watching -----------------------------------------------------------------------------------------

    async def _watch(self, version: str) -> None:
        query = {**self._stream.selectors, "resourceVersion": version, "allowWatchBookmarks": "true"}
        started = time.monotonic()
        heard = False
        inactivity = INACTIVITY_SECONDS if self._bookmarked else None
        async with self._client.watch(self._stream.path, query, inactivity_seconds=inactivity) as batches:
            self._stats.watches += 1
            self._stats.state, self._stats.synced = "watching", True
            async for lines in batches:
                self._take(lines)
                heard = True
                if self._journal.crowded and not await self._room_soon():
                    self._stats.state = "paused"
                    self._log.warning("watch closed until the journal has room")
                    return
        if not heard and time.monotonic() - started < SHORT_WATCH_SECONDS:
            raise ConnectionLostError("the server closed the watch at once")

    async def _room_soon(self) -> bool:
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                await self._journal.room()
        except TimeoutError:
            return False
        return True

    def _take(self, lines: Iterable[bytes]) -> None:
        """Journal what the lines say. At a bad line, what came before it is kept and the rest is not read."""
        events: list[Event] = []
        index: dict[str, Known | None] = {}
        version = ""
        observed = now()
        try:
            for line in lines:
                item = decode_line(line)
                if item.type == "BOOKMARK":
                    version, _ = decode_bookmark(item.object)
                    self._bookmarked = True
                    continue
                metadata = decode_metadata(item.object)
                if self._stream.wants(metadata.namespace):
                    change = self._change(item.type)
                    events.append(self._event(change, metadata, item.object, observed))
                    gone = change in {ChangeType.DELETED, ChangeType.LEFT}
                    index[metadata.key] = None if gone else metadata.known
                version = metadata.resourceVersion
        finally:
            if version:
                self._journal.append(self._stream.key, events, index, Position(version=version))
                self._expired = False
                self._backoff.reset()  # what is cut after every line still gets on
                self._stats.changes += len(events)
                self._stats.version, self._stats.heard, self._stats.error = version, time.monotonic(), ""

    def _change(self, wire_type: str) -> ChangeType:
        """With a selector, DELETED says no more than that the object is not selected any longer."""
        change = _CHANGES[wire_type]
        return ChangeType.LEFT if change is ChangeType.DELETED and self._stream.selective else change

    def _event(self, change: ChangeType, metadata: Metadata, members: RawObject, observed: str) -> Event:
        shaped = self._shaper.shape(members)
        return self._encoder.change(change, metadata, shaped, origin=Origin.WATCH, time=observed)

    # -- comparing ----------------------------------------------------------------------------------------

    async def _synchronise(self, resync: Resync) -> None:
        """List everything, and tell which changes led there, as far as history tells."""
        async with self._slots:
            self._stats.state = "listing"
            known = await self._journal.known(self._stream.key)
            directory = self._journal.directory
            with Snapshot(self._stream, self._shaper, known, directory=directory) as snapshot:
                await self._list(snapshot, at=resync.at)
                self._stats.snapshots += 1
                recovery = Recovery(snapshot, known, resync, client=self._client, shaper=self._shaper)
                if recovery.possible:
                    self._stats.state = "recovering"
                    await recovery.run()
                await self._emit(snapshot, resync, recovery)
        self._stats.synced, self._stats.error = True, ""

    async def _list(self, snapshot: Snapshot, *, at: str) -> None:
        try:
            await snapshots.take(self._client, snapshot, at=at)
        except ApiError as error:
            # etcd compacted that version, too, or the server won't list it: take the newest.
            if not at or not (error.expired or error.status in {400, 422, 504}):
                raise
            snapshot.restart()
            await snapshots.take(self._client, snapshot)

    async def _emit(self, snapshot: Snapshot, resync: Resync, recovery: Recovery) -> None:
        """Journal the differences in portions; until the last, the comparison stays marked as unfinished."""
        key = self._stream.key
        silent = not resync.since and self._stream.initial == "silent"
        resync = msgspec.structs.replace(resync, unscanned=resync.unscanned or not recovery.covered)
        inferred = portions(snapshot, self._encoder, first=not resync.since, without=recovery.whole)
        for portion in chain(recovery.portions(self._encoder), inferred):
            marker = None
            if resync.reason != "initial":
                resync = portion.added_to(resync)
                marker = Position(resync=resync)
            await self._journal.room()
            self._journal.append(key, () if silent else portion.events, portion.objects, marker)
            await asyncio.sleep(0)  # other streams' watches must be read meanwhile
        self._journal.append(key, self._closing(snapshot, resync), {}, Position(version=snapshot.version))
        self._stats.version, self._stats.heard = snapshot.version, time.monotonic()
        self._log.info(
            "stream synced", version=snapshot.version, objects=snapshot.objects, reason=resync.reason
        )

    def _closing(self, snapshot: Snapshot, resync: Resync) -> list[Event]:
        closing = []
        if resync.reason != "initial":
            self._stats.gaps += 1
            inferred = resync.added + resync.modified + resync.deleted
            self._stats.inferred += inferred
            complete = not inferred and not resync.unscanned
            told = {
                "added": resync.added, "modified": resync.modified, "deleted": resync.deleted,
                "recovered": resync.recovered, "scanned": not resync.unscanned,
            }  # fmt: skip
            tell = self._log.error if inferred else self._log.info if complete else self._log.warning
            tell(
                "gap: nobody watched between two versions; read back from history, the rest inferred",
                since=resync.since, until=snapshot.version, reason=resync.reason, complete=complete, **told,
            )  # fmt: skip
            gap = self._encoder.gap(
                resync.since, snapshot.version, reason=resync.reason, complete=complete, **told
            )
            closing.append(gap)
        origin = Origin.RESYNC if resync.since else Origin.SNAPSHOT
        closing.append(self._encoder.synced(snapshot.version, origin=origin, objects=snapshot.objects))
        return closing
