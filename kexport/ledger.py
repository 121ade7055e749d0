"""What the streams of one API server learn from each other while they read a gap back.

A restart of the API server interrupts all streams at once, and a version that is a write to an object of
one resource is none of another. So each says which versions it can explain, and waits a while for the
others. Only streams of the same etcd may: a cluster can keep some resources in another, counted apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from kexport.change import StreamKey
from kexport.history import History, UnreadableError
from kexport.kube import Client


class Ledger:
    """The recoveries that are under way on one API server."""

    def __init__(self) -> None:
        self._walking: set[StreamKey] = set()
        self._told: dict[StreamKey, tuple[History, set[int]]] = {}
        self._active = 0
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def entered(self, key: StreamKey) -> AsyncIterator[None]:
        """While a stream is recovered; after the last one all is forgotten."""
        self._active += 1
        self._walking.add(key)
        try:
            yield
        finally:
            self._rest(key)
            self._active -= 1
            if not self._active:
                self._told.clear()

    def _rest(self, key: StreamKey) -> None:
        self._walking.discard(key)
        self._changed.set()
        self._changed = asyncio.Event()

    async def told(self, key: StreamKey, history: History, explained: set[int]) -> None:
        """Tell the others what this stream explains, and add to it what they do."""
        mine = set(explained)
        self._told[key] = history, mine
        self._rest(key)
        async with history.waiting():
            while self._walking:
                await self._changed.wait()
        for theirs, versions in list(self._told.values()):
            if history.apart_from(theirs) and await same_etcd(history, theirs):
                explained |= versions


async def same_etcd(mine: History, theirs: History) -> bool:
    """Whether both read one etcd: then theirs, asked between two of mine, can't but lie between them.

    Counts of two etcds would have to agree to within the few writes of some milliseconds.
    """
    try:
        before, between, after = await mine.newest(), await theirs.newest(), await mine.newest()
    except UnreadableError:
        return False
    return before <= between <= after


_ledgers: WeakKeyDictionary[Client, Ledger] = WeakKeyDictionary()


def ledger_of(client: Client) -> Ledger:
    """The one of this API server."""
    return _ledgers.setdefault(client, Ledger())
