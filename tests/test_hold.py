"""A lane that is stuck, and what an operator may do about it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kexport import hold as holding
from kexport.errors import ConfigError, KexportError, TransientError
from kexport.event import Event
from kexport.hold import NotHeldError
from kexport.parking import FILE, park
from kexport.testing import make_event
from tests.lanes import Rig, poison, raising, running, settings
from tests.objects import eventually

SLOW = {"retry": {"min_seconds": 60, "max_seconds": 60}}  # no try comes by itself


async def held(rig: Rig, position: int, name: str = "a") -> str:
    """Wait until the lane is held at this position; the event's id."""
    await eventually(lambda: rig.stats[name].held_at == position)
    return rig.stats[name].held_id


async def test_one_event_is_skipped_and_the_rest_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, settings(a=SLOW)) as rig:
        rig.sinks["a"].script = poison(rig.sinks["a"], 3)
        await rig.feed(5)
        event = await held(rig, 3)
        assert rig.stats["a"].state == "held"
        skipped = await rig.lanes["a"].hold.give_up(event, count=1, keep=None)
        assert [each.position for each in skipped] == [3]
        assert rig.journal.lane("a").cursor >= 3
        await rig.done("a")
        assert rig.sinks["a"].positions == [1, 2, 4, 5]
        stats = rig.stats["a"]
        assert (stats.skipped, stats.parked, stats.rejected, stats.written) == (1, 0, 0, 4)
        assert (stats.state, stats.held_at, stats.held_id, stats.error) == ("delivering", 0, "", "")
    told = [record for record in caplog.records if "skipped by an operator" in record.message]
    assert [record.levelname for record in told] == ["ERROR"]
    assert told[0].kexport_fields["event"] == event  # type: ignore[attr-defined]


async def test_its_place_is_durable_behind_a_skipped_event_while_the_rest_still_waits(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a=SLOW)) as rig:
        rig.sinks["a"].script = raising(TransientError("away"))
        await rig.feed(5)
        await held(rig, 1)
        await rig.lanes["a"].hold.give_up("1", count=1, keep=None)
        await rig.journal.settle()
        await held(rig, 2)
    async with running(tmp_path, settings(a=SLOW)) as rig:
        await rig.done("a")
        assert rig.sinks["a"].positions == [2, 3, 4, 5]


async def test_another_event_than_the_one_seen_is_never_given_up(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a=SLOW)) as rig:
        rig.sinks["a"].script = poison(rig.sinks["a"], 3)
        await rig.feed(5)
        event = await held(rig, 3)
        for other in ("2", "4", "uid-4/4", "", "3 "):
            with pytest.raises(ConfigError, match=f"is held at event 3, {event}, not at"):
                await rig.lanes["a"].hold.give_up(other, count=1, keep=None)
        assert rig.stats["a"].skipped == 0
        assert rig.journal.lane("a").cursor < 3


async def test_a_lane_that_delivers_gives_nothing_up(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        await rig.feed(2)
        await rig.done("a")
        with pytest.raises(NotHeldError, match="is held at no event, its state is delivering"):
            await rig.lanes["a"].hold.give_up("2", count=1, keep=None)
        with pytest.raises(NotHeldError, match="does not wait"):
            rig.lanes["a"].hold.retry()


async def test_more_than_the_lane_writes_now_is_refused_and_so_many_as_asked_are_given_up(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, settings(a={**SLOW, "batch": {"max_events": 4}})) as rig:
        rig.sinks["a"].script = raising(TransientError("away"))
        await rig.feed(9)
        await held(rig, 1)
        count = len(await rig.journal.read(0))
        with pytest.raises(ConfigError, match="so many at most"):
            await rig.lanes["a"].hold.give_up("1", count=5, keep=None)
        assert len(await rig.lanes["a"].hold.give_up("1", count=3, keep=None)) == 3
        await held(rig, 4)
        rig.sinks["a"].script = lambda _events: None
        rig.lanes["a"].hold.retry()
        await rig.done("a")
        assert rig.sinks["a"].positions == list(range(4, count + 1))


async def test_retry_tries_now_and_not_after_the_backoff(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a=SLOW)) as rig:
        sink = rig.sinks["a"]
        sink.script = raising(TransientError("away"))
        await rig.feed(2)
        await eventually(lambda: rig.stats["a"].retries == 1)
        rig.lanes["a"].hold.retry()
        await eventually(lambda: rig.stats["a"].retries == 2)
        sink.script = lambda _events: None
        rig.lanes["a"].hold.retry()
        await rig.done("a")
        assert sink.positions == [1, 2]


async def test_a_sink_that_cannot_be_opened_is_held_at_no_event_and_can_be_tried(tmp_path: Path) -> None:
    problems: list[Exception] = [TransientError("no broker")] * 2

    async with running(tmp_path, settings(a=SLOW)) as rig:

        async def opening() -> None:
            if problems:
                raise problems.pop()

        rig.sinks["a"].open = opening  # type: ignore[method-assign]
        await rig.feed(1)
        for tries in (1, 2):
            while rig.stats["a"].retries < tries:
                await asyncio.sleep(0.01)
            with pytest.raises(NotHeldError, match="is held at no event"):
                await rig.lanes["a"].hold.give_up("1", count=1, keep=None)
            rig.lanes["a"].hold.retry()
        await rig.done("a")


async def test_an_event_that_rejects_to_cannot_store_can_be_given_up(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={**SLOW, "rejects_to": "b"}, b={})) as rig:
        rig.sinks["a"].script = poison(rig.sinks["a"], 2)
        rig.sinks["b"].script = lambda events: raising(TransientError("full"))(events) if events else None
        await rig.feed(3)
        await held(rig, 2)
        assert rig.stats["a"].error == "full"
        await rig.lanes["a"].hold.give_up("2", count=1, keep=None)
        await rig.done("a")
        assert rig.sinks["a"].positions == [1, 3]
        assert (rig.stats["a"].skipped, rig.stats["a"].rejected) == (1, 0)


