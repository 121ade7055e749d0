"""One API server of several in front of the same etcd: its own watch caches, and how far behind they are.

What it says about a version holds for itself alone. A replica that lags shows an older state and is silent
about what came later; one that was restarted knows nothing from before.
"""

import asyncio
import math
from collections import deque
from typing import NamedTuple

from kexport.testing.clock import Clock
from kexport.testing.failure import initializing, too_large
from kexport.testing.kinds import Resource
from kexport.testing.settings import Settings
from kexport.testing.store import Change, Store
from kexport.testing.watchcache import Ending, WatchCache


class _News(NamedTuple):
    """A step of etcd that the caches have not taken yet; without changes it is a mere progress notice."""

    revision: int
    at: float
    changes: tuple[Change, ...]


class Replica:
    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.revision = store.revision
        """Where its watch caches stand; never beyond etcd's own revision."""
        self.caches: dict[str, WatchCache] = {}
        self.initializing = 0
        """How many blocks of a test keep its caches from being filled."""
        self._settings = settings
        self._lag_revisions, self._lag_seconds = 0.0, 0.0
        self._unseen: deque[_News] = deque()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._down_since = clock.now()

    def serve(self, resource: Resource) -> None:
        if resource.name not in self.caches:
            self.caches[resource.name] = WatchCache(
                resource.name,
                clock=self.clock,
                capacity=self._settings.ring_capacity,
                listed_at=self.revision,
                store=None if resource.cached else self.store,
            )

    def withdraw(self, resource: str) -> None:
        self.caches.pop(resource).end(Ending.DRAINED)

    def lag(self, *, revisions: float, seconds: float) -> None:
        self._lag_revisions, self._lag_seconds = revisions, seconds
        self.follow()

    def learn(self, changes: tuple[Change, ...]) -> None:
        """Hear of a step of etcd. What has no watch cache is watched in etcd itself, and never lags."""
        for change in changes:
            cache = self.caches.get(change.resource)
            if cache and not cache.cached:
                cache.add(change)
        self._unseen.append(_News(self.store.revision, self.clock.now(), changes))
        self.follow()
        if self._unseen and self._lag_seconds:
            asyncio.get_running_loop().call_later(self._lag_seconds, self.follow)

    def follow(self) -> None:
        """Take in what the lag lets through."""
        while self._unseen and self._due(self._unseen[0]):
            news = self._unseen.popleft()
            self.revision = news.revision
            for change in news.changes:
                cache = self.caches.get(change.resource)
                if cache and cache.cached:
                    cache.add(change)
        for wanted, reached in self._waiting:
            if wanted <= self.revision and not reached.done():
                reached.set_result(None)

    def begin_anew(self, resource: str = "", ending: Ending = Ending.CLEAN) -> None:
        """Fill the caches (or that of one resource) from etcd: nothing before now can be watched any more."""
        if not resource:
            self._unseen.clear()
            self.revision = self.store.revision
        for name, cache in self.caches.items():
            if resource in ("", name):
                cache.begin_anew(self.revision, ending)

    def end(self, ending: Ending) -> None:
        for cache in self.caches.values():
            cache.end(ending)

    def bookmark(self) -> None:
        for cache in self.caches.values():
            cache.bookmark(self.revision)

    async def fresh(self, resource: Resource, revision: int) -> None:
        """Wait until a read at this revision can be answered, or answer that it can't."""
        if not resource.cached:  # etcd says at once what the watch cache waits for
            if revision > self.store.revision:
                raise too_large(revision, self.store.revision, retry_after=0)
        elif not await self.reached(revision):
            raise too_large(revision, self.revision)

    async def reached(self, revision: int) -> bool:
        """Wait until the caches are there; tell whether they came in time."""
        if revision <= self.revision:
            return True
        waiter = (revision, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._settings.fresh_wait_seconds):
                await waiter[1]
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(waiter)
        return True

    def at(self, resource: Resource) -> int:
        """Return the revision that this replica shows a resource at."""
        return self.revision if resource.cached else self.store.revision

    def initialize(self, *, done: bool) -> None:
        if not self.initializing:
            self._down_since = self.clock.now()
        self.initializing += -1 if done else 1

    def check_ready(self, resource: Resource) -> None:
        """Refuse what needs a watch cache that is not filled yet; the advice grows with the downtime."""
        if self.initializing and resource.cached:
            downtime = self.clock.now() - self._down_since
            raise initializing(int(min(30, max(1, math.exp(0.06 * min(downtime, 100))))))

    def _due(self, news: _News) -> bool:
        behind = self.store.revision - self._lag_revisions
        return news.revision <= behind and news.at + self._lag_seconds <= self.clock.now()
