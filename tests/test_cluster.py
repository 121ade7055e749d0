"""Another history, or another cluster, behind the address that we know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kexport.cluster import identify
from kexport.errors import NewClusterError
from kexport.kube import Client
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster
from kexport.testing.raw import serving
from tests.exporter import Exporter, Memory, toml
from tests.objects import (
    config,
    configmap,
    eventually,
    seen,
)


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    monkeypatch.setattr("kexport.streams.SOON_SECONDS", 0.02)
    async with FakeCluster(fresh_wait_seconds=0.05) as cluster:
        yield cluster


@pytest.mark.parametrize("running", [True, False])
async def test_scenario_8_a_history_that_was_set_back(
    fake: FakeCluster, tmp_path: Path, running: bool
) -> None:
    memory = Memory()
    text = config(fake, tmp_path, "configmaps")
    configmap(fake, "kept", n="1")
    backup = fake.revision
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
        configmap(fake, "void")
        fake.patch("configmaps", "default", "kept", {"data": {"n": "2"}})
        await exporter.until(lambda _events: ("modified", "kept") in seen(memory))
        fake.heartbeat(1000)
        fake.bookmark()
        await eventually(
            lambda: next(iter(exporter.engine.stats.streams.values())).version == str(fake.revision)
        )
        if running:
            fake.rollback(backup)
            await exporter.until(lambda events: any(event.change == "rollback" for event in events))
    if not running:
        fake.rollback(backup)
    other = configmap(fake, "other")
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda _events: ("added", "other") in seen(memory))
        await exporter.until(lambda events: any(event.change == "rollback" for event in events))
    since = next(n for n, event in enumerate(memory.events) if event.attributes.epoch)
    after = memory.events[since:]
    assert ("deleted", "void") in [(e.change, e.attributes.objname) for e in after]
    kept = next(e for e in after if e.attributes.objname == "kept")
    assert kept.data["object"]["data"] == {"n": "1"}
    assert {e.attributes.epoch for e in after} == {"1"}
    assert len({e.id for e in memory.events}) == len(memory.events)
    found = next(e for e in after if e.attributes.objname == "other")
    assert found.id == f"{other['metadata']['uid']}/{other['metadata']['resourceVersion']}/epoch-1"
    rollback = next(e for e in after if e.change == "rollback").data["object"]
    assert int(rollback["from"]) > int(rollback["to"])
    assert rollback["reason"] == "rollback"
    later = Memory()
    changed = toml(tmp_path, {"url": fake.url}, [{"resource": "configmaps", "label_selector": "!absent"}])
    async with Exporter(changed, later) as exporter:
        await exporter.synced()
    assert {e.attributes.epoch for e in later.events} == {"1"}


@pytest.mark.parametrize("trouble", ["", "no Exact", "no NotOlderThan"])
@pytest.mark.parametrize("known", ["told", "offered"])
async def test_scenario_8_a_history_that_was_set_back_while_a_comparison_was_pending(
    fake: FakeCluster, tmp_path: Path, trouble: str, known: str
) -> None:
    """Set back behind what is told, or only behind where the server said that a watch may begin."""
    memory = Memory()
    text = config(fake, tmp_path, "configmaps")
    configmap(fake, "kept")
    backup = fake.revision
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
        configmap(fake, "void")
        await exporter.until(lambda _events: ("added", "void") in seen(memory))
    if known == "offered":
        backup = fake.revision
    fake.heartbeat(100)
    await fake.restart()
    fake.fail(503, verb="list", path_contains="limit=500")
    async with Exporter(text, memory) as exporter:
        await eventually(lambda: [s.state for s in exporter.engine.stats.streams.values()] == ["failing"])
    fake.rollback(backup)
    other = configmap(fake, "other")
    if trouble == "no Exact":  # what etcd has not reached is an internal error to servers before 1.34
        fake.fail(500, times=1_000_000, path_contains="Exact")
    elif trouble:
        fake.fail(400, times=1_000_000, path_contains="NotOlderThan")
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda events: any(event.change == "rollback" for event in events))
    rollback = next(e for e in memory.events if e.change == "rollback").data["object"]
    assert int(rollback["from"]) > int(rollback["to"])
    found = next(e for e in memory.events if e.attributes.objname == "other")
    assert found.id == f"{other['metadata']['uid']}/{other['metadata']['resourceVersion']}/epoch-1"
    assert (("deleted", "void") in seen(memory)) == (known == "told")


async def test_scenario_7_a_replica_that_lags_is_not_taken_for_a_rollback(tmp_path: Path) -> None:
    memory = Memory()
    async with FakeCluster(replicas=2, fresh_wait_seconds=0.05) as fake:
        text = config(fake, tmp_path, "configmaps")
        async with Exporter(text, memory) as exporter:
            await exporter.synced()
            configmap(fake, "a")
            await exporter.until(lambda _events: ("added", "a") in seen(memory))
        fake.lag(1, revisions=float("inf"))
        configmap(fake, "b")
        fake.steer(0)
        async with Exporter(text, memory) as exporter:
            await exporter.until(lambda _events: ("added", "b") in seen(memory))
            fake.steer(1)
            fake.hang_up()
            configmap(fake, "c")
            await eventually(lambda: any("NotOlderThan" in path for _, path in fake.requests))
            fake.lag(1)
            await exporter.until(lambda _events: ("added", "c") in seen(memory))
    assert "rollback" not in {event.change for event in memory.events}


async def test_scenario_10_another_cluster_stops_the_exporter(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    text = config(fake, tmp_path, "configmaps")
    configmap(fake, "a")

    async def export() -> None:
        async with Exporter(text, memory) as exporter:
            await exporter.synced()
            await fake.replace()
            configmap(fake, "b")
            await exporter.until(lambda _events: ("added", "b") in seen(memory))

    with pytest.raises(NewClusterError, match="another cluster"):
        await export()
    assert ("added", "b") not in seen(memory)
    assert ("deleted", "a") not in seen(memory)
    with pytest.raises(NewClusterError, match="on_new_cluster"):
        await export()


@pytest.mark.parametrize("running", [True, False])
async def test_scenario_10_an_empty_cluster_is_another_one_before_it_has_kube_system(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    monkeypatch.setattr("kexport.freshness.AGAIN_SECONDS", 0.01)
    monkeypatch.setattr("kexport.cluster.FRESH_SECONDS", 0.0)
    memory = Memory()
    fake.heartbeat(1000)
    configmap(fake, "a")

    async def empty() -> None:
        fake.fail(404, times=20 if running else 2, path_contains="/namespaces/kube-system")
        await fake.replace(first_revision=1)

    async def export() -> None:
        async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
            await exporter.synced()
            if running:
                await empty()
                await exporter.until(lambda _events: ("deleted", "a") in seen(memory))
        await empty()
        async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
            await exporter.until(lambda _events: ("deleted", "a") in seen(memory))

    with pytest.raises(NewClusterError, match="another cluster"):
        await export()
    assert {event.change for event in memory.events} == {"added", "synced"}


async def test_scenario_10_another_cluster_is_begun_anew_where_that_is_wanted(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    text = config(fake, tmp_path, "configmaps", on_new_cluster="restart")
    configmap(fake, "a")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
        await fake.replace()
        configmap(fake, "b")
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
        await exporter.synced(2)
    assert ("deleted", "a") not in seen(memory)
    gap = next(event for event in memory.events if event.change == "gap").data["object"]
    assert gap["reason"] == "new-cluster"


async def test_the_question_which_cluster_it_is_goes_over_a_new_connection_as_a_watch_does() -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            body = b'{"metadata": {"name": "kube-system", "uid": "one"}}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()

    async with serving(talk) as port:
        client = Client(ClusterConfig(url=f"http://127.0.0.1:{port}"))
        await client.open()
        try:
            assert [await identify(client) for _ in range(3)] == ["one"] * 3
        finally:
            await client.close()
    assert connections == 3
