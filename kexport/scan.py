"""Objects that came and went inside a gap, so that neither the index nor the listing knows of them.

Samples show those that stayed a while. Then only versions are left at which nothing known was written. At
each of them the server is asked how many objects there are: one too many is somebody nobody knew. Where it
can't count (selectors, namespace patterns) it must list, which costs as much as the stream is big.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from itertools import islice

from kexport.change import Known, Stream
from kexport.history import AT_ONCE, CompactedError, History, Step, UnreadableError
from kexport.timeline import Timeline
from kexport.walk import Walker

SAMPLES = 1000
APART = 10  # nearer samples cost more than the objects between them
LIST_OBJECTS = 5_000  # in bigger streams lists would cost the server and the memory here too much
LIST_ITEMS = 2_000_000  # most objects over all lists: about 24 s of the API server's time


class Scan:
    """Looks at the versions of a gap from `begins` to `ends`; what it finds goes to the timeline."""

    def __init__(
        self, stream: Stream, history: History, *, begins: int, ends: int, objects: int, most: int
    ) -> None:
        self._history = history
        self._counts = not stream.selective and not stream.only_namespaces
        self._begins, self._ends = begins, ends
        self._objects = max(1, objects)
        self._most = most
        self._items = LIST_ITEMS
        self._one_life = asyncio.Lock()
        self.refused: set[str] = set()
        """Objects of which the timeline may not know all: there numbers say nothing."""
        self.error = ""
        self.complete = False
        """Every version of the gap was looked at, or is explained."""

    async def samples(self) -> tuple[dict[str, Known], dict[str, list[Step]]] | None:
        """What was there as the gap began, and how each object differed from sample to sample."""
        lists = min(SAMPLES, self._most, self._items // 2 // self._objects)
        if not lists or self._objects > LIST_OBJECTS:
            return None
        every = max(APART, math.ceil((self._ends - self._begins) / lists))
        self._items -= lists * self._objects
        return await self._history.steps(self._begins, self._ends, every=every)

    async def run(self, timeline: Timeline, walker: Walker) -> None:
        """Look at the versions that nothing explains; raises UnreadableError when that has no use."""
        self._timeline, self._walker = timeline, walker
        versions = range(self._begins + 1, self._ends)
        open_ones = [version for version in versions if version not in timeline.explained]
        every = math.ceil(len(open_ones) / self._most) if self._most else 0
        self.complete = every <= 1 and (self._most > 0 or not open_ones)
        if not every:
            return
        left = islice(open_ones, 0, None, every)
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work(left))

    async def _work(self, versions: Iterator[int]) -> None:
        for version in versions:
            if version in self._timeline.explained:
                continue
            try:
                await self._look(version)
            except CompactedError:
                self.complete = False  # later versions may still be there
            except UnreadableError as error:
                self._stop(error, versions)

    def _stop(self, error: UnreadableError, versions: Iterator[int]) -> None:
        self.complete = False
        self.error = str(error)
        for _ in versions:
            pass

    async def _look(self, at: int) -> None:
        if not self._counts or self.refused:
            found = await self._everything(at)
            async with self._one_life:
                await self._compare(found, at)
            return
        number = await self._history.count(at)
        if number is None:
            self._counts = False
            await self._look(at)
        elif number != self._timeline.count(at):
            async with self._one_life:
                if number != self._timeline.count(at):  # not found meanwhile, either
                    await self._compare(await self._everything(at), at)

    async def _everything(self, at: int) -> dict[str, Known]:
        self._items -= self._objects
        if self._items < 0:
            raise UnreadableError("the stream is too big to list that often")
        return await self._history.everything(at)

    async def _compare(self, found: dict[str, Known], at: int) -> None:
        """Whom the timeline does not know of at this version: their lives are read."""
        for key, known in found.items():
            if key not in self.refused and self._timeline.known(key, at) != known:
                await self._life(key, known, at)
        if not self.refused and len(found) != self._timeline.count(at):
            raise UnreadableError("scan and history disagree")

    async def _life(self, key: str, seen: Known, at: int) -> None:
        low, high = self._timeline.around(key, at, low=self._begins, high=self._ends)
        until = await self._walker.back(key, Step(low, None, at, seen))
        try:
            after = await self._walker.back(key, Step(at, seen, high, None))
        except UnreadableError:
            self._walker.forget(until)
            raise
        self._timeline.add(key, until + after)
