"""The transactional outbox between watching and delivering.

One transaction commits events, the stream's resume position and the index of known objects together; that is
the checkpoint, and it depends on the local disk alone. Appends never wait; a writer task commits what has
gathered, at most `commit_seconds` later. Only committed events are ever shown to a lane, so a repeat after a
crash has the same bytes. A lane that keeps up reads no disk: new events also stay in memory, within a bound.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic

from kexport.change import Known, Resource, StreamKey
from kexport.cursors import Cursors
from kexport.disk import RETRY_SECONDS, Disk
from kexport.errors import ConfigError, JournalError
from kexport.event import Event
from kexport.laststates import LastStates
from kexport.pending import Batch, Pending
from kexport.places import NO_STATES, Lane, Position, State
from kexport.recent import Recent
from kexport.replay import Repeat
from kexport.retention import Retention
from kexport.store import Store
from kexport.tables import JournalConfig
from kexport.tally import Tally
from kexport.telemetry import get_log
from kexport.tidying import Tidying
from kexport.waiting import settled

_log = get_log("journal")


class Journal:
    """Open with `Journal.open`; `run` must be running for anything to become durable."""

    def __init__(self, config: JournalConfig, disk: Disk) -> None:
        self._config = config
        self._disk = disk
        self.cluster_uid = ""
        self.positions: dict[StreamKey, Position] = {}
        self.served: dict[StreamKey, Resource] = {}
        """How each stream's resource was served when it was last followed."""
        self._cursors = Cursors({})
        self._pending = Pending(config.max_bytes)
        self._appended = 0  # position of the newest appended event
        self.committed = 0  # position of the newest durable event
        self._recent = Recent(config.memory_bytes)
        self.retention: Retention
        self.tally = Tally()
        self.last_states = LastStates(disk, self._pending, self.flush)
        self._news = asyncio.Condition()

    @classmethod
    async def open(cls, config: JournalConfig, *, lanes: Sequence[str]) -> Journal:
        """Hold the directory and read the places; raises ConfigError, JournalLockedError, JournalError."""
        journal = cls(config, await Disk.open(config))
        try:
            await journal._disk.attempt(journal._load, list(lanes))
        except BaseException:
            await journal._disk.close()
            raise
        return journal

    def _load(self, lanes: list[str]) -> None:
        store = self._disk.store
        if gone := store.forget_lanes(lanes):
            _log.warning("sinks are no longer configured, and their positions are forgotten", sinks=gone)
        store.register_lanes(lanes)
        self._cursors = Cursors(store.lanes())
        self.served = store.served()
        self.cluster_uid = store.meta("cluster")
        self._appended = self.committed = store.last()
        self.retention = Retention(self._config, store)
        self.tidying = Tidying(self._disk, self.retention, self._cursors, self.tally)
        self.tally.begin(store, self.committed, self.retention.first)

    @property
    def directory(self) -> Path | None:
        """Where the journal and what belongs to it lie; None in memory."""
        return self._disk.directory

    @property
    def failing(self) -> str:
        """Why it cannot be written at present; "" when it can."""
        return self._disk.failing

    async def register(self, streams: Iterable[StreamKey], *, cluster_uid: str = "") -> None:
        """Make room for these streams; `positions` then holds the place of each.

        Raises ConfigError when the journal is of another cluster, whose objects must not be compared.
        """
        if self.cluster_uid and cluster_uid and self.cluster_uid != cluster_uid:
            raise ConfigError(
                f"the journal in {self._config.path} belongs to another cluster (kube-system namespace"
                f" {self.cluster_uid}, here {cluster_uid}); name another journal.path for this one"
            )
        await self._disk.write(self._disk.store.register_streams, list(streams), cluster_uid)
        self.cluster_uid = self.cluster_uid or cluster_uid
        stored = await self._disk.write(self._disk.store.positions)
        self.positions = stored | self.positions  # what is here may be newer than what is on disk

    async def serve(self, stream: StreamKey, resource: Resource | None) -> None:
        """Remember how this stream's resource is served; None: it is not any more."""
        await self._disk.write(self._disk.store.serve, stream, resource)
        self.served.pop(stream, None)
        if resource:
            self.served[stream] = resource

    async def begin_anew(self, cluster_uid: str, reason: str) -> None:
        """Forget all places and objects: they are of another cluster. Stored events are still delivered."""
        await self._disk.write(self._disk.store.begin_anew, cluster_uid, reason)
        self.cluster_uid, self.served, self.positions = cluster_uid, {}, {}

    async def add_lane(self, name: str) -> None:
        """Make room for a sink that came later; it begins behind the newest event."""
        await self.flush()
        await self._disk.write(self._disk.store.register_lanes, [name])
        self._cursors.add(name, (await self._disk.write(self._disk.store.lanes))[name])

    async def remove_lane(self, name: str) -> None:
        """Forget the place of a sink that is no longer configured, so that it holds nothing any more."""
        self._cursors.remove(name)
        await self._disk.write(self._disk.store.forget_lanes, list(self._cursors.all()))

    # -- the informers' side ------------------------------------------------------------------------------

    def append(
        self,
        stream: StreamKey,
        events: Sequence[Event],
        objects: Mapping[str, Known | None],
        position: Position | None = None,
        states: Mapping[str, State | None] = NO_STATES,
    ) -> None:
        """Take events with what they change in the index, and the resume position behind them.

        `states` is what was told of objects, for later diffs. All of it lands in one transaction. Never
        waits: call `room` between appends.
        """
        self.tally.take(stream, events)
        for event in events:
            self._appended += 1
            event.position = self._appended
        self._pending.add(stream, events, objects, position, states)
        if position:
            self.positions[stream] = position

    @property
    def crowded(self) -> bool:
        """Whether a reader must wait: the disk is behind, failing, or full."""
        return self._pending.crowded or bool(self.failing) or self.full

    @property
    def full(self) -> bool:
        """Whether `max_bytes` is reached and what is stored is still wanted by some lane."""
        return self.retention.over and self._config.when_full == "pause"

    async def room(self) -> None:
        """Wait until `crowded` is over."""
        async with self._news:
            await self._news.wait_for(lambda: not self.crowded)

    async def flush(self) -> None:
        """Wait until all that was appended before is durable."""
        target = self._pending.number
        self._pending.hurry()
        async with self._news:
            await self._news.wait_for(lambda: self._pending.durable >= target)

    async def known(self, stream: StreamKey) -> dict[str, Known]:
        """The index of one stream as of now: key -> uid and resourceVersion."""
        await self.flush()
        return await self._disk.write(self._disk.store.known, stream)

    # -- the lanes' side ----------------------------------------------------------------------------------

    def lane(self, name: str) -> Lane:
        return self._cursors[name]

    def advance(self, name: str, cursor: int) -> None:
        """Everything up to `cursor` is done for this sink; never moves it back."""
        if self._cursors.advance(name, cursor):
            self._pending.wake()

    def turn(self, name: str) -> int:
        """How often this lane's place was set back: what it was doing then doesn't count any more."""
        return self._cursors.turns[name]

    async def set_back(self, name: str, begin: Callable[[Store], int]) -> Repeat:
        """Let a lane repeat what is behind the position that `begin` finds; durable after `settle`."""
        repeat = await self.tidying.set_back(name, begin)
        async with self._news:
            self._news.notify_all()
        return repeat

    async def settle(self) -> None:
        """Wait until every lane's place, as it is now, is durable."""
        self._pending.add(StreamKey(""), (), {}, None)
        await self.flush()

    def told(self, name: str, dropped: int) -> None:
        """The sink has been told, durably, that `dropped` events were given up."""
        self._cursors.told(name, dropped)
        self._pending.wake()

    async def delivered(self, name: str) -> None:
        """Wait until this lane is done with everything durable."""
        async with self._news:
            await self._news.wait_for(lambda: self._cursors[name].cursor >= self.committed)

    async def news(self, after: int, *, lane: str = "") -> None:
        """Wait until an event behind position `after` is durable, or this lane's place is set back."""
        turn = self.turn(lane)
        async with self._news:
            await self._news.wait_for(lambda: self.committed > after or self.turn(lane) != turn)

    async def read(self, after: int) -> Sequence[Event]:
        """Some of the durable events behind position `after`, in order; empty if there are none."""
        if after >= self.committed:
            return ()
        recent = self._recent.after(after)
        return recent if recent is not None else await self._disk.read(after)

    # -- the writer ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit what gathers, for ever; raises JournalError when the file is damaged, or gone."""
        while True:
            await self._pending.gather(self._cursors, self._config.commit_seconds)
            await self._commit()
            self._recent.shorten(self._cursors.passed(self.committed))
            await self.tidying.trim(self.committed)
            async with self._news:
                self._news.notify_all()

    async def _commit(self) -> None:
        """Write what has gathered, however long the disk refuses; nothing newer is reported or shown before.

        A cancellation waits for the transaction under way, so that nobody has to guess whether it went in.
        What did not, whatever the reason, is given back: `close` tries once more, with what has come since,
        whose place would be too far without it.
        """
        if self._pending.idle and not self._cursors.dirty and not self._disk.failing:
            await self._disk.do(self._disk.look)
            return
        batch = self._pending.take(last=self.committed, lanes=self._cursors.take())
        stored, cancelled = None, False
        try:
            while stored is None:
                started = monotonic()
                work = self._disk.do(self._disk.commit, batch.commit)
                cancelled = await settled(work)
                try:
                    stored = work.result()
                except sqlite3.DatabaseError as error:
                    self._disk.refuse(error)
                    if cancelled:
                        raise asyncio.CancelledError from error
                    await self._wait_out(error)
        except BaseException:
            self._pending.give_back(batch, self._cursors)
            raise
        self.tally.commits.observe(monotonic() - started)
        self._landed(batch, stored)
        if cancelled:
            raise asyncio.CancelledError

    async def _wait_out(self, error: sqlite3.DatabaseError) -> None:
        """Make room if that is what the disk lacks, and wait until the next attempt."""
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            await self.tidying.make_room(self.committed)
        await asyncio.sleep(RETRY_SECONDS)

    def _landed(self, batch: Batch, stored: int) -> None:
        self.retention.bytes += stored
        self._pending.durable = batch.number
        if batch.events:
            self._recent.append(batch.events, batch.size)
            self.committed = batch.events[-1].position
        self._disk.accept()

    async def close(self) -> None:
        """Commit what is left, then let go of the file and the directory; call after `run` has ended.

        Where the disk still refuses, it is left: what is not durable was not reported, and is read again.
        """
        try:
            if not self._disk.lost and not (self._pending.idle and not self._cursors.dirty):
                batch = self._pending.take(last=self.committed, lanes=self._cursors.take())
                self._landed(batch, await self._disk.attempt(self._disk.commit, batch.commit))
        except JournalError as error:
            _log.error("what came last is not in the journal; it is read again after the start", error=error)
        finally:
            await self._disk.close()
