"""Lanes on a journal, whose sinks do as a test's script says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from kexport.config import SinkSettings, parse
from kexport.delivery import Lane
from kexport.errors import RejectedError
from kexport.event import Event
from kexport.journal import Journal
from kexport.sink import Sink
from kexport.tables import JournalConfig
from kexport.telemetry import LaneStats
from kexport.testing import make_event
from tests.exporter import Memory, toml_of
from tests.journals import PODS

QUICK = {"min_seconds": 0.001, "max_seconds": 0.01}


class Scripted(Sink):
    """Stores what it is given, unless the script, called first, raises."""

    def __init__(self) -> None:
        self.stored: list[Event] = []
        self.writes: list[int] = []
        self.script: Any = lambda _events: None
        self.opened = asyncio.Event()
        self.closed = 0

    async def open(self) -> None:
        self.opened.set()

    async def write(self, events: Sequence[Event]) -> None:
        self.writes.append(len(events))
        outcome = self.script(events)
        if asyncio.iscoroutine(outcome):
            await outcome
        self.stored.extend(events)

    async def close(self) -> None:
        self.closed += 1

    @property
    def positions(self) -> list[int]:
        return [event.position for event in self.stored]


class Rig:
    """A journal with lanes on it; `feed` appends events, `done` waits for a lane."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.sinks: dict[str, Scripted] = {}
        self.lanes: dict[str, Lane] = {}
        self.stats: dict[str, LaneStats] = {}

    async def feed(self, count: int, **data: Any) -> None:
        number = self.journal.committed
        events = [make_event(number + n, data=data or None) for n in range(1, count + 1)]
        self.journal.append(PODS, events, {})
        await self.journal.flush()

    async def done(self, name: str) -> None:
        async with asyncio.timeout(20):
            await self.journal.delivered(name)


def settings(**sinks: dict[str, Any]) -> dict[str, SinkSettings]:
    document = {
        "resources": [{"resource": "pods"}],
        "sinks": {name: {"type": "memory", "retry": QUICK, **table} for name, table in sinks.items()},
    }
    return parse(toml_of(document), {"memory": Memory().type()}).sinks


@asynccontextmanager
async def running(
    tmp_path: Path, configured: dict[str, SinkSettings], *, wanted: Any = lambda _event: True
) -> AsyncIterator[Rig]:
    journal = await Journal.open(JournalConfig(path=str(tmp_path)), lanes=list(configured))
    await journal.register([PODS], cluster_uid="u")
    rig = Rig(journal)
    for name, table in configured.items():
        rig.sinks[name], rig.stats[name] = Scripted(), LaneStats()
        rig.lanes[name] = Lane(
            table, rig.sinks[name], journal=journal, wanted=wanted, stats=rig.stats[name],
            others=rig.lanes, cluster="test",
        )  # fmt: skip
    tasks = [
        asyncio.create_task(work) for work in (journal.run(), *(lane.run() for lane in rig.lanes.values()))
    ]
    try:
        yield rig
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await journal.close()


def raising(error: Exception, *, times: int = 1 << 30) -> Any:
    """A script that raises `error` so many times."""
    left = iter(range(times))

    def script(_events: Sequence[Event]) -> None:
        if next(left, None) is not None:
            raise error

    return script


def poison(sink: Scripted, position: int) -> Any:
    """A script for a sink that stores what precedes the event at `position`, and refuses that one."""

    def script(events: Sequence[Event]) -> None:
        for number, event in enumerate(events):
            if event.position == position and not event.attributes.rejectedby:
                sink.stored.extend(events[:number])
                raise RejectedError("never", written=number)

    return script
