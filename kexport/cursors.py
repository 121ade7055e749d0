"""How far each sink has come in the journal, and which of these places are not on disk yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from kexport.places import Lane


class Cursors:
    """A place for each lane. A cursor that is lost costs repeats only; one that is too far loses events."""

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        self._lanes = dict(lanes)
        self.dirty: set[str] = set()
        """The lanes whose place is not on disk yet."""
        self.turns: Counter[str] = Counter()
        """How often each lane's place was set back."""

    def __getitem__(self, name: str) -> Lane:
        return self._lanes[name]

    def all(self) -> dict[str, Lane]:
        return dict(self._lanes)

    def passed(self, default: int) -> int:
        """The position up to which every lane is done."""
        return min((lane.cursor for lane in self._lanes.values()), default=default)

    def set(self, name: str, lane: Lane) -> None:
        self._lanes[name] = lane
        self.dirty.add(name)

    def advance(self, name: str, cursor: int) -> bool:
        """Everything up to `cursor` is done for this lane; whether that is new."""
        lane = self._lanes[name]
        if (done := lane.done(cursor)) == lane:
            return False
        self.set(name, done)
        return True

    def told(self, name: str, dropped: int) -> None:
        """This lane's sink knows of so many of the events that were given up."""
        lane = self._lanes[name]
        self.set(name, lane._replace(dropped=lane.dropped - dropped))

    def set_back(self, name: str, cursor: int) -> int:
        """Let a lane have again what is behind `cursor`; how many events, 0 if it has not come so far."""
        lane = self._lanes[name]
        if cursor >= lane.cursor:
            return 0
        self.set(name, lane._replace(cursor=cursor))
        self.turns[name] += 1
        return lane.cursor - cursor

    def add(self, name: str, lane: Lane) -> None:
        """A lane whose place is on disk already."""
        self._lanes[name] = lane

    def remove(self, name: str) -> None:
        del self._lanes[name]
        self.dirty.discard(name)

    def overrun(self, before: Mapping[str, Lane], overrun: Mapping[str, Lane]) -> None:
        """These lanes lost events while they went on from `before`; none goes back, and told stays told.

        What one of them was done with meanwhile was not lost to it.
        """
        for name, lane in overrun.items():
            if now := self._lanes.get(name):
                new = Lane(lane.cursor, lane.dropped - before[name].dropped).done(now.cursor)
                self.set(name, Lane(new.cursor, now.dropped + new.dropped))

    def take(self) -> dict[str, Lane]:
        """The places to be written now."""
        lanes = {name: self._lanes[name] for name in self.dirty}
        self.dirty.clear()
        return lanes

    def give_back(self, lanes: Iterable[str]) -> None:
        """What was taken for these did not get to the disk; some of them may be gone by now."""
        self.dirty |= self._lanes.keys() & set(lanes)
