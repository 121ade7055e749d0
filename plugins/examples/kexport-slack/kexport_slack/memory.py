"""The last state of each object that Slack was told about: bounded, in memory, gone with the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from kexport_slack.state import State


class Known(NamedTuple):
    """An object's state, and the event that told it."""

    state: State
    event: str
    sequence: str


class Memory:
    """The objects that were looked at longest ago are forgotten first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[str, Known] = OrderedDict()

    def get(self, key: str) -> Known | None:
        return self._known.get(key)

    def keep(self, news: Mapping[str, Known]) -> None:
        """Only what Slack has acknowledged; else a repeat would find nothing new."""
        for key, known in news.items():
            self._known[key] = known
            self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known)


class Draft:
    """The memory as it will be if the message arrives; the memory itself stays as it is until then."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._news: dict[str, Known] = {}

    def get(self, key: str) -> Known | None:
        return self._news.get(key) or self._memory.get(key)

    def note(self, key: str, known: Known) -> None:
        self._news.pop(key, None)  # the order is that of the last look
        self._news[key] = known

    def arrived(self) -> None:
        self._memory.keep(self._news)
