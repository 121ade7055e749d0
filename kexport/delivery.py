"""One sink's lane: its own place in the journal, batches, retries, rejects.

The place moves only after `write` returned. Unknown means not delivered: an exception that is neither
TransientError nor RejectedError is a bug, said loudly, and the batch is written again. Lanes share nothing
but the journal, so one sink's trouble never reaches another.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence

from kexport.backoff import Backoff
from kexport.config import SinkSettings
from kexport.encoder import dropped_events
from kexport.errors import ConfigError, DamagedChunkError, RejectedError, SinkError, TransientError
from kexport.event import Event
from kexport.journal import Journal
from kexport.route import Wanted
from kexport.sink import BatchConfig, Sink
from kexport.telemetry import LaneStats, get_log

OPEN_SECONDS = 60.0


class Lane:
    """Delivers to one sink, in order, for ever. `others` finds the lane that `rejects_to` names.

    What can never work ends the lane, unless it is `lasting`: then the sink is tried again, loudly.
    """

    def __init__(
        self,
        settings: SinkSettings,
        sink: Sink,
        *,
        journal: Journal,
        wanted: Wanted,
        stats: LaneStats,
        others: Mapping[str, Lane],
        cluster: str,
        lasting: bool = False,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._sink = sink
        self._journal = journal
        self.wanted = wanted
        self._lasting = lasting
        self._stats = stats
        self._others = others
        self._cluster = cluster
        self._backoff = self._new_backoff()
        self._one_write = asyncio.Lock()  # as a rejects_to target the sink is also written by other lanes
        self._open = False
        self._ahead: deque[Event] = deque()
        self._log = get_log("delivery", sink=self.name)
        self._stats.cursor = journal.lane(self.name).cursor

    def _new_backoff(self) -> Backoff:
        retry = self._settings.retry
        return Backoff(retry.min_seconds, retry.max_seconds)

    # -- the way of a batch -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until cancelled; raises ConfigError when the sink says that it can never work."""
        await self.open()
        while True:
            if dropped := self._journal.lane(self.name).dropped:
                await self._tell_dropped(dropped)
            try:
                batch, reached = await self._next_batch(self._journal.lane(self.name).cursor)
            except DamagedChunkError as error:
                await self._tell_damaged(error)
                continue
            if batch:
                await self._deliver(batch)
            self._move_to(reached)

    def _move_to(self, position: int) -> None:
        """Everything up to this position is done."""
        self._journal.advance(self.name, position)
        self._stats.cursor = position

    async def _next_batch(self, after: int) -> tuple[list[Event], int]:
        """The next events that this sink wants, and the position they reach to, filtered ones included."""
        limits = self._settings.batch
        batch: list[Event] = []
        size, deadline = 0, 0.0
        while True:
            while self._ahead:
                event = self._ahead[0]
                if batch and not _fits(limits, len(batch), size + len(event.line)):
                    return batch, after
                self._ahead.popleft()
                after = event.position
                if self.wanted(event):
                    batch.append(event)
                    size += len(event.line)
                    deadline = deadline or time.monotonic() + limits.max_wait_seconds
                else:
                    self._stats.filtered += 1
            full = len(batch) >= limits.max_events or size >= limits.max_bytes
            if batch and (full or not await self._more(after, deadline)):
                return batch, after
            if not batch:
                # What was filtered is done, too: say so before waiting for what may be long in coming.
                self._move_to(after)
                await self._journal.news(after)
            try:
                self._ahead.extend(await self._journal.read(after))
            except DamagedChunkError:
                if batch:
                    return batch, after  # first what could be read
                raise

    async def _more(self, after: int, deadline: float) -> bool:
        """Whether more events are there, or come before the deadline."""
        if self._journal.committed > after:
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        try:
            async with asyncio.timeout(left):
                await self._journal.news(after)
        except TimeoutError:
            return False
        return True

    async def _deliver(self, batch: Sequence[Event]) -> None:
        """Write until every event of the batch is durable, or set aside."""
        while batch:
            try:
                await self.write(batch)
            except RejectedError as error:
                batch = batch[self._count_written(error, batch) :]
                batch = await self._set_aside(batch, error)
            except SinkError as error:
                batch = batch[self._count_written(error, batch) :]
                await self._wait_after(error)
            except Exception as error:  # noqa: BLE001  (whatever a plugin raises: unknown means not delivered)
                self._log.exception("unexpected error in a sink; the batch is written again", error)
                await self._wait_after(error)
            else:
                self._stats.written += len(batch)
                batch = ()
        self._healthy()

    def _healthy(self) -> None:
        if self._stats.error:
            self._log.info("sink works again")
        self._stats.state, self._stats.error = "delivering", ""
        self._backoff.reset()

    def _count_written(self, error: SinkError, batch: Sequence[Event]) -> int:
        """The durable prefix that the error states; a count that can't be true is taken for none."""
        most = len(batch) - isinstance(error, RejectedError)
        if not 0 <= error.written <= most:
            self._log.error(
                "sink states an impossible count; taken as 0", written=error.written, batch=len(batch)
            )
            return 0
        self._stats.written += error.written
        if error.written:
            self._backoff.reset()
        return error.written

    async def _wait_after(self, error: Exception) -> None:
        retry_after = error.retry_after if isinstance(error, TransientError) else None
        wait = self._backoff.next(retry_after)
        self._stats.retries += 1
        self._stats.state, self._stats.error = "retrying", str(error)
        self._log.warning("write failed", error=error, again_in_seconds=round(wait, 1))
        await asyncio.sleep(wait)

    async def write(self, events: Sequence[Event]) -> None:
        """One write to the sink, alone and in time; raises what the sink raises, TransientError when late."""
        async with self._one_write:
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._settings.timeout_seconds):
                    await self._sink.write(events)
                self._stats.succeeded = time.monotonic()
            except TimeoutError as error:
                raise TransientError(
                    f"the write took longer than timeout_seconds = {self._settings.timeout_seconds:g}"
                ) from error
            finally:
                self._stats.writes.observe(time.monotonic() - started)

    # -- events that cannot be delivered ------------------------------------------------------------------

    async def _set_aside(self, batch: Sequence[Event], error: RejectedError) -> Sequence[Event]:
        """Give the first event to `rejects_to`; what is left to write here."""
        event = batch[0]
        if not self._settings.rejects_to:
            self._log.error(
                "an event is refused for good and holds up its sink; set rejects_to, or mend the sink",
                event=event.id, position=event.position, error=error,
            )  # fmt: skip
            self._stats.state = "held"
            await self._wait_after(error)
            return batch
        self._log.warning("event rejected", event=event.id, to=self._settings.rejects_to, error=error)
        await self._hand_over(event.rejected(sink=self.name, reason=str(error)))
        self._stats.rejected += 1
        return batch[1:]

    async def _hand_over(self, event: Event) -> None:
        """Store a rejected event durably with `rejects_to`; waits as long as that sink needs."""
        backoff = self._new_backoff()
        while True:
            try:
                # Asked for each time: a reload may put another lane in its place.
                target = self._others[self._settings.rejects_to]
                await target.open()
                await target.write([event])
            except Exception as error:  # noqa: BLE001  (this lane must not lose the event, whatever it is)
                wait = backoff.next()
                self._log.error("cannot store a rejected event", error=error, again_in_seconds=round(wait, 1))
                await asyncio.sleep(wait)
            else:
                return

    async def _tell_dropped(self, dropped: int) -> None:
        """The journal was full and gave up events that this sink had not had: it gets a gap event instead."""
        self._log.error("the journal was full; events were given up", events=dropped)
        self._ahead.clear()
        until = self._journal.lane(self.name).cursor
        await self._tell_gap("journal-full", dropped=dropped, until=until)
        self._journal.told(self.name, dropped)
        self._stats.dropped += dropped  # until here the journal counted them: see View.dropped

    async def _tell_damaged(self, error: DamagedChunkError) -> None:
        """Stored events can't be read any more (a bad disk): said, and gone past; waiting won't mend them."""
        self._log.error("events in the journal cannot be read any more", error=error, events=error.count)
        self._stats.dropped += error.count
        await self._tell_gap("journal-damaged", dropped=error.count, until=error.last)
        self._move_to(error.last)

    async def _tell_gap(self, reason: str, *, dropped: int, until: int) -> None:
        gap = dropped_events(self._cluster, self.name, reason=reason, dropped=dropped, until=until)
        await self._deliver([gap])

    # -- life cycle ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the sink, however long it takes; raises ConfigError when it can never work."""
        while not self._open:
            async with self._one_write:
                if self._open:
                    return
                try:
                    async with asyncio.timeout(OPEN_SECONDS):
                        await self._sink.open()
                    self._open = True
                    self._healthy()
                    return
                except ConfigError as error:
                    problem: Exception = ConfigError(f"sinks.{self.name}: {error}")
                    if not self._lasting:
                        raise problem from error
                except Exception as error:  # noqa: BLE001  (as for writes)
                    problem = error
            await self._wait_after(problem)

    async def drained(self) -> None:
        """Wait until everything durable has been delivered."""
        await self._journal.delivered(self.name)

    async def close(self) -> None:
        try:
            await self._sink.close()
        except Exception as error:  # noqa: BLE001  (everything acknowledged is durable; the end goes on)
            self._log.exception("a sink failed to close", error)


def _fits(limits: BatchConfig, count: int, size: int) -> bool:
    return count < limits.max_events and size <= limits.max_bytes
