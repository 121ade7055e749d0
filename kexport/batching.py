"""What a sink is to have next: read from the journal, chosen by its routes, in batches as it wants them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from kexport.config import SinkSettings
from kexport.errors import DamagedChunkError
from kexport.event import Event
from kexport.journal import Journal
from kexport.route import Wanted
from kexport.sink import BatchConfig
from kexport.telemetry import LaneStats


class Batches:
    """One lane's; `moved` is told up to where nothing was wanted, before what may be a long wait."""

    def __init__(
        self,
        settings: SinkSettings,
        journal: Journal,
        wanted: Wanted,
        stats: LaneStats,
        *,
        moved: Callable[[int], None],
    ) -> None:
        self.wanted = wanted
        self._name = settings.name
        self._limits = settings.batch
        self._journal = journal
        self._stats = stats
        self._moved = moved
        self._ahead: deque[Event] = deque()
        self._turn = journal.turn(self._name)

    @property
    def set_back(self) -> bool:
        """Whether the lane's place was set back for a replay: what is under way doesn't count any more."""
        return self._journal.turn(self._name) != self._turn

    def begin_anew(self) -> None:
        """What is read next is what stands behind the lane's place as it is now."""
        self._ahead.clear()
        self._turn = self._journal.turn(self._name)

    async def next(self, after: int) -> tuple[list[Event], int]:
        """The next events that this sink wants, and the position they reach to, filtered ones included.

        Without events where the lane must look at its place first. Raises DamagedChunkError.
        """
        batch: list[Event] = []
        size, deadline = 0, 0.0
        while True:
            while self._ahead:
                event = self._ahead[0]
                if batch and not _fits(self._limits, len(batch), size + len(event.line)):
                    return batch, after
                self._ahead.popleft()
                self._stats.under_way = after = event.position
                if self.wanted(event):
                    batch.append(event)
                    size += len(event.line)
                    deadline = deadline or time.monotonic() + self._limits.max_wait_seconds
                else:
                    self._stats.filtered += 1
            full = len(batch) >= self._limits.max_events or size >= self._limits.max_bytes
            if batch and (full or not await self._more(after, deadline)):
                return batch, after
            if not batch and not await self._come(after):
                return [], after
            try:
                found = await self._journal.read(after)
            except DamagedChunkError:
                if batch:
                    return batch, after  # first what could be read
                raise
            if await self._overrun(after, found):
                return batch, after
            self._ahead.extend(found)

    async def _come(self, after: int) -> bool:
        """Wait for an event; False if the place is set back."""
        # What was filtered is done, too: say so before waiting for what may be long in coming.
        self._moved(after)
        if not self.set_back:
            await self._journal.news(after, lane=self._name)
        return not self.set_back

    async def _more(self, after: int, deadline: float) -> bool:
        """Whether more events are there, or come before the deadline."""
        if self.set_back:
            return False
        if self._journal.committed > after:
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        try:
            async with asyncio.timeout(left):
                await self._journal.news(after, lane=self._name)
        except TimeoutError:
            return False
        return True

    async def _overrun(self, after: int, found: Sequence[Event]) -> bool:
        """Whether events between `after` and what was found were given up: the sink is told that first.

        They may also have been delivered: a place that was not on disk yet when kexport was killed is further
        back than what is stored. Then the lane's place is there, and not behind the hole.
        """
        first = found[0].position if found else self._journal.committed + 1
        if first <= after + 1:
            return False
        await self._journal.tidying.settled()
        return self._journal.lane(self._name).cursor >= first - 1


def _fits(limits: BatchConfig, count: int, size: int) -> bool:
    return count < limits.max_events and size <= limits.max_bytes
