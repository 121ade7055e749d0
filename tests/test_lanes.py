"""Lanes that come and go with a reload, while another one writes to them or their sink is ill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kexport.config import Config, parse
from kexport.errors import RejectedError, TransientError
from kexport.event import Event
from kexport.journal import Journal
from kexport.lanes import Lanes
from kexport.sink import Sink, SinkConfig, SinkContext, SinkType
from kexport.tables import JournalConfig
from tests.exporter import toml_of
from tests.journals import PODS, events
from tests.lanes import QUICK, running, settings
from tests.objects import eventually

Script = Callable[["Placed", Sequence[Event]], Any]


class PlacedConfig(SinkConfig, frozen=True, kw_only=True):
    place: str = "here"
    """Another place is another destination."""


class Placed(Sink):
    """Does as its site's scripts say; what they let pass is stored."""

    def __init__(self, config: PlacedConfig, context: SinkContext, site: Site) -> None:
        self.name, self.place = context.name, config.place
        self.stored: list[int] = []
        self.opens = self.closed = 0
        self._site = site
        site.made.append(self)

    async def open(self) -> None:
        self.opens += 1
        outcome = self._site.opening(self)
        if asyncio.iscoroutine(outcome):
            await outcome

    async def write(self, events: Sequence[Event]) -> None:
        outcome = self._site.writing(self, events)
        if asyncio.iscoroutine(outcome):
            await outcome
        self.stored.extend(event.position for event in events)

    async def close(self) -> None:
        self.closed += 1


