"""What was appended to the journal and is not in a transaction yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kexport.change import Known, StreamKey
from kexport.event import Event
from kexport.places import Commit, Lane, Position


class Batch(NamedTuple):
    """A transaction to be; `number` is the newest append in it."""

    commit: Commit
    events: list[Event]
    size: int
    number: int


class Pending:
    """Appends gather here; `take` hands them over whole, `give_back` undoes that."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes of the events."""
        self.number = 0
        """How many appends there were since the start."""
        self._events: list[Event] = []
        self._objects: dict[StreamKey, dict[str, Known | None]] = {}
        self._positions: dict[StreamKey, Position] = {}

    def add(
        self,
        stream: StreamKey,
        events: Iterable[Event],
        objects: Mapping[str, Known | None],
        position: Position | None,
    ) -> None:
        for event in events:
            self.size += len(event.line)
            self._events.append(event)
        if objects:
            self._objects.setdefault(stream, {}).update(objects)
        if position:
            self._positions[stream] = position
        self.number += 1

    def take(self, *, last: int, lanes: Mapping[str, Lane]) -> Batch:
        """Everything so far, to follow the event at position `last`."""
        lines = [event.line for event in self._events]
        commit = Commit(last, lines, self._positions, self._objects, lanes)
        batch = Batch(commit, self._events, self.size, self.number)
        self._events, self.size, self._positions, self._objects = [], 0, {}, {}
        return batch

    def give_back(self, batch: Batch) -> None:
        """It did not go in: it is pending again, before what has come since."""
        self._events = [*batch.events, *self._events]
        self.size += batch.size
        self._positions = {**batch.commit.positions, **self._positions}
        for stream, objects in batch.commit.objects.items():
            self._objects[stream] = {**objects, **self._objects.get(stream, {})}
