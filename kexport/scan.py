"""Objects that came and went inside a gap, so that neither the index nor the listing knows of them.

Samples show those that stayed a while. Then only versions are left at which nothing known was written. At
each of them the server is asked how many objects there are: one too many is somebody nobody knew. Where it
can't count (selectors, namespace patterns) it must list, which costs as much as the stream is big.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

from kexport.change import Known
from kexport.explained import Explained
from kexport.history import AT_ONCE, CompactedError, History, Step, UnreadableError
from kexport.timeline import Timeline
from kexport.walk import Walker

SAMPLES = 2000
APART = 50  # nearer samples cost more than the halving that they spare
LIST_OBJECTS = 5_000  # in bigger streams lists would cost the server and the memory here too much
LIST_ITEMS = 2_000_000  # most objects over all lists: about 24 s of the API server's time
FARTHEST = 100  # looks that are farther apart than that hardly ever find anything
STRETCH = 2_000  # versions that are read, and kept in memory, before any of them is put aside


class Scan:
    """Samples a gap, and looks at versions that nothing explains, stretch by stretch; has the budgets for it.

    `length` is how many versions the gap has, `objects` how many the stream is expected to have.
    """

    def __init__(
        self, history: History, explained: Explained, *, length: int, objects: int, most: int
    ) -> None:
        stream = history.stream
        self._history = history
        self._explained = explained
        self._counts = not stream.selective and not stream.only_namespaces
        self._objects = max(1, objects)
        self._most, self._left = most, length
        self._items = LIST_ITEMS
        self._every = self._distance(length)
        self._one_life = asyncio.Lock()
        self.refused: set[str] = set()
        """Objects of which the timeline may not know all: there numbers say nothing."""
        self.error = ""

    def _distance(self, length: int) -> int:
        """How many versions are to lie between two samples; 0: none are to be made."""
        lists = min(SAMPLES, self._most, self._items // 2 // self._objects)
        if not lists or self._objects > LIST_OBJECTS:
            return 0
        self._items -= lists * self._objects
        return max(APART, self._objects // 2, math.ceil(length / lists))

    @property
    def samples(self) -> bool:
        """Whether the stream is small enough for samples."""
        return self._every > 0

    def until(self, begins: int, ends: int) -> int:
        """Where a stretch ends that begins there; for all streams at the same versions."""
        length = STRETCH
        while length < 4 * self._every:
            length *= 2
        return min(ends, (begins // length + 1) * length)

    async def sample(
        self, before: dict[str, Known], begins: int, ends: int
    ) -> tuple[dict[str, list[Step]], dict[str, Known]]:
        """How each object differed from sample to sample, and what was there at the end."""
        return await self._history.steps(before, begins, ends, every=self._every)

    async def look(self, begins: int, ends: int, timeline: Timeline, walker: Walker) -> bool:
        """Look at the versions of a stretch that nothing explains; whether nothing was overlooked.

        `begins` itself is known; what is found goes to the timeline.
        """
        self._timeline, self._walker = timeline, walker
        self._begins, self._ends, self._complete = begins, ends, True
        versions = range(begins + 1, ends)
        unexplained = len(versions) - self._explained.within(versions)
        most = self._most * (ends - begins) // max(1, self._left)
        self._most, self._left = self._most - min(most, unexplained), self._left - (ends - begins)
        every = math.ceil(unexplained / most) if most else FARTHEST + 1
        if unexplained and (every > 1 or self._history.exhausted):
            self._complete = False
        if every <= FARTHEST and not self._history.exhausted:
            await self._look_at(v for v in versions[:: every or 1] if v not in self._explained)
        return self._complete

    async def _look_at(self, versions: Iterator[int]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work(versions))

    async def _work(self, versions: Iterator[int]) -> None:
        for version in versions:
            if version in self._explained:
                continue
            try:
                await self._look(version)
            except CompactedError:
                self._complete = False  # later versions may still be there
            except UnreadableError as error:
                self._stop(error, versions)

    def _stop(self, error: UnreadableError, versions: Iterator[int]) -> None:
        self._complete = False
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
