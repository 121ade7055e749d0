"""What is known of the events of the write at hand, kept from one write to the next.

When a server rejects records without saying which, the search settles events behind the first rejected one,
too. The engine hears of one rejected event at a time and writes the rest again: what is settled already is
then neither sent nor searched again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kexport import Event


class Progress(NamedTuple):
    """The durable prefix, and why the event behind it is refused, if it is."""

    written: int
    refusal: str = ""


class Ledger:
    """Fates by the event's bytes: an event that differs in any way is another one."""

    def __init__(self) -> None:
        self._fates: dict[bytes, str] = {}
        self._places: dict[bytes, int] = {}
        self._refused_at: dict[str, int] = {}
        self._doubts: dict[bytes, int] = {}

    def begin(self, events: Sequence[Event]) -> None:
        """A write is about these: forget all others."""
        lines = [event.line for event in events]
        self._fates = {line: self._fates[line] for line in lines if line in self._fates}
        self._doubts = {line: self._doubts[line] for line in lines if line in self._doubts}
        self._places = {line: place for place, line in enumerate(lines)}
        self._refused_at = {}
        for event in events:
            if reason := self._fates.get(event.line):
                self.refused(event, reason=reason)

    def pending(self, events: Sequence[Event]) -> list[Event]:
        return [event for event in events if event.line not in self._fates]

    def may_go(self, event: Event) -> bool:
        """Not settled yet, and behind no refused event of its object, which may yet be delivered."""
        place = self._places[event.line]
        return event.line not in self._fates and place <= self._refused_at.get(object_of(event), place)

    def delivered(self, events: Sequence[Event]) -> None:
        self._fates.update((event.line, "") for event in events)

    def refused(self, event: Event, *, reason: str) -> None:
        self._fates[event.line] = reason
        key, place = object_of(event), self._places[event.line]
        self._refused_at[key] = min(place, self._refused_at.get(key, place))

    def doubt(self, event: Event) -> int:
        """The server failed at it, and it may be to blame; how often that has been so."""
        self._doubts[event.line] = self._doubts.get(event.line, 0) + 1
        return self._doubts[event.line]

    def progress(self, events: Sequence[Event]) -> Progress:
        for index, event in enumerate(events):
            if self._fates.get(event.line) != "":
                return Progress(index, self._fates.get(event.line, ""))
        return Progress(len(events))


def object_of(event: Event) -> str:
    """What must stay in order: the events of one object."""
    try:
        return event.key
    except ValueError:  # no event of ours: it is refused, and stands in nobody's way
        return ""
