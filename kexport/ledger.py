"""What the streams of one API server learn from each other while they read a gap back.

A restart of the API server interrupts all streams at once, and a version that is a write to an object of
one resource is none of another. So all write down in one place which versions they can explain, and nobody
goes to look at what is left before the others have come as far. Only streams of the same etcd may: a cluster
can keep some resources in another, counted apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import NamedTuple
from weakref import WeakKeyDictionary

from kexport.change import StreamKey
from kexport.explained import Explained
from kexport.history import History, UnreadableError
from kexport.kube import Client


class Done(IntEnum):
    """What a stream has done about the stretch of history up to some version, in this order."""

    NOTHING = 0
    VERSIONS = 1
    """The versions of all objects that are known are read."""
    DELETIONS = 2


class _Member(NamedTuple):
    history: History
    explained: Explained


class Ledger:
    """The recoveries that are under way on one API server."""

    def __init__(self) -> None:
        self._reached: dict[StreamKey, tuple[int, Done]] = {}
        self._etcds: list[list[_Member]] = []
        self._joining = asyncio.Lock()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def entered(self, key: StreamKey) -> AsyncIterator[None]:
        """While a stream is recovered; after the last one all is forgotten."""
        self._reached[key] = 0, Done.NOTHING
        try:
            yield
        finally:
            del self._reached[key]
            self._tell()
            if not self._reached:
                self._etcds = []

    async def explained(self, history: History) -> Explained:
        """Where this stream writes down what it can explain, and sees what others of its etcd can."""
        mine = _Member(history, Explained())
        async with self._joining:
            those = await self._of_same_etcd(history)
            for other in those:
                if history.apart_from(other.history):
                    mine.explained.share(other.explained)
            those.append(mine)
        return mine.explained

    async def _of_same_etcd(self, mine: History) -> list[_Member]:
        """One stream of each etcd is asked: asking all, many streams would wait for each other's requests."""
        for members in self._etcds:
            for other in members:
                same = await same_etcd(mine, other.history)
                if same:
                    return members
                if same is not None:
                    break
        self._etcds.append([])
        return self._etcds[-1]

    async def reached(self, key: StreamKey, upto: int, done: Done, history: History) -> None:
        """This stream has done so much up to a version; wait, within limits, until all others have, too."""
        self._reached[key] = mine = upto, done
        self._tell()
        if history.exhausted:
            return
        async with history.waiting():
            while min(self._reached.values()) < mine:
                await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def same_etcd(mine: History, theirs: History) -> bool | None:
    """Whether both read one etcd: then theirs, asked between two of mine, can't but lie between them.

    Counts of two etcds would have to agree to within the few writes of some milliseconds. None: one of the
    two can't be read at present.
    """
    try:
        before, between, after = await mine.newest(), await theirs.newest(), await mine.newest()
    except UnreadableError:
        return None
    return before <= between <= after


_ledgers: WeakKeyDictionary[Client, Ledger] = WeakKeyDictionary()


def ledger_of(client: Client) -> Ledger:
    """The one of this API server."""
    return _ledgers.setdefault(client, Ledger())
