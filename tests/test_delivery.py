"""The lanes: order, places, retries, rejects, and that no lane feels another's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from kexport.delivery import Lane
from kexport.errors import ConfigError, RejectedError, TransientError
from kexport.event import Event
from kexport.journal import Journal
from kexport.tables import JournalConfig
from kexport.telemetry import LaneStats
from kexport.testing import make_event
from tests.lanes import Scripted, poison, raising, running, settings


async def test_every_event_arrives_once_and_in_order(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        for _ in range(5):
            await rig.feed(37)
        await rig.done("a")
        assert rig.sinks["a"].positions == list(range(1, 186))


async def test_batches_keep_to_count_and_bytes_but_one_large_event_still_goes(tmp_path: Path) -> None:
    size = len(make_event(1).line)
    batch = {"max_events": 10, "max_bytes": size * 4}
    async with running(tmp_path, settings(a={"batch": batch})) as rig:
        await rig.feed(20)
        await rig.feed(1, object={"padding": "x" * size * 9})
        await rig.done("a")
        assert max(rig.sinks["a"].writes) <= 4
        assert rig.sinks["a"].positions == list(range(1, 22))


async def test_a_batch_waits_to_be_filled_if_told_to(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={"batch": {"max_events": 6, "max_wait_seconds": 20}})) as rig:
        for _ in range(6):
            await rig.feed(1)
        await rig.done("a")
        assert rig.sinks["a"].writes == [6]


async def test_the_place_moves_only_after_write_returned(tmp_path: Path) -> None:
    release = asyncio.Event()
    async with running(tmp_path, settings(a={})) as rig:
        rig.sinks["a"].script = lambda _events: release.wait()
        await rig.feed(3)
        while not rig.sinks["a"].writes:
            await asyncio.sleep(0)
        await rig.feed(1)
        assert rig.journal.lane("a").cursor == 0
        release.set()
        await rig.done("a")
        assert rig.journal.lane("a").cursor == 4


async def test_after_a_restart_the_undelivered_comes_again_with_the_same_bytes(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        rig.sinks["a"].script = raising(TransientError("away"))
        await rig.feed(10)
        lines = [event.line for event in await rig.journal.read(0)]
    async with running(tmp_path, settings(a={})) as rig:
        await rig.done("a")
        assert [event.line for event in rig.sinks["a"].stored] == lines


async def test_a_transient_failure_repeats_only_what_is_not_durable(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        sink = rig.sinks["a"]

        def half(events: Sequence[Event]) -> None:
            if len(events) > 2:
                sink.stored.extend(events[:2])
                raise TransientError("half of it", written=2)

        sink.script = half
        await rig.feed(7)
        await rig.done("a")
        assert sink.positions == [1, 2, 3, 4, 5, 6, 7]
        assert sink.writes == [7, 5, 3, 1]
        assert rig.stats["a"].retries == 3
        assert rig.stats["a"].written == 7


@pytest.mark.parametrize("written", [-1, 4, 1000])
async def test_an_impossible_count_is_taken_for_none(tmp_path: Path, written: int) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        rig.sinks["a"].script = raising(TransientError("lies", written=written), times=1)
        await rig.feed(3)
        await rig.done("a")
        assert rig.sinks["a"].positions == [1, 2, 3]


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        rig.sinks["a"].script = raising(TransientError("busy", retry_after=0.3), times=1)
        started = asyncio.get_running_loop().time()
        await rig.feed(1)
        await rig.done("a")
        assert asyncio.get_running_loop().time() - started >= 0.25


async def test_an_unexpected_exception_is_not_delivery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        rig.sinks["a"].script = raising(ZeroDivisionError("a plugin's bug"), times=2)
        await rig.feed(3)
        await rig.done("a")
        assert rig.sinks["a"].positions == [1, 2, 3]
    assert [record.levelname for record in caplog.records].count("ERROR") == 2


async def test_a_write_that_takes_too_long_is_tried_again(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={"timeout_seconds": 0.05})) as rig:
        sink = rig.sinks["a"]
        sink.script = lambda _events: asyncio.Event().wait() if len(sink.writes) == 1 else None
        await rig.feed(2)
        await rig.done("a")
        assert sink.positions == [1, 2]
        assert rig.stats["a"].retries == 1


async def test_a_rejected_event_goes_aside_with_the_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={"rejects_to": "b"}, b={}), wanted=lambda _e: True) as rig:
        rig.sinks["a"].script = poison(rig.sinks["a"], 3)
        rig.sinks["b"].script = lambda events: None
        await rig.feed(5)
        await rig.done("a")
        aside = [event for event in rig.sinks["b"].stored if event.attributes.rejectedby]
        assert rig.sinks["a"].positions == [1, 2, 4, 5]
        assert [(e.position, e.attributes.rejectedby, e.attributes.rejectedreason) for e in aside] == [
            (3, "a", "never")
        ]
        assert aside[0].data == make_event(3).data
        assert rig.stats["a"].rejected == 1


async def test_a_rejected_event_counts_only_once_it_is_durable_elsewhere(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={"rejects_to": "b"}, b={})) as rig:
        rig.sinks["a"].script = poison(rig.sinks["a"], 1)
        rig.sinks["b"].script = raising(TransientError("full"), times=5)
        await rig.feed(1)
        await rig.done("a")
        assert any(event.attributes.rejectedby == "a" for event in rig.sinks["b"].stored)


async def test_without_rejects_to_a_rejected_event_is_held_not_lost(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        rig.sinks["a"].script = raising(RejectedError("too large"), times=3)
        await rig.feed(2)
        await rig.done("a")
        assert rig.sinks["a"].positions == [1, 2]


async def test_while_a_sink_is_held_only_the_refused_event_is_tried_again(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        sink = rig.sinks["a"]
        sink.script = raising(RejectedError("too large"), times=4)
        await rig.feed(20)
        await rig.done("a")
        assert sink.writes == [20, 1, 1, 1, 1, 19]
        assert sink.positions == list(range(1, 21))


async def test_one_sinks_outage_does_not_reach_another(tmp_path: Path) -> None:
    async with running(tmp_path, settings(down={}, up={})) as rig:
        rig.sinks["down"].script = raising(TransientError("away"))
        await rig.feed(50)
        await rig.done("up")
        assert rig.sinks["up"].positions == list(range(1, 51))
        assert rig.journal.lane("down").cursor == 0
        rig.sinks["down"].script = lambda _events: None
        await rig.done("down")
        assert rig.sinks["down"].positions == list(range(1, 51))


async def test_filtered_events_move_the_place_and_are_counted(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={}), wanted=lambda event: event.position % 2 == 0) as rig:
        await rig.feed(9)
        await rig.done("a")
        assert rig.sinks["a"].positions == [2, 4, 6, 8]
        assert rig.stats["a"].filtered == 5


async def test_a_lane_far_behind_catches_up_from_disk(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        gate = asyncio.Event()
        rig.sinks["a"].script = lambda _events: gate.wait()
        for _ in range(30):
            await rig.feed(200, object={"padding": "x" * 1000})
        rig.journal._recent.shorten(rig.journal.committed)  # as if memory had been short
        gate.set()
        await rig.done("a")
        assert rig.sinks["a"].positions == list(range(1, 6001))


async def test_a_sink_that_can_never_work_says_so_with_its_name(tmp_path: Path) -> None:
    class Never(Scripted):
        async def open(self) -> None:
            raise ConfigError("wrong password")

    journal = await Journal.open(JournalConfig(path=str(tmp_path)), lanes=["a"])
    lane = Lane(
        settings(a={})["a"], Never(), journal=journal, wanted=lambda _e: True, stats=LaneStats(), others={},
        cluster="test",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"sinks\.a: wrong password"):
        await lane.run()
    await journal.close()
