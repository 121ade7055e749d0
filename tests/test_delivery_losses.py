"""What a lane can't have any more: told to its sink as a gap, and counted to the event."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from kexport.delivery import Lane
from kexport.journal import Journal
from kexport.tables import JournalConfig
from kexport.telemetry import LaneStats
from kexport.testing import make_event
from tests.journals import PODS, events
from tests.lanes import Scripted, running, settings


async def test_dropped_events_are_told_as_a_gap_before_what_is_left(tmp_path: Path) -> None:
    configured = settings(a={})
    journal = await Journal.open(
        JournalConfig(path=str(tmp_path), max_bytes=1 << 20, when_full="drop_oldest"), lanes=["a"]
    )
    await journal.register([PODS], cluster_uid="u")
    writer = asyncio.create_task(journal.run())
    for _ in range(20):
        journal.append(PODS, events(1, 10, 20_000), {})
        await journal.flush()
    dropped = journal.lane("a").dropped
    assert dropped
    sink, stats = Scripted(), LaneStats()
    lane = Lane(
        configured["a"], sink, journal=journal, wanted=lambda _e: True, stats=stats, others={}, cluster="test"
    )
    task = asyncio.create_task(lane.run())
    await journal.delivered("a")
    first = sink.stored[0]
    assert first.change == "gap"
    assert first.data["object"]["dropped"] == dropped
    assert sink.positions[1:] == list(range(dropped + 1, 201))
    for each in (task, writer):
        each.cancel()
    await asyncio.wait([task, writer])
    assert journal.lane("a").dropped == 0
    await journal.close()


async def test_what_was_given_up_while_it_was_on_its_way_does_not_count_as_lost(tmp_path: Path) -> None:
    configured = settings(a={"batch": {"max_events": 15}})
    journal = await Journal.open(
        JournalConfig(path=str(tmp_path), max_bytes=1 << 20, when_full="drop_oldest"), lanes=["a"]
    )
    await journal.register([PODS], cluster_uid="u")
    writer = asyncio.create_task(journal.run())
    sink, stats, gate = Scripted(), LaneStats(), asyncio.Event()
    sink.script = lambda _events: gate.wait()
    lane = Lane(
        configured["a"], sink, journal=journal, wanted=lambda _e: True, stats=stats, others={}, cluster="test"
    )
    task = asyncio.create_task(lane.run())
    seen = []
    for _ in range(20):
        journal.append(PODS, events(1, 10, 20_000), {})
        await journal.flush()
        if journal.lane("a").dropped:
            seen.append(journal.lane("a").done(stats.under_way).dropped)
    assert journal.lane("a").dropped
    gate.set()
    await journal.delivered("a")
    gap = next(event for event in sink.stored if event.change == "gap")
    delivered = {event.position for event in sink.stored if event is not gap}
    assert gap.data["object"]["dropped"] == 200 - len(delivered) > 0
    assert stats.dropped + journal.lane("a").dropped == 200 - len(delivered)
    assert seen == sorted(seen)  # a counter never falls
    assert seen[-1] == 200 - len(delivered)
    for each in (task, writer):
        each.cancel()
    await asyncio.wait([task, writer])
    await journal.close()


async def test_events_that_became_unreadable_are_told_as_a_gap_and_gone_past(tmp_path: Path) -> None:
    journal = await Journal.open(JournalConfig(path=str(tmp_path)), lanes=["a"])
    await journal.register([PODS], cluster_uid="u")
    writer = asyncio.create_task(journal.run())
    for first in (1, 11, 21):
        journal.append(PODS, [make_event(first + n) for n in range(10)], {})
        await journal.flush()
    writer.cancel()
    await asyncio.wait([writer])
    await journal.close()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        db.execute("UPDATE chunks SET data = CAST(x'00' || substr(data, 2) AS BLOB) WHERE last = 20")
        db.commit()
    async with running(tmp_path, settings(a={})) as rig:
        await rig.done("a")
        stored = rig.sinks["a"].stored
        gap = next(event for event in stored if event.change == "gap")
        assert gap.data["object"] == {
            "reason": "journal-damaged", "sink": "a", "dropped": 10, "complete": False,
        }  # fmt: skip
        assert [e.position for e in stored if e is not gap] == [*range(1, 11), *range(21, 31)]
