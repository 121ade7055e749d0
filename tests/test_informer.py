"""The informer on FakeCluster: the cases it shares with the real server, and faults made here alone."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kexport.errors import TransientError
from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, toml
from tests.following import watching
from tests.gap_cases import GapCases
from tests.informer_cases import InformerCases
from tests.objects import eventually
from tests.scenario_cases import Guarded, ScenarioCases
from tests.server_cases import ServerCases
from tests.shop import Server, Shop


class FakeServer(Guarded):
    def __init__(self, fake: FakeCluster, session: aiohttp.ClientSession) -> None:
        self.fake = fake
        self._session = session

    @property
    def cluster(self) -> dict[str, Any]:
        return {"url": self.fake.url}

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        async with self._session.request(method, self.fake.url + path, json=body) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith("{") else {"text": text}

    def stream(self, path: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.get(self.fake.url + path)

    async def restart(self) -> None:
        await self.fake.restart()

    async def compact(self) -> None:
        self.fake.compact()

    @property
    def user(self) -> dict[str, Any]:
        return self.cluster

    async def grant(self, shop: Shop) -> None:
        self.fake.allow(namespace=shop.name)

    async def revoke(self, shop: Shop) -> None:
        for verb in ("list", "watch"):
            self.fake.deny(verb, "configmaps", namespace=shop.name)


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
async def server(fake: FakeCluster) -> AsyncIterator[Server]:
    async with aiohttp.ClientSession() as session:
        yield FakeServer(fake, session)


class TestInformer(InformerCases):
    """On the fake."""


class TestGap(GapCases):
    """On the fake."""


class TestScenarios(ScenarioCases):
    """On the fake."""

    @pytest.fixture
    def server(self, fake: FakeCluster, server: FakeServer) -> FakeServer:
        """With what every real server serves beside what the fake has."""
        verbs = ("get", "list", "watch")
        fake.serve("events.k8s.io/v1", "events", "Event", verbs=verbs, versioned=True)
        fake.serve("authentication.k8s.io/v1", "tokenreviews", "TokenReview", verbs=("create",))
        return server


class TestServer(ServerCases):
    """The fake itself."""


def fake_config(fake: FakeCluster, tmp_path: Path, **journal: Any) -> str:
    return toml(
        tmp_path, {"url": fake.url}, [{"resource": "configmaps", "namespaces": ["default"]}], **journal
    )


def made(fake: FakeCluster, name: str, **data: str) -> None:
    fake.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def names(memory: Memory) -> list[str]:
    return [e.attributes.objname for e in memory.events if e.type.startswith("io.kexport.object.")]


async def test_scenario_2_a_410_as_http_status_is_answered_like_one_inside_the_watch(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    async with Exporter(fake_config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        fake.fail(410, times=2, path_contains="watch=1")
        fake.hang_up()
        await exporter.until(lambda events: any(e.change == "gap" for e in events))


async def test_scenario_2_one_410_alone_costs_no_listing(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    async with Exporter(fake_config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        fake.fail(410, times=1, path_contains="watch=1")
        fake.hang_up()
        made(fake, "a")
        await exporter.until(lambda _events: "a" in names(memory))
    assert not any(e.change == "gap" for e in memory.events)


@pytest.mark.parametrize("clean", [False, True])
async def test_scenario_31_a_line_that_was_cut_is_read_again_whole(
    fake: FakeCluster, tmp_path: Path, *, clean: bool
) -> None:
    memory = Memory()
    async with Exporter(fake_config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        for number in range(5):
            made(fake, f"a{number}", padding="x" * 5000)
            fake.cut_mid_line(clean=clean)
            await exporter.until(lambda _events, n=number: f"a{n}" in names(memory))  # type: ignore[misc]
    assert names(memory)[-5:] == [f"a{number}" for number in range(5)]


async def test_scenario_23_a_lost_permission_keeps_the_state_and_deletes_nothing(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.informer.FORBIDDEN_SECONDS", 0.05)
    memory = Memory()
    made(fake, "a")
    async with Exporter(fake_config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        (stats,) = exporter.engine.stats.streams.values()
        fake.deny("list", "configmaps")
        fake.deny("watch", "configmaps")
        fake.hang_up()
        while stats.state != "forbidden":
            await asyncio.sleep(0.01)
        made(fake, "b")
        fake.allow()
        await exporter.until(lambda _events: "b" in names(memory))
    assert not any(e.change in {"deleted", "gap"} for e in memory.events)


async def test_scenario_4_a_failed_listing_concludes_nothing(fake: FakeCluster, tmp_path: Path) -> None:
    fake.watch_list = False
    memory = Memory()
    for number in range(1200):
        made(fake, f"a{number:04d}")
    fake.fail(500, times=2, path_contains="continue=")
    async with Exporter(fake_config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
    assert sorted(names(memory)) == [f"a{number:04d}" for number in range(1200)]


async def test_scenario_6_the_server_is_not_hammered_while_it_refuses(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    async with Exporter(fake_config(fake, tmp_path), memory) as exporter:
        await watching(exporter)
        before = len(fake.requests)

        def tries() -> int:
            return sum("watch=1" in request.path for request in fake.requests[before:])

        fake.fail(503, times=1000, path_contains="watch=1")
        fake.hang_up()
        await eventually(lambda: tries() >= 1)
        await asyncio.sleep(2)
        assert tries() <= 4


async def test_scenario_13_a_full_journal_closes_the_watch_and_goes_on_when_there_is_room(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.informer.ROOM_SECONDS", 0.05)
    memory = Memory()
    away = asyncio.Event()

    def fail(_events: Any) -> None:
        if not away.is_set():
            raise TransientError("away")

    memory.fail = fail
    async with Exporter(fake_config(fake, tmp_path, max_bytes=1 << 20), memory) as exporter:
        while not exporter.engine.stats.streams or not fake.watch_count:
            await asyncio.sleep(0.01)
        (stats,) = exporter.engine.stats.streams.values()
        count = 0
        while stats.state != "paused":
            made(fake, f"a{count:04d}", padding=os.urandom(50_000).hex())
            count += 1
            await asyncio.sleep(0.01)
        await eventually(lambda: not fake.watch_count)  # the server learns of it a moment later
        away.set()
        made(fake, "last")
        await exporter.until(lambda _events: "last" in names(memory))
    assert [name for name in names(memory) if name[0] == "a"] == [f"a{number:04d}" for number in range(count)]


async def test_a_removed_sink_and_a_new_one_do_not_disturb_the_streams(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory, other = Memory(), Memory()
    text = fake_config(fake, tmp_path)
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    made(fake, "a")
    renamed = text.replace("[sinks]\nmemory = { type", "[sinks]\nother = { type")
    assert renamed != text
    async with Exporter(renamed, other) as exporter:
        await exporter.until(lambda _events: names(other) == ["a"])


async def test_scenario_43_stopping_delivers_what_was_read(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    async with Exporter(fake_config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        (stats,) = exporter.engine.stats.streams.values()
        for number in range(200):
            made(fake, f"a{number}")
        while stats.changes < 200:
            await asyncio.sleep(0)
    assert len([name for name in names(memory) if name.startswith("a")]) == 200
