"""The newest committed events, in memory, within a bound of bytes: what a lane that keeps up reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from kexport.event import Event


class Block(NamedTuple):
    """Consecutive events that were committed together."""

    first: int
    events: Sequence[Event]
    size: int

    @property
    def last(self) -> int:
        return self.first + len(self.events) - 1


class Recent:
    """A tail of the journal; blocks follow each other without a hole."""

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._blocks: deque[Block] = deque()
        self._size = 0

    def append(self, events: Sequence[Event], size: int) -> None:
        self._blocks.append(Block(events[0].position, events, size))
        self._size += size

    def after(self, position: int) -> Sequence[Event] | None:
        """The events of one block behind `position`; None when they are not, or no longer, here."""
        if not self._blocks or self._blocks[0].first > position + 1:
            return None
        for block in reversed(self._blocks):  # a lane that keeps up wants the newest
            if block.first <= position + 1:
                return block.events[position + 1 - block.first :]
        return None

    def shorten(self, passed: int) -> None:
        """Let go of what every lane has had (up to `passed`), and of the oldest above the bound."""
        while self._blocks and (self._size > self._max or self._blocks[0].last <= passed):
            self._size -= self._blocks.popleft().size
