"""How many streams are listed at the same time, and what one that hangs means to the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kexport.backoff import Backoff
from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, toml
from tests.following import stats_of
from tests.objects import eventually

RESOURCES = ("configmaps", "secrets", "services", "pods", "deployments.apps")
LISTING = "sendInitialEvents"


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    monkeypatch.setattr("kexport.informer.Backoff", lambda: Backoff(0.01, 0.05))
    async with FakeCluster() as cluster:
        yield cluster


def configured(fake: FakeCluster, tmp_path: Path, slots: int) -> str:
    cluster = {"url": fake.url, "max_snapshots": slots, "list_requests_per_second": 1000}
    return toml(tmp_path, cluster, [{"resource": resource} for resource in RESOURCES])


def listings(fake: FakeCluster) -> int:
    return sum(LISTING in path for _, path in fake.requests)


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_no_more_streams_are_listed_at_once_than_the_configuration_says(
    fake: FakeCluster, tmp_path: Path, slots: int
) -> None:
    async with Exporter(configured(fake, tmp_path, slots), Memory()) as exporter:
        with fake.stall(LISTING):
            await eventually(lambda: listings(fake) == slots)
            streams = exporter.engine.stats.streams.values()
            await eventually(lambda: len(streams) == len(RESOURCES))
            assert sum(each.state == "listing" for each in streams) == slots
            fake.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
            assert listings(fake) == slots
        await exporter.synced(len(RESOURCES))
        assert listings(fake) == len(RESOURCES)


async def test_a_listing_that_hangs_gives_its_place_to_the_others_in_the_end(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own limits (a minute without a byte, for each way of listing) end it; shortened here."""
    monkeypatch.setattr("kexport.snapshot.UNSYNCED_SECONDS", 0.1)
    monkeypatch.setattr("kexport.kube.LIST_SECONDS", 0.1)
    memory = Memory()
    async with Exporter(configured(fake, tmp_path, 1), memory) as exporter:
        with fake.stall("/configmaps?"):
            await exporter.synced(len(RESOURCES) - 1)
            assert stats_of(exporter).snapshots == 0
            synced = {event.attributes.resource for event in memory.events if event.change == "synced"}
            assert synced == set(RESOURCES) - {"configmaps"}
        await exporter.synced(len(RESOURCES))
