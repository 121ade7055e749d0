"""One sink's lane: its own place in the journal, batches, retries, rejects.

The place moves only after `write` returned. Unknown means not delivered: an exception that is neither
TransientError nor RejectedError is a bug, said loudly, and the batch is written again. Lanes share nothing
but the journal, so one sink's trouble never reaches another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kexport.backoff import Backoff
from kexport.batching import Batches
from kexport.config import SinkSettings
from kexport.encoder import dropped_events
from kexport.errors import ConfigError, DamagedChunkError, RejectedError, SinkError, TransientError, placed
from kexport.event import Event
from kexport.hold import Hold
from kexport.journal import Journal
from kexport.outlet import Outlet
from kexport.route import Wanted
from kexport.sink import Sink
from kexport.telemetry import LaneStats, get_log


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
        self._outlet = Outlet(settings, sink, stats)
        self._journal = journal
        self._batches = Batches(settings, journal, wanted, stats, moved=self._move_to)
        self._lasting = lasting
        self._stats = stats
        self._others = others
        self._cluster = cluster
        self._backoff = self._new_backoff()
        self._log = get_log("delivery", sink=self.name)
        self._stats.cursor = journal.lane(self.name).cursor
        self._stopped = self._telling = False
        self.hold = Hold(self.name, stats, moved=self._move_to)

    def _new_backoff(self) -> Backoff:
        retry = self._settings.retry
        return Backoff(retry.min_seconds, retry.max_seconds)

    # -- the way of a batch -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until cancelled; raises ConfigError when the sink says that it can never work."""
        await self.open()
        while not self._stopped:
            if self._set_back:
                self._begin_anew()
            if dropped := self._journal.lane(self.name).dropped:
                await self._tell_dropped(dropped)
            try:
                batch, reached = await self._batches.next(self._journal.lane(self.name).cursor)
            except DamagedChunkError as error:
                await self._tell_damaged(error)
                continue
            if batch:
                await self._deliver(batch)
            self._move_to(reached)

    def want(self, wanted: Wanted) -> None:
        """Deliver, from here on, what these routes want."""
        self._batches.wanted = wanted

    @property
    def _set_back(self) -> bool:
        """Whether what is under way doesn't count any more: it is to be repeated, or another lane goes on."""
        return self._stopped or self._batches.set_back

    def _begin_anew(self) -> None:
        """Go on from the place as it is now."""
        self._batches.begin_anew()
        self._stats.cursor = self._journal.lane(self.name).cursor

    def _move_to(self, position: int) -> None:
        """Everything up to this position is done; a gap event that is skipped makes none of its events so."""
        if not (self._set_back or self._telling):
            self._journal.advance(self.name, position)
            self._stats.cursor = position

    async def _deliver(self, batch: Sequence[Event]) -> None:
        """Write until every event of the batch is durable, set aside, or given up by an operator."""
        while batch and not self._set_back:
            if self.hold.ordered:
                batch = await self.hold.obey(batch)
                continue
            # Held: what stands behind would be written anew, to no end, with each try.
            part = batch[:1] if self._stats.state == "held" else batch
            try:
                await self._outlet.write(part)
            except RejectedError as error:
                batch = batch[self._count_written(error, part) :]
                batch = await self._set_aside(batch, error)
            except SinkError as error:
                batch = batch[self._count_written(error, part) :]
                await self._wait_after(error, batch)
            except Exception as error:  # noqa: BLE001  (whatever a plugin raises: unknown means not delivered)
                self._log.exception("unexpected error in a sink; the batch is written again", error)
                await self._wait_after(error, batch)
            else:
                self._stats.written += len(part)
                batch = batch[len(part) :]
                self._healthy()
        self.hold.release()

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

    async def _wait_after(
        self, error: Exception, batch: Sequence[Event] = (), *, state: str = "retrying"
    ) -> None:
        retry_after = error.retry_after if isinstance(error, TransientError) else None
        wait = self._backoff.next(retry_after)
        self._stats.retries += 1
        self.hold.take(batch, state, error)
        self._log.warning("write failed", error=error, again_in_seconds=round(wait, 1))
        await self.hold.pause(wait)

    # -- events that cannot be delivered ------------------------------------------------------------------

    async def _set_aside(self, batch: Sequence[Event], error: RejectedError) -> Sequence[Event]:
        """Give the first event to `rejects_to`; what is left to write here."""
        event = batch[0]
        if not self._settings.rejects_to:
            self._log.error(
                "an event is refused for good and holds up its sink; set rejects_to, or mend the sink",
                event=event.id, position=event.position, error=error,
            )  # fmt: skip
            await self._wait_after(error, batch, state="held")
            return batch
        self._log.warning("event rejected", event=event.id, to=self._settings.rejects_to, error=error)
        if not await self._hand_over(event.rejected(sink=self.name, reason=str(error))):
            return batch
        self._stats.rejected += 1
        self._healthy()
        return batch[1:]

    async def _hand_over(self, event: Event) -> bool:
        """Store a rejected event durably with `rejects_to`, however long that takes.

        False when an operator wants something else.
        """
        backoff = self._new_backoff()
        while not (self.hold.ordered or self._set_back):
            try:
                # Asked for each time: a reload may put another lane in its place.
                await self._others[self._settings.rejects_to].take([event])
            except Exception as error:  # noqa: BLE001  (this lane must not lose the event, whatever it is)
                wait = backoff.next()
                self._log.error("cannot store a rejected event", error=error, again_in_seconds=round(wait, 1))
                self.hold.take([event], "retrying", error)
                await self.hold.pause(wait)
            else:
                return True
        return False

    async def _tell_dropped(self, dropped: int) -> None:
        """The journal was full and gave up events that this sink had not had: it gets a gap event instead."""
        self._log.error("the journal was full; events were given up", events=dropped)
        self._begin_anew()
        until = self._journal.lane(self.name).cursor
        if await self._tell_gap("journal-full", dropped=dropped, until=until):
            self._journal.told(self.name, dropped)
            self._stats.dropped += dropped  # until here the journal counted them: see View.dropped

    async def _tell_damaged(self, error: DamagedChunkError) -> None:
        """Stored events can't be read any more (a bad disk): said, and gone past; waiting won't mend them."""
        self._log.error("events in the journal cannot be read any more", error=error, events=error.count)
        self._stats.dropped += error.count
        await self._tell_gap("journal-damaged", dropped=error.count, until=error.last)
        self._move_to(error.last)

    async def _tell_gap(self, reason: str, *, dropped: int, until: int) -> bool:
        """Whether it was told: not where the place was set back meanwhile."""
        gap = dropped_events(self._cluster, self.name, reason=reason, dropped=dropped, until=until)
        self._telling = True
        try:
            await self._deliver([gap])
        finally:
            self._telling = False
        return not self._set_back

    # -- life cycle ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the sink, however long it takes; raises ConfigError when it can never work."""
        while not (self._outlet.opened or self._stopped):
            try:
                await self._outlet.open()
                self._healthy()
                return
            except ConfigError as error:
                problem: Exception = ConfigError(placed(f"sinks.{self.name}", error))
                if not self._lasting:
                    raise problem from error
            except Exception as error:  # noqa: BLE001  (as for writes)
                problem = error
            await self._wait_after(problem)

    async def take(self, events: Sequence[Event]) -> None:
        """Store what another lane can't: one attempt, also to open; raises what the sink raises.

        TransientError when late, and once it is closed.
        """
        await self._outlet.open()
        await self._outlet.write(events)

    def stop(self) -> None:
        """From here on nothing moves its place, nor is anything written: another lane is to go on there.

        Also where the sink's plugin lets no cancellation pass, so that its task may go on.
        """
        self._stopped = True

    async def close(self) -> None:
        await self._outlet.close()
