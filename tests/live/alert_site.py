"""An engine on FakeCluster with its sinks and /metrics, and what a fault does to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from typing_extensions import override

from kexport.errors import RejectedError, TransientError
from kexport.event import Event
from kexport.tables import HttpConfig
from kexport.testing import FakeCluster
from kexport.web import Web
from tests.exporter import Exporter, Memory, toml_of
from tests.live.recording import Recording
from tests.looking import QUICK, pod, view_of

SECONDS = 120.0
SMALL = {"max_bytes": 1 << 20}  # of the table [journal]


class Site(NamedTuple):
    cluster: FakeCluster
    exporter: Exporter
    memory: Memory
    recording: Recording
    document: dict[str, Any]

    @property
    def stream(self):
        return self.exporter.engine.stats.streams["pods/*"]

    @property
    def lane(self):
        return self.exporter.engine.stats.lanes["memory"]

    @property
    def journal(self):
        return self.exporter.engine._journal

    async def wait(self, condition, what: str) -> None:
        await self.exporter.look(
            condition, seconds=SECONDS, what=lambda: f"{what}; {self.stream} {self.lane}"
        )

    async def changes(self) -> None:
        """A change comes, and is delivered: what goes on where all is well."""
        self.cluster.create(pod(f"pod-{random.getrandbits(60):x}"))
        newest = self.journal.tally.newest
        await self.wait(lambda: self.journal.tally.newest > newest, "no event came")
        await self.wait(lambda: self.journal.tally.lag(self.lane.cursor)[0] == 0, "it is not delivered")
        await self.watches()

    async def watches(self) -> None:
        """The watch is well, whatever else is not."""
        before = self.stream.heard

        def heard() -> bool:
            self.cluster.heartbeat()
            self.cluster.bookmark()  # the server drops one for a watch that is busy
            return bool(self.stream.heard > before)

        await self.wait(heard, "nothing is heard")

    async def settled(self) -> None:
        """All that was observed is on disk, and what had to give way has."""
        await self.journal.flush()
        lag, rejects = self.journal.tally.lag, self.exporter.engine.stats.lanes["rejects"]
        await self.wait(lambda: not self.journal.retention.over, "it gives nothing up")
        await self.wait(lambda: lag(rejects.cursor)[0] == 0, "the other sink is behind")

    async def nothing(self) -> None:
        pass

    async def well(self, minutes: int) -> None:
        await self.recording.phase(minutes, self.changes)


@asynccontextmanager
async def site(folder: Path, *, memory: Memory | None = None, **changes: Any) -> AsyncIterator[Site]:
    """An engine with a sink, and one for what that refuses; `changes` are tables of the configuration."""
    memory = memory or Memory()
    document: dict[str, Any] = {
        "cluster": {"name": "test"},
        "journal": {"path": str(folder / "state")},
        "http": {"listen": ""},
        "resources": [{"resource": "pods"}],
        "sinks": {
            "memory": {"type": "memory", "retry": QUICK, "rejects_to": "rejects"},
            "rejects": {"type": "rejects", "retry": QUICK},
        },
    }
    for table, keys in changes.items():
        document[table] = {**document[table], **keys}
    async with FakeCluster() as cluster:
        document["cluster"]["url"] = cluster.url
        cluster.create(pod("first"))
        rejects = Memory().type("rejects")
        async with Exporter(lambda: toml_of(document), memory, rejects=rejects) as exporter:
            stats = exporter.engine.stats
            await exporter.look(
                lambda: "pods/*" in stats.streams and cluster.watch_count == 1,
                seconds=SECONDS,
                what=lambda: "no watch is open",
            )
            async with (
                Web(HttpConfig(listen="127.0.0.1:0"), view_of(exporter)) as web,
                aiohttp.ClientSession() as session,
            ):
                yield Site(cluster, exporter, memory, Recording(session, web.url), document)
                memory.fail = lambda _events: None


def down(_events: Sequence[Event]) -> None:
    raise TransientError("the broker is away")


class Slow(Memory):
    """Takes twenty batches a second."""

    @override
    async def take(self, events: Sequence[Event]) -> None:
        await asyncio.sleep(0.05)
        await super().take(events)


def choosy(events: Sequence[Event]) -> None:
    for number, event in enumerate(events):
        if event.attributes.objname.startswith("bad"):
            raise RejectedError("too big", written=number)


async def forget(here: Site) -> None:
    """The API server forgets while nobody watches, and what happened meanwhile has to be found out."""
    synced = sum(event.change == "synced" for event in here.exporter.events)
    await here.cluster.stop_listening()
    here.cluster.delete("pods", "default", "first", grace_seconds=0)
    here.cluster.forget()
    await here.cluster.listen()
    await here.exporter.synced(synced + 1)
    await here.wait(lambda: here.stream.state == "watching", "it does not watch again")


async def fill(here: Site, enough) -> None:
    """Objects that don't compress, until there is enough of them; one by one, so that it is hardly more."""
    noise, tally = random.Random(1), here.journal.tally
    for number in range(500):
        if enough():
            return
        newest = tally.newest
        annotations = {"noise": noise.randbytes(20_000).hex()}
        here.cluster.create(pod(f"big-{number}", annotations=annotations))
        # In the journal once it is committed, and only then does it take room.
        await here.wait(
            lambda newest=newest: here.journal.committed > newest or enough(), "no event is committed"
        )
    raise AssertionError("500 large objects are not enough")


def wanted(here: Site) -> float:
    """How much of the journal's room is taken by what the sink has not got, by the number of events."""
    retention, tally = here.journal.retention, here.journal.tally
    share: float = tally.lag(here.lane.cursor)[0] / max(1, tally.newest - retention.first)
    return float(retention.bytes / retention.max_bytes * share)
