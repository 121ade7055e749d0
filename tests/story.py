"""A fake cluster that is written to, everything that really happened, and what a recovery makes of it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from kexport import snapshot as snapshots
from kexport.change import Known, Resource, Stream
from kexport.encoder import Encoder
from kexport.kube import Client
from kexport.places import Resync
from kexport.recovery import Recovery
from kexport.shape import Shaper
from kexport.snapshot import Snapshot
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster

MAPS = Resource(group="", version="v1", name="configmaps", kind="ConfigMap", namespaced=True)
STREAM = Stream(resource=MAPS)
SHAPER = Shaper("configmaps", b"key")


class Happened(NamedTuple):
    change: str
    key: str
    uid: str
    version: int
    value: str


class Story:
    """Writes to a fake cluster, and remembers every change."""

    def __init__(self, fake: FakeCluster, *, seed: int = 0) -> None:
        self.fake = fake
        self.random = random.Random(seed)
        self.alive: dict[str, Happened] = {}
        self.all: list[Happened] = []

    def put(self, name: str, value: str = "", *, namespace: str = "default") -> None:
        metadata = {"name": name, "namespace": namespace}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": value}}
        key = f"{namespace}/{name}"
        stored = self.fake.update(body) if key in self.alive else self.fake.create(body)
        change = "modified" if key in self.alive else "added"
        at = int(stored["metadata"]["resourceVersion"])
        self.alive[key] = Happened(change, key, stored["metadata"]["uid"], at, value)
        self.all.append(self.alive[key])

    def delete(self, name: str, *, namespace: str = "default") -> None:
        self.fake.delete("configmaps", namespace, name)
        last = self.alive.pop(f"{namespace}/{name}")
        self.all.append(last._replace(change="deleted", version=self.fake.revision))

    def go_on(self, changes: int) -> None:
        for _ in range(changes):
            name, namespace = self.random.choice("abcdefgh"), self.random.choice(["default", "kube-system"])
            if f"{namespace}/{name}" in self.alive and self.random.random() < 0.35:
                self.delete(name, namespace=namespace)
            else:
                self.put(name, f"{len(self.all)}", namespace=namespace)
            if self.random.random() < 0.2:
                self.fake.heartbeat(self.random.randrange(1, 4))

    @property
    def index(self) -> dict[str, Known]:
        return index_after(self.all)


def index_after(happened: list[Happened]) -> dict[str, Known]:
    """What an exporter that was told all this knows."""
    index: dict[str, Known] = {}
    for each in happened:
        if each.change == "deleted":
            del index[each.key]
        else:
            index[each.key] = Known(each.uid, str(each.version))
    return index


def without_brief_lives(happened: list[Happened]) -> list[Happened]:
    added = {each.uid for each in happened if each.change == "added"}
    gone = {each.uid for each in happened if each.change == "deleted"}
    return [each for each in happened if each.uid not in added & gone]


@asynccontextmanager
async def a_client(fake: FakeCluster, **config: Any) -> AsyncIterator[Client]:
    client = Client(ClusterConfig(url=fake.url, list_requests_per_second=10_000, **config))
    await client.open()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def recovering(
    fake: FakeCluster, known: dict[str, Known], resync: Resync, *, stream: Stream = STREAM, **config: Any
) -> AsyncIterator[tuple[Recovery, Snapshot]]:
    """A recovery from `known` to now that has run, and the listing at its end."""
    async with a_client(fake, **config) as client:
        with Snapshot(stream, SHAPER, known) as snapshot:
            await snapshots.take(client, snapshot, at=str(fake.revision))
            with Recovery(snapshot, known, resync, client=client, shaper=SHAPER) as recovery:
                assert recovery.possible
                await recovery.run(_to_the_end)
                yield recovery, snapshot


async def _to_the_end() -> None:
    """Between two stretches nothing is told."""


async def recovered(
    fake: FakeCluster, known: dict[str, Known], resync: Resync, *, stream: Stream = STREAM, **config: Any
) -> tuple[Recovery, list[Happened]]:
    """Recover from `known` to now; the recovery, and what it tells."""
    async with recovering(fake, known, resync, stream=stream, **config) as (recovery, _):
        return recovery, list(said(recovery))


def said(recovery: Recovery) -> Iterator[Happened]:
    for portion in recovery.portions(Encoder(STREAM, "c")):
        for event in portion.events:
            uid, _, tail = event.id.partition("/")
            version = event.attributes.resourceversion
            assert tail == ("deleted" if event.change == "deleted" else version)
            obj = event.data["object"]
            assert (obj["kind"], obj["metadata"]["uid"]) == ("ConfigMap", uid)
            assert obj["metadata"]["resourceVersion"] == version
            yield Happened(event.change, event.subject, uid, int(version), obj["data"]["v"])


def gap(since: int, **more: Any) -> Resync:
    return Resync(reason="expired", since=str(since), **more)
