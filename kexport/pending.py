"""What was appended to the journal and is not in a transaction yet, and when it is time for one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from math import inf
from time import monotonic
from typing import NamedTuple

from kexport.change import Known, StreamKey
from kexport.cursors import Cursors
from kexport.event import Event
from kexport.places import NO_STATES, Commit, Lane, Position, State
from kexport.waiting import wait_set

FULL_COMMIT_BYTES = 1 << 20
CROWDED_BYTES = 16 << 20  # beyond this the reader waits for the disk
LANE_COMMIT_SECONDS = 0.1  # a cursor that is lost costs repeats only, so it may wait for company
PLACE_COMMIT_SECONDS = 1.0  # so may a stream's place without events: bookmarks of many streams share a commit
TICK_SECONDS = 1.0


class Batch(NamedTuple):
    """A transaction to be; `number` is the newest append in it."""

    commit: Commit
    events: list[Event]
    size: int
    number: int


class Pending:
    """Appends gather here; `take` hands them over whole, `give_back` undoes that."""

    def __init__(self, journal_bytes: int) -> None:
        # A small journal is not to be overrun by what is on its way to it.
        self._most = min(CROWDED_BYTES, journal_bytes // 4)
        self.size = 0
        """Bytes of the events."""
        self.number = 0
        """How many appends there were since the start, …"""
        self.durable = 0
        """… and how many of them are in a finished transaction."""
        self._gathered_at = -inf  # when the last transaction that had to be soon was due
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._events: list[Event] = []
        self._objects: dict[StreamKey, dict[str, Known | None]] = {}
        self._positions: dict[StreamKey, Position] = {}
        self._states: dict[StreamKey, dict[str, State | None]] = {}

    def add(
        self,
        stream: StreamKey,
        events: Iterable[Event],
        objects: Mapping[str, Known | None],
        position: Position | None,
        states: Mapping[str, State | None] = NO_STATES,
    ) -> None:
        for event in events:
            self.size += len(event.line)
            self._events.append(event)
        if objects:
            self._objects.setdefault(stream, {}).update(objects)
        if states:
            self._states.setdefault(stream, {}).update(states)
        if position:
            self._positions[stream] = position
        self.number += 1
        self.wake()
        if self.size >= FULL_COMMIT_BYTES:
            self._hurry.set()

    @property
    def crowded(self) -> bool:
        """Whether so much has gathered that readers must wait."""
        return self.size >= self._most

    @property
    def idle(self) -> bool:
        return self.durable == self.number

    @property
    def _urgent(self) -> bool:
        """Whether something waits that lanes or the index want, or somebody who asked."""
        return bool(self._events or self._objects or self._states) or self._hurry.is_set()

    def wake(self) -> None:
        """There is something to write."""
        self._wanted.set()

    def hurry(self) -> None:
        """Somebody waits for what was appended."""
        self._hurry.set()
        self._wanted.set()

    async def gather(self, cursors: Cursors, commit_seconds: float) -> None:
        """Wait for something to write. What comes after a pause is written at once.

        Under load company gathers by itself: transactions begin `commit_seconds` apart, or are full.
        """
        await wait_set(self._wanted, TICK_SECONDS)
        self._wanted.clear()
        began = monotonic()
        while not self._urgent and (cursors.dirty or not self.idle):
            patience = LANE_COMMIT_SECONDS if cursors.dirty else PLACE_COMMIT_SECONDS
            if (left := began + patience - monotonic()) <= 0:
                return
            await wait_set(self._wanted, left)
            self._wanted.clear()
        if self._urgent:
            if (left := self._gathered_at + commit_seconds - monotonic()) > 0:
                await wait_set(self._hurry, left)
            self._gathered_at = monotonic()

    def take(self, *, last: int, lanes: Mapping[str, Lane]) -> Batch:
        """Everything so far, to follow the event at position `last`."""
        self._hurry.clear()
        lines = [event.line for event in self._events]
        commit = Commit(last, lines, self._positions, self._objects, lanes, self._states)
        batch = Batch(commit, self._events, self.size, self.number)
        self._events, self.size, self._positions, self._objects, self._states = [], 0, {}, {}, {}
        return batch

    def give_back(self, batch: Batch, cursors: Cursors) -> None:
        """It did not go in: it is pending again, before what has come since."""
        cursors.give_back(batch.commit.lanes)
        self._events = [*batch.events, *self._events]
        self.size += batch.size
        self._positions = {**batch.commit.positions, **self._positions}
        for stream, objects in batch.commit.objects.items():
            self._objects[stream] = {**objects, **self._objects.get(stream, {})}
        for stream, states in batch.commit.states.items():
            self._states[stream] = {**states, **self._states.get(stream, {})}
