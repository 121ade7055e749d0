"""What a lane reads from the disk while its place is moved by others: by a full journal, or for a replay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kexport.delivery import Lane
from kexport.errors import TransientError
from kexport.event import Event
from kexport.journal import Journal
from kexport.replay import Replay
from kexport.tables import JournalConfig
from kexport.telemetry import LaneStats
from tests.journals import PODS, events
from tests.lanes import Scripted, settings
from tests.objects import eventually

DROPPING: dict[str, Any] = {"max_bytes": 1 << 20, "when_full": "drop_oldest"}


class Reading:
    """A lane on a journal that keeps nothing in memory; it reads ten events at once, or waits at the gate."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.sink, self.stats = Scripted(), LaneStats()
        self.gate, self.waits = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self._read = journal._disk.read
        journal._disk.read = self._slow  # type: ignore[method-assign]

    async def _slow(self, after: int) -> list[Event]:
        if not self.gate.is_set():
            self.waits.set()
            await self.gate.wait()
        return (await self._read(after))[:10]

    async def feed(self, chunks: int) -> None:
        for _ in range(chunks):
            self.journal.append(PODS, events(1, 10, 20_000), {})
            await self.journal.flush()

    def lane(self, wanted: Callable[[Event], bool] = lambda _event: True) -> Lane:
        return Lane(
            settings(a={})["a"], self.sink, journal=self.journal, wanted=wanted, stats=self.stats, others={},
            cluster="test",
        )  # fmt: skip

    @property
    def told(self) -> int:
        """How many events the gap events say were given up."""
        gaps = [event for event in self.sink.stored if event.change == "gap"]
        return sum(event.data["object"]["dropped"] for event in gaps)

    @property
    def delivered(self) -> list[int]:
        return [event.position for event in self.sink.stored if event.change != "gap"]


@asynccontextmanager
async def reading(directory: Path, **config: Any) -> AsyncIterator[Reading]:
    journal = await Journal.open(JournalConfig(path=str(directory), memory_bytes=0, **config), lanes=["a"])
    await journal.register([PODS], cluster_uid="u")
    writer = asyncio.create_task(journal.run())
    try:
        yield Reading(journal)
    finally:
        writer.cancel()
        await asyncio.wait([writer])
        await journal.close()


@asynccontextmanager
async def delivering(lane: Lane) -> AsyncIterator[None]:
    task = asyncio.create_task(lane.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_what_is_given_up_while_a_lane_waits_for_its_read_is_told(tmp_path: Path) -> None:
    async with reading(tmp_path, **DROPPING) as here:
        here.gate.clear()
        async with delivering(here.lane()):
            await here.feed(1)
            await here.waits.wait()
            await here.feed(19)
            assert here.journal.lane("a").dropped
            here.gate.set()
            await eventually(lambda: here.delivered[-1:] == [200])
        assert here.sink.stored[0].change == "gap"
        assert here.delivered == list(range(here.told + 1, 201))
        assert here.stats.dropped == here.told == 200 - len(here.delivered) > 0
        assert here.journal.lane("a").dropped == 0


async def test_what_is_given_up_behind_a_batch_that_is_read_already_is_told_after_it(tmp_path: Path) -> None:
    async with reading(tmp_path, **DROPPING) as here:
        await here.feed(2)

        def close_the_gate(event: Event) -> bool:
            if event.position == 1:
                here.gate.clear()
            return True

        async with delivering(here.lane(close_the_gate)):
            await here.waits.wait()  # for the second ten of its batch
            await here.feed(18)
            here.gate.set()
            await eventually(lambda: here.delivered[-1:] == [200])
        assert here.delivered[:10] == list(range(1, 11))
        assert here.delivered == [*range(1, 11), *range(11 + here.told, 201)]
        assert here.told > 0


async def test_nothing_is_told_of_what_was_delivered_before_a_crash(tmp_path: Path) -> None:
    """A place that was not on disk yet is further back than what is still stored."""
    async with reading(tmp_path, **DROPPING) as here:
        await here.feed(3)
        here.journal._disk.store._db.execute("DELETE FROM chunks WHERE last <= 20")
        async with delivering(here.lane()):
            await here.journal.delivered("a")
        assert here.delivered == list(range(21, 31))
        assert here.told == here.stats.dropped == 0


async def test_a_replay_begins_though_nothing_was_wanted_of_what_was_being_read(tmp_path: Path) -> None:
    async with reading(tmp_path) as here:
        async with delivering(here.lane(lambda event: event.position <= 10)):
            await here.feed(1)
            await here.journal.delivered("a")
            here.gate.clear()
            await here.feed(1)
            await here.waits.wait()
            await here.journal.set_back("a", Replay(sequence=1).begin)
            here.gate.set()
            await eventually(lambda: len(here.delivered) == 20)
        assert here.delivered == [*range(1, 11)] * 2


async def test_a_gap_event_that_an_operator_skips_leaves_the_count_of_what_it_told(tmp_path: Path) -> None:
    async with reading(tmp_path, **DROPPING) as here:
        await here.feed(20)
        dropped = here.journal.lane("a").dropped

        def refuse_gaps(batch: Sequence[Event]) -> None:
            if batch[0].change == "gap":
                raise TransientError("not now")

        here.sink.script = refuse_gaps
        lane = here.lane()
        async with delivering(lane):
            await eventually(lambda: bool(here.stats.held_id))
            await lane.hold.give_up(here.stats.held_id, count=1, keep=None)
            await here.journal.delivered("a")
        assert here.delivered == list(range(dropped + 1, 201))
        assert (here.stats.dropped, here.stats.skipped) == (dropped, 1)
        assert here.journal.lane("a").dropped == 0