class Site:
    """Lanes on a journal: `a` wants every event, `b` none."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.failures: list[BaseException] = []
        self.lanes = Lanes(journal, {}, cluster="test", failed=self.failures.append)
        self.made: list[Placed] = []
        self.opening: Callable[[Placed], Any] = lambda _sink: None
        self.writing: Script = lambda _sink, _events: None
        self._wanted = {"a": lambda _event: True, "b": lambda _event: False}
        build = partial(Placed, site=self)
        self._types = {"placed": SinkType("placed", PlacedConfig, build)}

    def config(self, **sinks: dict[str, Any]) -> Config:
        tables = {name: {"type": "placed", "retry": QUICK, **table} for name, table in sinks.items()}
        document = {"resources": [{"resource": "pods"}], "sinks": tables}
        return parse(toml_of(document), self._types)

    def start(self, **sinks: dict[str, Any]) -> None:
        self.lanes.start(self.config(**sinks), self._wanted)

    async def adjust(self, **sinks: dict[str, Any]) -> None:
        await self.lanes.adjust(self.config(**sinks), self._wanted)

    def at(self, name: str, place: str = "here") -> Placed:
        return next(each for each in self.made if (each.name, each.place) == (name, place))

    async def feed(self, count: int) -> None:
        self.journal.append(PODS, events(self.journal.committed + 1, count), {})
        await self.journal.flush()


@asynccontextmanager
async def a_site(directory: Path) -> AsyncIterator[Site]:
    journal = await Journal.open(JournalConfig(path=str(directory)), lanes=["a", "b"])
    await journal.register([PODS], cluster_uid="u")
    writer = asyncio.create_task(journal.run())
    site = Site(journal)
    try:
        yield site
    finally:
        await site.lanes.end()
        await site.lanes.close()
        writer.cancel()
        await asyncio.wait([writer])
        await journal.close()


def refused_by(name: str) -> Script:
    def script(sink: Placed, _events: Sequence[Event]) -> None:
        if sink.name == name:
            raise RejectedError("never", written=0)

    return script


async def test_a_rejected_event_goes_to_where_a_reload_has_put_its_lane(tmp_path: Path) -> None:
    def unless_wrong(sink: Placed) -> None:
        if sink.place == "wrong":
            raise TransientError("no such host")

    async with a_site(tmp_path) as site:
        site.opening = unless_wrong
        site.writing = refused_by("a")
        site.start(a={"rejects_to": "b"}, b={"place": "wrong"})
        await site.feed(3)
        await eventually(lambda: site.at("b", "wrong").opens > 3)
        await site.adjust(a={"rejects_to": "b"}, b={"place": "right"})
        await site.journal.delivered("a")
        assert len(site.at("b", "right").stored) == 3
        assert site.at("b", "wrong").stored == []


async def test_what_opens_while_it_is_closed_does_not_stay_open(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        slow = asyncio.Event()

        async def wait(sink: Placed) -> None:
            if sink.name == "b" and sink.opens > 1:
                await slow.wait()  # opened by the lane of `a`
            elif sink.place == "old":
                raise TransientError("not at first")

        site.opening = wait
        site.writing = refused_by("a")
        site.start(a={"rejects_to": "b"}, b={"place": "old", "retry": {"min_seconds": 60}})
        await site.feed(1)
        old = site.at("b", "old")
        await eventually(lambda: old.opens == 2)
        await site.adjust(a={"rejects_to": "b"}, b={"place": "new"})
        assert old.closed == 1
        slow.set()
        await site.journal.delivered("a")
        assert (old.closed, old.stored) == (2, [])
        assert len(site.at("b", "new").stored) == 1


async def test_a_cancellation_of_the_sinks_own_making_is_an_error_like_any_other(tmp_path: Path) -> None:
    async def break_off() -> None:
        raise asyncio.CancelledError

    async with running(tmp_path, settings(a={})) as rig:
        times = iter(range(1))
        rig.sinks["a"].script = lambda _events: break_off() if next(times, None) is not None else None
        await rig.feed(3)
        await rig.done("a")
        assert rig.sinks["a"].positions == [1, 2, 3]
        assert rig.stats["a"].retries == 1


async def test_a_lane_that_is_broken_off_by_nobody_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_off(_self: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr("kexport.delivery.Lane.run", break_off)
    async with a_site(tmp_path) as site:
        site.start(a={})
        await eventually(lambda: bool(site.failures))
        assert "lane a was broken off" in str(site.failures[0])


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Site], asyncio.Event]:
    """A sink at its old place lets no cancellation pass; the event lets it go on."""
    monkeypatch.setattr("kexport.lanes.CLOSE_SECONDS", 0.2)

    def make(site: Site) -> asyncio.Event:
        free = asyncio.Event()

        async def ignore(sink: Placed, _events: Sequence[Event]) -> None:
            while sink.place == "old" and not free.is_set():
                try:
                    await free.wait()
                except asyncio.CancelledError:
                    continue

        site.writing = ignore
        return free

    return make


async def test_a_lane_that_does_not_stop_takes_nothing_from_the_one_in_its_place(
    tmp_path: Path, stubborn: Callable[[Site], asyncio.Event]
) -> None:
    async with a_site(tmp_path) as site:
        free = stubborn(site)
        site.start(a={"place": "old", "batch": {"max_events": 1}})
        await site.feed(20)
        old = site.lanes._running["a"].task
        await eventually(lambda: site.lanes.find("a")._stats.under_way > 0)
        site.opening = lambda sink: asyncio.Event().wait() if sink.place == "new" else None
        await site.adjust(a={"place": "new"})
        assert site.lanes.stuck == {"a"}
        free.set()
        await asyncio.wait([old], timeout=30)
        assert old.done()
        assert len(site.at("a", "old").stored) == 1
        assert site.journal.lane("a").cursor == 0
        await site.adjust(a={"place": "newest"})
        await site.journal.delivered("a")
        assert site.at("a", "newest").stored == list(range(1, 21))


async def test_a_lane_that_does_not_stop_may_be_removed(
    tmp_path: Path, stubborn: Callable[[Site], asyncio.Event]
) -> None:
    async with a_site(tmp_path) as site:
        free = stubborn(site)
        site.start(a={"place": "old", "batch": {"max_events": 1}}, b={})
        await site.feed(20)
        old = site.lanes._running["a"].task
        await eventually(lambda: site.lanes.find("a")._stats.under_way > 0)
        await site.adjust(b={})
        free.set()
        await asyncio.wait([old], timeout=30)
        assert old.done()
        assert site.failures == []


async def test_a_stop_in_the_middle_of_a_reload_closes_what_the_reload_would_have(
    tmp_path: Path, stubborn: Callable[[Site], asyncio.Event]
) -> None:
    async with a_site(tmp_path) as site:
        free = stubborn(site)
        site.start(a={"place": "old"})
        await site.feed(1)
        await eventually(lambda: site.lanes.find("a")._stats.under_way > 0)
        reload = asyncio.create_task(site.adjust(a={"place": "new"}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it waits for the old lane
        reload.cancel()
        await asyncio.wait([reload])
        free.set()
        await site.lanes.end()
        await site.lanes.close()
        assert site.at("a", "old").closed == 1
