"""What the journal took, counted as it comes; since when each part of it is there; and the newest of it.

An event costs one addition here. Everything is bounded: counts by what the configuration names, marks of time
and recent events by number and bytes.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kexport.change import StreamKey
from kexport.errors import DamagedChunkError
from kexport.event import GAP, ROLLBACK, SYNCED, Attributes, Event
from kexport.store import Store
from kexport.telemetry import Histogram

RECENT_EVENTS = 50
RECENT_BYTES = 64 << 10  # of bigger events only the attributes are kept
RECENT_GAPS = 20
_SAMPLES = 64
_WORDS = {GAP: "gap", ROLLBACK: "rollback"}


class Mark(NamedTuple):
    """Events behind `position` are not older than `at` (monotonic)."""

    position: int
    at: float


class Marks:
    """When which part of the journal was observed; close marks for what is new, wide ones for what is old."""

    def __init__(self, *, every_seconds: float = 0.05, most: int = 4096) -> None:
        self._every = every_seconds
        self._most = most
        self._marks: list[Mark] = []

    def begin(self, marks: Iterator[Mark], oldest: int) -> None:
        """What was stored before this process started."""
        self._marks = [*marks]
        self.forget(oldest)

    def note(self, position: int, at: float) -> None:
        """The event behind this position is being observed now."""
        if self._marks and at - self._marks[-1].at < self._every:
            return
        self._marks.append(Mark(position, at))
        if len(self._marks) > self._most:
            half = self._most // 2
            self._marks[:half] = self._marks[:half:2]

    def forget(self, oldest: int) -> None:
        """Events up to this position are not stored any more."""
        del self._marks[: max(0, self._behind(oldest))]

    def since(self, position: int) -> float | None:
        """A time (monotonic) at or shortly before which the event behind this position was observed."""
        return self._marks[max(0, self._behind(position))].at if self._marks else None

    def _behind(self, position: int) -> int:
        """The last mark that is not behind this position; -1 if all are."""
        return bisect_right(self._marks, position, key=lambda mark: mark.position) - 1


class Seen(NamedTuple):
    """One of the newest events; `line` is empty when it was too big to keep."""

    attributes: Attributes
    line: bytes


class Tally:
    """Fed by the journal; read by whoever shows figures."""

    def __init__(self) -> None:
        self.changes: Counter[tuple[StreamKey, str, str]] = Counter()
        """How many events of each stream, type and origin; stream events have their own types."""
        self.gaps: Counter[tuple[StreamKey, str]] = Counter()
        self.gap_times: dict[tuple[StreamKey, str, bool], float] = {}
        """When the last gap of each stream and reason was (monotonic), by whether all of it was recovered."""
        self.snapshots: Counter[tuple[StreamKey, str]] = Counter()
        """Finished listings by their reason: that of the gap they close, or `initial`."""
        self.recent: deque[Seen] = deque(maxlen=RECENT_EVENTS)
        self.recent_gaps: deque[dict[str, Any]] = deque(maxlen=RECENT_GAPS)
        self.marks = Marks()
        self.commits = Histogram()
        self.newest = 0

    def begin(self, store: Store, newest: int, oldest: int) -> None:
        """What is stored as the journal opens: positions `oldest` (excluded) to `newest`."""
        self.newest = newest
        self.marks.begin(_sample(store, oldest, newest), oldest)

    def take(self, stream: StreamKey, events: Sequence[Event]) -> None:
        """These events come next."""
        if not events:
            return
        self.marks.note(self.newest, time.monotonic())
        self.newest += len(events)
        reason = "initial"
        for event in events:
            attributes = event.attributes
            self.changes[stream, attributes.type, attributes.origin] += 1
            if attributes.type in _WORDS:
                reason = self._take_gap(stream, event)
            elif attributes.type == SYNCED:
                reason = event.data["object"].get("reason", reason)
                self.snapshots[stream, reason] += 1
        for event in events[-RECENT_EVENTS:]:
            line = event.line if len(event.line) <= RECENT_BYTES else b""
            self.recent.append(Seen(event.attributes, line))

    def _take_gap(self, stream: StreamKey, event: Event) -> str:
        details = event.data["object"]
        # What stands behind the colon (why a journal was lost) is free text, and no label.
        reason = str(details.get("reason", "")).partition(":")[0]
        self.gaps[stream, reason] += 1
        self.gap_times[stream, reason, details.get("complete") is True] = time.monotonic()
        what = _WORDS[event.type]
        self.recent_gaps.append({"kind": what, "time": event.attributes.time, **details})
        return reason

    def lag(self, cursor: int) -> tuple[int, float]:
        """How far a lane is behind: events, and the seconds since the oldest of them was observed."""
        behind = max(0, self.newest - cursor)
        return behind, self.age(cursor) if behind else 0.0

    def age(self, position: int) -> float:
        """Seconds since the event behind this position was observed."""
        since = self.marks.since(position)
        return max(0.0, time.monotonic() - since) if since is not None else 0.0


def _sample(store: Store, oldest: int, newest: int) -> Iterator[Mark]:
    """Marks of what is stored, at equal distances: reading all of it would hold up the start."""
    step = max(1, (newest - oldest) // _SAMPLES)
    position = oldest
    while position < newest:
        try:
            (chunk,) = store.read(position, most_bytes=1)
        except (DamagedChunkError, ValueError):  # said by the lane that meets it; nothing there any more
            position += step
            continue
        age = max(0.0, time.time() - Event(chunk.lines[0]).time.timestamp())
        yield Mark(chunk.last - len(chunk.lines), time.monotonic() - age)
        position = max(chunk.last, position + step)