async def test_an_order_during_a_write_waits_for_its_end_and_is_refused_when_it_delivered(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, settings(a=SLOW)) as rig:
        sink, gate = rig.sinks["a"], asyncio.Event()
        sink.script = raising(TransientError("away"))
        await rig.feed(1)
        await held(rig, 1)
        sink.script = lambda _events: gate.wait()
        rig.lanes["a"].hold.retry()
        await eventually(lambda: len(sink.writes) == 2)
        order = asyncio.create_task(rig.lanes["a"].hold.give_up("1", count=1, keep=None))
        await eventually(lambda: rig.lanes["a"].hold.ordered)
        gate.set()
        with pytest.raises(NotHeldError, match="was delivered meanwhile"):
            await order
        assert sink.positions == [1]
        assert rig.stats["a"].skipped == 0


async def test_an_order_during_a_write_that_does_not_end_is_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "ORDER_SECONDS", 0.05)
    async with running(tmp_path, settings(a=SLOW)) as rig:
        sink, gate = rig.sinks["a"], asyncio.Event()
        sink.script = raising(TransientError("away"))
        await rig.feed(1)
        await held(rig, 1)
        sink.script = lambda _events: gate.wait()
        rig.lanes["a"].hold.retry()
        await eventually(lambda: len(sink.writes) == 2)
        with pytest.raises(NotHeldError, match="nothing was given up, try again"):
            await rig.lanes["a"].hold.give_up("1", count=1, keep=None)
        gate.set()
        await rig.done("a")
        assert sink.positions == [1]


async def test_what_cannot_be_kept_is_not_given_up(tmp_path: Path) -> None:
    async def keep(_events: Sequence[Event], _reason: str) -> None:
        raise KexportError("the disk is full")

    async with running(tmp_path, settings(a=SLOW)) as rig:
        rig.sinks["a"].script = poison(rig.sinks["a"], 1)
        await rig.feed(2)
        await held(rig, 1)
        with pytest.raises(KexportError, match="the disk is full"):
            await rig.lanes["a"].hold.give_up("1", count=1, keep=keep)
        await held(rig, 1)
        assert rig.journal.lane("a").cursor == 0


async def test_a_bug_in_keeping_does_not_end_the_lane(tmp_path: Path) -> None:
    async def keep(_events: Sequence[Event], _reason: str) -> None:
        raise ZeroDivisionError("a bug")

    async with running(tmp_path, settings(a=SLOW)) as rig:
        rig.sinks["a"].script = poison(rig.sinks["a"], 1)
        await rig.feed(2)
        await held(rig, 1)
        with pytest.raises(KexportError, match="ZeroDivisionError; nothing was given up"):
            await rig.lanes["a"].hold.give_up("1", count=1, keep=keep)
        await rig.lanes["a"].hold.give_up("1", count=1, keep=None)
        await rig.done("a")


async def test_an_event_is_kept_before_the_place_moves(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a=SLOW)) as rig:
        places: list[int] = []

        async def keep(events: Sequence[Event], reason: str) -> None:
            await asyncio.sleep(0)
            places.append(rig.journal.lane("a").cursor)
            assert (len(events), reason) == (1, "never")

        rig.sinks["a"].script = poison(rig.sinks["a"], 2)
        await rig.feed(2)
        await held(rig, 2)
        await rig.lanes["a"].hold.give_up("2", count=1, keep=keep)
        assert places == [0]
        assert rig.journal.lane("a").cursor == 2
        assert (rig.stats["a"].parked, rig.stats["a"].skipped) == (1, 0)


# -- the parking file -------------------------------------------------------------------------------------


def parked(directory: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (directory / FILE).read_bytes().splitlines()]


def test_the_parking_file_is_its_owners_alone_whatever_the_umask_and_mode(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        park(tmp_path, [make_event(1)])
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
        (tmp_path / FILE).chmod(0o644)
        park(tmp_path, [make_event(2), make_event(3)])
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert parked(tmp_path) == [make_event(n).id for n in (1, 2, 3)]


@pytest.mark.parametrize("torn", [b'{"half', b'{"long":"' + b"x" * 200_000])
def test_a_torn_line_is_cut_off_and_nothing_else(tmp_path: Path, torn: bytes) -> None:
    park(tmp_path, [make_event(1)])
    with (tmp_path / FILE).open("ab") as file:
        file.write(torn)
    park(tmp_path, [make_event(2)])
    assert parked(tmp_path) == [make_event(1).id, make_event(2).id]


def test_a_disk_that_refuses_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    park(tmp_path, [make_event(1)])
    before = (tmp_path / FILE).read_bytes()
    pwrite: Callable[..., int] = os.pwrite

    def half(descriptor: int, text: bytes, offset: int) -> int:
        if offset > len(before):
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, text[:10], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(KexportError, match=r"cannot park events in .*: No space left on device"):
        park(tmp_path, [make_event(2)])
    assert (tmp_path / FILE).read_bytes() == before


def test_what_is_parked_at_once_is_all_there(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: park(tmp_path, [make_event(n)]), range(1, 41)))
    assert sorted(parked(tmp_path)) == sorted(make_event(n).id for n in range(1, 41))


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    other: Any = tmp_path / "other"
    other.write_text("mine\n")
    (tmp_path / FILE).symlink_to(other)
    with pytest.raises(KexportError, match="cannot park"):
        park(tmp_path, [make_event(1)])
    assert other.read_text() == "mine\n"
