"""What is known about a stretch of history so far: each object's moments, and so how many there were when.

Where the server counts another number of objects than the timeline, somebody is missing in it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from operator import attrgetter

from kexport.change import Known
from kexport.walk import Moment


class Timeline:
    """The objects of one stream over a while; `known` is what there was as it began."""

    def __init__(self, known: Mapping[str, Known]) -> None:
        self._known = known
        self._moments: dict[str, list[Moment]] = {}
        self._began: list[int] = []
        self._ended: list[int] = []

    def add(self, key: str, moments: list[Moment]) -> None:
        """What was found about an object; it may lie between what was found before."""
        for began, at in self._turns(key):
            turns = self._began if began else self._ended
            del turns[bisect_left(turns, at)]
        mine = {moment.at: moment for moment in (*moments, *self.moments(key))}
        self._moments[key] = [mine[at] for at in sorted(mine)]
        for began, at in self._turns(key):
            insort(self._began if began else self._ended, at)

    def _turns(self, key: str) -> Iterator[tuple[bool, int]]:
        """Where the object came into the stream (True), and where it went."""
        there = key in self._known
        for moment in self.moments(key):
            if there != (moment.known is not None):
                there = not there
                yield there, moment.at

    def moments(self, key: str) -> list[Moment]:
        """All that is known of it, oldest first."""
        return self._moments.get(key, [])

    def items(self) -> Iterator[tuple[str, list[Moment]]]:
        """The objects of which something is known."""
        yield from self._moments.items()

    def known(self, key: str, at: int) -> Known | None:
        """What the stream had of this object at a version, so far as is known."""
        moments = self.moments(key)
        index = bisect_right(moments, at, key=attrgetter("at"))
        return moments[index - 1].known if index else self._known.get(key)

    def count(self, at: int) -> int:
        """How many objects the stream had at a version."""
        return len(self._known) + bisect_right(self._began, at) - bisect_right(self._ended, at)

    def around(self, key: str, at: int, *, low: int, high: int) -> tuple[int, int]:
        """The time in which nothing is known of an object: between two of its moments."""
        moments = self.moments(key)
        index = bisect_right(moments, at, key=attrgetter("at"))
        before = moments[index - 1].at if index else low
        after = moments[index].at - 1 if index < len(moments) else high
        return before, after
