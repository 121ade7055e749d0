"""A stream's state read anew: list everything, and tell which changes led there, as far as history tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

import msgspec

from kexport import snapshot as snapshots
from kexport.change import GONE, Known, Origin, is_version, newer
from kexport.diff import Portion, portions
from kexport.errors import ApiError
from kexport.event import Event
from kexport.history import History, UnreadableError
from kexport.parts import Parts
from kexport.places import Position, Resync
from kexport.recovery import Recovery, begins, recoverable
from kexport.snapshot import Snapshot
from kexport.telemetry import get_log
from kexport.trail import Told

ROLLBACK = "rollback"
REQUESTED = "requested"
"""An operator wants everything told again: where the watch stands, nothing is lost by it."""


class SetBackError(Exception):
    """The listing is older than what is known already: the server's history was set back."""


class Comparison:
    """Synchronises one stream with the server. `slots` bounds how many streams do so at the same time."""

    def __init__(self, parts: Parts, slots: asyncio.Semaphore) -> None:
        self._parts = parts
        self._key = parts.stream.key
        self._slots = slots
        self._log = get_log("informer", stream=self._key)

    async def run(self, resync: Resync, *, epoch: int) -> int:
        """Until the journal has it all; how many objects there are.

        Raises what the listing raises, and SetBackError.
        """
        parts, stats = self._parts, self._parts.stats
        async with self._slots:
            stats.state = "listing"
            known = await parts.journal.known(self._key)
            if resync.reason == ROLLBACK:
                # A version may stand for something else now: nothing counts as unchanged.
                known = {key: Known(each.uid, "") for key, each in known.items()}
            directory, again = parts.journal.directory, resync.reason == REQUESTED
            with Snapshot(parts.stream, parts.shaper, known, directory=directory, again=again) as snapshot:
                oldest = await self._oldest(resync)
                newest = await self._list(snapshot, at=oldest or resync.at)
                if newest:
                    _check_not_set_back(snapshot, resync)
                stats.snapshots += 1
                with Recovery(snapshot, known, resync, client=parts.client, shaper=parts.shaper) as recovery:
                    if recovery.possible and (newest or not oldest):
                        resync = await self._recover(recovery, resync, epoch)
                    resync = await self._tell_recovered(recovery, resync, epoch)
                    snapshot.rebase(recovery.told)
                await self._close(snapshot, resync, epoch)
                objects = snapshot.objects
        stats.synced, stats.error = True, ""
        return objects

    async def _oldest(self, resync: Resync) -> str:
        """Where etcd's history begins, if that is behind the gap's beginning; else "".

        Up to there nothing can be read back, so that is inferred; the watch is tried from there, and what
        followed is a gap of its own, in which nothing is lost.
        """
        if not recoverable(resync):
            return ""
        history, first = History(self._parts.stream, self._parts.client), int(begins(resync)) + 1
        try:
            high = int(resync.at) if is_version(resync.at) else await history.newest()
            oldest = await history.oldest(first, high)
        except UnreadableError as error:
            self._log.info("nobody knows where the history begins", why=error)
            return ""
        self._parts.stats.recovery_requests += history.requests
        return str(oldest) if oldest > first else ""

    async def _list(self, snapshot: Snapshot, *, at: str) -> bool:
        """Fill the snapshot, exactly at a version if that can be; whether it is the newest state instead."""
        try:
            await snapshots.take(self._parts.client, snapshot, at=at)
            return not at
        except ApiError as error:
            # etcd compacted that version, too, or the server won't list it: take the newest.
            if not at or not (error.expired or error.status in {400, 422, 504}):
                raise
        snapshot.restart()
        await snapshots.take(self._parts.client, snapshot)
        return True

    async def _recover(self, recovery: Recovery, resync: Resync, epoch: int) -> Resync:
        """Read back what can be had, and journal it stretch by stretch: a crash begins no earlier again."""
        journal, stats = self._parts.journal, self._parts.stats
        stats.state = "recovering"

        async def stretch_read() -> None:
            nonlocal resync
            # Reading must not wait for a sink: etcd forgets meanwhile. Until there is room, it is put aside.
            room = journal.retention.max_bytes - journal.retention.bytes
            if not journal.crowded and recovery.unread < room:
                resync = await self._tell_recovered(recovery, resync, epoch)

        await recovery.run(stretch_read)
        stats.recovery_requests += recovery.requests
        return resync

    async def _tell_recovered(self, recovery: Recovery, resync: Resync, epoch: int) -> Resync:
        """Journal what was read back so far; how far that is."""
        resync = msgspec.structs.replace(resync, unscanned=resync.unscanned or not recovery.covered)
        resync = await self._tell(recovery.portions(self._parts.encoder), resync, epoch)
        if recovery.reached:
            resync = msgspec.structs.replace(resync, upto=recovery.reached)
            self._parts.journal.append(self._key, (), {}, Position(resync=resync, epoch=epoch))
        return resync

    async def _tell(self, portions: Iterable[Portion], resync: Resync, epoch: int) -> Resync:
        """Journal these; the comparison stays marked as unfinished, with how far it has come."""
        journal, trail, first = self._parts.journal, self._parts.trail, not resync.since
        for portion in portions:
            marker = None
            if resync.reason != "initial":
                resync = portion.added_to(resync)
                marker = Position(resync=resync, epoch=epoch)
            await journal.room()
            told = await trail.compare(portion.events, portion.objects) if trail else Told(portion.events)
            events = self._told(told.events, first=first)
            journal.append(self._key, events, portion.objects, marker, told.states)
            await asyncio.sleep(0)  # other streams' watches must be read meanwhile
        return resync

    async def _close(self, snapshot: Snapshot, resync: Resync, epoch: int) -> None:
        """Journal what only the comparison tells, and its end."""
        journal = self._parts.journal
        inferred = portions(snapshot, self._parts.encoder, first=not resync.since)
        resync = await self._tell(inferred, resync, epoch)
        end = Position(version=snapshot.version, epoch=epoch)
        journal.append(self._key, self._closing(snapshot, resync), {}, end)
        self._parts.stats.version, self._parts.stats.heard = snapshot.version, time.monotonic()
        self._log.info(
            "stream synced", version=snapshot.version, objects=snapshot.objects, reason=resync.reason
        )

    def _told(self, events: Sequence[Event], *, first: bool) -> Sequence[Event]:
        """Those that the configuration of the stream asks for."""
        if first and self._parts.stream.initial == "silent":
            return []
        if self._parts.stream.deletions == "skip":
            return [event for event in events if event.change not in GONE]
        return events

    def _closing(self, snapshot: Snapshot, resync: Resync) -> list[Event]:
        origin = Origin.RESYNC if resync.since else Origin.SNAPSHOT
        if resync.reason != REQUESTED:
            synced = self._parts.encoder.synced(snapshot.version, origin=origin, objects=snapshot.objects)
            return [synced] if resync.reason == "initial" else [self._gap(snapshot, resync), synced]
        synced = self._parts.encoder.synced(
            snapshot.version, origin=Origin.SNAPSHOT, objects=snapshot.objects, reason=REQUESTED
        )
        differed = resync.added or resync.modified or resync.deleted or snapshot.version != resync.since
        return [self._gap(snapshot, resync), synced] if differed else [synced]

    def _gap(self, snapshot: Snapshot, resync: Resync) -> Event:
        inferred = resync.added + resync.modified + resync.deleted
        self._parts.stats.gaps += 1
        self._parts.stats.inferred += inferred
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
        encoder = self._parts.encoder
        make = encoder.rollback if resync.reason == ROLLBACK else encoder.gap
        return make(resync.since, snapshot.version, reason=resync.reason, complete=complete, **told)


def _check_not_set_back(snapshot: Snapshot, resync: Resync) -> None:
    """Raise SetBackError if the newest state is older than what is known, and not said to be void."""
    if snapshot.older:
        raise SetBackError("an object is older than it was")
    if resync.reason != ROLLBACK and newer(resync.reached, snapshot.version):
        raise SetBackError(f"the newest state is at {snapshot.version}")
