"""Last told states: from the journal when they are asked for; in memory, within a bound, while they are new.

What is not durable yet is only here, and stays until it is; anything else may be let go of, since the journal
has it. All streams share one bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kexport.change import StreamKey
from kexport.laststates import LastStates
from kexport.places import State

MEMORY_BYTES = 32 << 20
_ENTRY_BYTES = 200  # of a key and its place here, about


class _Entry(NamedTuple):
    state: State | None
    number: int
    """The append that makes it durable."""

    @property
    def size(self) -> int:
        return _ENTRY_BYTES + (len(self.state.data) if self.state else 0)


class Remembered:
    """`fetch`, then `get` without a pause between: a pause may be used to let go of what was fetched."""

    def __init__(self, stored: LastStates, *, max_bytes: int = MEMORY_BYTES) -> None:
        self._stored = stored
        self._max = max_bytes
        self._entries: dict[tuple[StreamKey, str], _Entry] = {}  # what was used last comes last
        self._size = 0

    async def fetch(self, stream: StreamKey, keys: Iterable[str]) -> None:
        """See to it that `get` knows of these objects."""
        wanted = dict.fromkeys(keys)
        # While some are read another stream may let go of others.
        while missing := [key for key in wanted if (stream, key) not in self._entries]:
            found = await self._stored.read(stream, missing)
            for key in missing:
                self._set(stream, key, _Entry(found.get(key), 0))
        for key in wanted:
            self._entries[stream, key] = self._entries.pop((stream, key))
        self._shrink(len(wanted))

    def get(self, stream: StreamKey, key: str) -> State | None:
        """The object's last told state; None when there is none. Raises KeyError for one not fetched."""
        return self._entries[stream, key].state

    def put(self, stream: StreamKey, key: str, state: State | None) -> None:
        """It is told with the next append."""
        self._set(stream, key, _Entry(state, self._stored.appends + 1))

    def forget(self, stream: StreamKey) -> None:
        """What was remembered of this stream does not count any more."""
        for place in [each for each in self._entries if each[0] == stream]:
            self._size -= self._entries.pop(place).size

    def _set(self, stream: StreamKey, key: str, entry: _Entry) -> None:
        if before := self._entries.pop((stream, key), None):
            self._size -= before.size
        self._entries[stream, key] = entry
        self._size += entry.size

    def _shrink(self, kept: int) -> None:
        """Let go of what was used longest ago, but not of the last ones."""
        durable = self._stored.durable
        while self._size > self._max and len(self._entries) > kept:
            place, entry = next(iter(self._entries.items()))
            if entry.number > durable:
                return  # soon
            del self._entries[place]
            self._size -= entry.size
