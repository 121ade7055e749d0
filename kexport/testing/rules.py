"""The rules about events, S2 to S8: ready, stored, in order, over outages, repeats and cancellation."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from kexport.errors import RejectedError, TransientError
from kexport.event import Event
from kexport.testing.rehearsal import (
    CLOSE_SECONDS,
    deliver,
    in_order,
    make_context,
    missing,
    pauses,
    some,
    steps,
    steps_of,
)
from kexport.testing.stage import C, Stage


class DeliveryRules(Stage[C]):
    """A test for each way in which a sink could lose, tear, reorder or change an event."""

    # -- S2 and S3: open, batches --------------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_s2_open_leaves_the_sink_ready(self, config: C) -> None:
        """S2: after `open` the first write works."""
        async with self._opened(config) as sink:
            await self._write(sink, self._events(1, 2))

    @pytest.mark.asyncio
    async def test_s2_open_in_an_outage_can_be_asked_again(self, config: C) -> None:
        """S2: a destination that is down now is no ConfigError, and the same sink opens when it is back."""
        down = self.outage(config)
        async with self._built(config) as sink:
            async with down:
                failure = await self._outcome(sink.open(), "open in an outage")
            assert failure is None or isinstance(failure, TransientError), (
                f"S2: open raises {failure!r} in an outage: only TransientError is tried again"
            )
            if failure is not None:
                await self._do(sink.open(), "open after an outage")
            await self._do(deliver(sink, self._events(1, 3)), "writing after an outage")

    @pytest.mark.asyncio
    async def test_s3_batches_of_every_size_are_taken_and_left_alone(self, config: C) -> None:
        """S3: one event, a few, as many as `batch.max_events`; the sequence stays the engine's own."""
        async with self._opened(config) as sink:
            for batch in self._batches():
                given = list(batch)
                await self._write(sink, given)
                assert given == batch, "S3: write changes the sequence that it is given"
            await self._write(sink, tuple(self._events(9001, 9003)))

    # -- S4: durable --------------------------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_s4_stored_when_write_returns(self, config: C) -> None:
        """S4: each write's events are at the destination as soon as it has returned."""
        async with self._opened(config) as sink:
            for batch in self._batches():
                await self._write(sink, batch)
                lost = missing(await self.stored(config), batch)
                assert not lost, f"S4: write returned before {len(lost)} of {len(batch)} were stored"

    @pytest.mark.asyncio
    async def test_s4_stored_though_the_sink_is_given_up(self, config: C) -> None:
        """S4: a process that is killed when `write` has returned has lost nothing."""
        others = asyncio.all_tasks()
        sink = self.sink_type.build(config, make_context())
        events = self._events(1, 41)
        try:
            await self._do(sink.open(), "open")
            await self._write(sink, events)
            for task in asyncio.all_tasks() - others:
                task.cancel()
            lost = missing(await self.stored(config), events)
            assert not lost, f"S4: {len(lost)} of {len(events)} events depended on what came after write"
        finally:
            with contextlib.suppress(Exception, asyncio.CancelledError):  # it was mistreated
                await asyncio.wait_for(sink.close(), CLOSE_SECONDS)

    # -- S5: failures -------------------------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_s5_an_outage_is_a_transient_error(self, config: C) -> None:
        """S5: a destination that is down raises TransientError, nothing foreign, and not success."""
        down = self.outage(config)
        async with self._opened(config) as sink:
            await self._write(sink, self._events(1, 10))
            async with down:
                failure = await self._outcome(sink.write(self._events(11, 60)), "write in an outage")
            assert failure is not None, "S5: write returns although the destination is down"
            assert isinstance(failure, TransientError), f"S5: write raises {failure!r} in an outage"
            await self._check_prefix(config, self._events(11, 60), failure)

    @pytest.mark.asyncio
    async def test_s5_nothing_is_lost_over_an_outage(self, config: C) -> None:
        """S5: the same sink goes on by itself when the destination is back."""
        down = self.outage(config)
        failed = asyncio.Event()
        async with self._opened(config) as sink:
            await self._write(sink, self._events(1, 20))
            async with down:
                writing = asyncio.create_task(deliver(sink, self._events(21, 60), failed=failed))
                waiting = asyncio.create_task(failed.wait())
                await asyncio.wait(
                    {writing, waiting}, timeout=self.patience_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                waiting.cancel()
            await self._do(writing, "writing after an outage")
            await self._write(sink, self._events(61, 80))
            lost = missing(await self.stored(config), self._events(1, 80))
            assert not lost, f"S5: lost over an outage: {some(lost)}"

    @pytest.mark.asyncio
    async def test_s5_written_counts_what_is_durable(self, config: C) -> None:
        """S5: when the destination fails in the middle of a batch, the first `written` events are stored."""
        async with self._opened(config) as sink:
            for number, moment in enumerate(self.outage_moments):
                down = self.outage(config)
                events = self._events(100 * number + 1, 100 * number + 60)
                writing = asyncio.create_task(sink.write(list(events)))
                await steps(moment)
                async with down:
                    failure = await self._outcome(writing, "write in an outage")
                assert failure is None or isinstance(failure, TransientError), f"S5: write raises {failure!r}"
                await self._check_prefix(config, events, failure)
                await self._do(deliver(sink, events), "writing after an outage")

    @pytest.mark.asyncio
    async def test_s5_an_unacceptable_event_is_rejected_by_its_number(self, config: C) -> None:
        """S5: RejectedError names the guilty one, and the events before and behind it are stored."""
        poison = self.unacceptable()
        async with self._opened(config) as sink:
            for number, index in enumerate((0, 3, 7)):
                good = self._events(10 * number + 1, 10 * number + 7)
                batch = [*good[:index], poison, *good[index:]]
                failure = await self._outcome(sink.write(list(batch)), "write")
                assert isinstance(failure, RejectedError), f"S5: a refused event gives {failure!r}"
                assert failure.written == index, f"S5: number {index} is refused, not {failure.written}"
                await self._check_prefix(config, batch, failure)
                refused: list[Event] = []
                await self._do(deliver(sink, batch, refused=refused), "writing around a refused event")
                assert refused == [poison], f"S5: refused are {refused}"
                stored = await self.stored(config)
                assert poison.id not in stored, "S5: the refused event is stored"
                assert not missing(stored, good), "S5: a refused event takes others along"

    # -- S6, S7: repeats and order ------------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_s6_writing_again_adds_no_other_events(self, config: C) -> None:
        """S6: a batch that is written twice, by the same sink and by the next, has the same ids."""
        async with self._opened(config) as sink:
            await self._write(sink, self._events(1, 20))
            await self._write(sink, self._events(11, 20))
        async with self._opened(config) as sink:
            await self._write(sink, self._events(11, 30))
        strange = set(await self.stored(config)) ^ {event.id for event in self._events(1, 30)}
        assert not strange, (
            f"S6: ids that were lost or made up when events were written again: {some(strange)}"
        )

    @pytest.mark.asyncio
    async def test_s6_writing_again_gives_the_same_bytes(self, config: C) -> None:
        """S6: all copies of an event are equal, so that a reader may take any of them."""
        async with self._opened(config) as sink:
            await self._write(sink, self._events(1, 20))
        async with self._opened(config) as sink:
            await self._write(sink, self._events(1, 20))
        copies: dict[str, set[bytes]] = {}
        for name, record in zip(await self.stored(config), await self.records(config), strict=True):
            copies.setdefault(name, set()).add(bytes(record))
        different = [name for name, each in copies.items() if len(each) > 1]
        assert not different, f"S6: written again with other bytes: {some(different)}"

    @pytest.mark.asyncio
    async def test_s7_one_keys_events_stay_in_order(self, config: C) -> None:
        """S7: whatever the batches, the events of one object are stored in the order they were given in."""
        events = self._events(1, 120)
        async with self._opened(config) as sink:
            for first, last in ((0, 1), (1, 3), (3, 50), (50, 51), (51, 120)):
                await self._write(sink, events[first:last])
        stored = await self.stored(config)
        for key in {event.key for event in events}:
            assert in_order(stored, [event for event in events if event.key == key]), (
                f"S7: the events of {key} are out of order"
            )

    # -- S8: cancelled, and never in the way --------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_s8_a_cancelled_write_leaves_nothing_torn(self, config: C) -> None:
        """S8: stopped at any moment, a write leaves whole events or none; written again, all are there."""
        batches = [
            self._events(12 * number + 1, 12 * number + 12) for number in range(self.cancellations + 1)
        ]
        known = {event.id for batch in batches for event in batch}
        async with self._opened(config) as sink:
            usual = await steps_of(asyncio.create_task(sink.write(list(batches[0]))))
            for number, batch in enumerate(batches[1:]):
                writing = asyncio.create_task(sink.write(list(batch)))
                await steps(1 + number * usual // self.cancellations)
                writing.cancel()
                failure = await self._outcome(writing, "a cancelled write")
                assert failure is None or isinstance(failure, asyncio.CancelledError), (
                    f"S8: a cancelled write raises {failure!r}: kexport could never stop"
                )
                torn = set(await self.stored(config)) - known
                assert not torn, f"S8: a cancelled write leaves torn records: {some(torn)}"
                await self._do(deliver(sink, batch), "writing after a cancelled write")
        stored = set(await self.stored(config))
        assert stored <= known, f"S8: torn records: {some(stored - known)}"
        assert stored == known, f"S8: missing after cancelled writes: {some(known - stored)}"

    @pytest.mark.asyncio
    async def test_s8_a_write_leaves_the_event_loop_free(self, config: C) -> None:
        """S8: the watches and the other sinks go on during a write; blocking calls belong into a thread."""
        async with self._opened(config) as sink:
            for batch in self._batches()[-1:] * 3:  # a busy machine is not the sink's fault three times
                async with pauses() as found:
                    await self._write(sink, batch)
                if found.longest <= self.longest_pause_seconds:
                    return
        pytest.fail(f"S8: a write blocks the event loop for {found.longest:.2f} s: use asyncio.to_thread")
