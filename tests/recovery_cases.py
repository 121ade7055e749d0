"""History that is read back, said once for FakeCluster and for the real API server."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.exporter import Exporter, Memory, toml
from tests.informer_cases import WIDGET_CRD
from tests.server_cases import PATIENCE_SECONDS
from tests.shop import Server, Shop, value

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LABELS: list[dict[str, str]] = [{}, {"t": "a"}, {"t": "b"}]


class RecoveryCases:
    """Subclasses give the fixture `server`."""

    @pytest.fixture
    async def shop(self, server: Server) -> Shop:
        return await Shop(server).open()

    @pytest.mark.parametrize("selection", [{"label_selector": "t=a"}, {"field_selector": "metadata.name!=b"}])
    async def test_a_selection_comes_back_as_a_witness_has_seen_it(
        self, shop: Shop, tmp_path: Path, selection: dict[str, Any]
    ) -> None:
        entry = {"resource": "configmaps", "namespaces": [shop.name], **selection}
        up = toml(tmp_path / "up", shop.server.cluster, [entry])
        down = toml(tmp_path / "down", shop.server.cluster, [entry])
        seed = random.randrange(1 << 30)
        print(f"seed {seed}")
        day, memory, witness = _Day(shop, seed), Memory(), Memory()
        await day.go_on(8)
        async with Exporter(down, memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        async with Exporter(up, witness) as exporter:
            await exporter.synced()
            start = len(witness.events)
            await day.go_on(40)
            await shop.create("last", labels={"t": "a"}, data={"n": "last"})
            await exporter.until(lambda events: any(value(e) == "last" for e in events))
        await shop.server.restart()
        async with Exporter(down, memory) as exporter:
            await exporter.until(lambda events: any(e.change == "gap" for e in events[seen:]))
        found = memory.events[seen:]
        assert _said(found) == _said(witness.events[start:])
        assert {e.attributes.origin for e in found if ".object." in e.type} == {"recovered"}
        (gap,) = [e.data["object"] for e in found if e.change == "gap"]
        assert gap["complete"] is True

    async def test_a_definition_made_anew_while_it_was_down_ends_the_old_objects_and_begins_new_ones(
        self, shop: Shop, tmp_path: Path
    ) -> None:
        widgets = _Widgets(shop)
        await widgets.define()
        old = await widgets.create("w")
        await widgets.create("x")
        text = toml(
            tmp_path, shop.server.cluster, [{"resource": "widgets.example.com", "namespaces": [shop.name]}]
        )
        memory = Memory()
        async with Exporter(text, memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        await widgets.undefine()
        await widgets.define()
        new = await widgets.create("w")
        await shop.server.restart()
        async with Exporter(text, memory) as exporter:
            await exporter.until(lambda events: any(e.change == "gap" for e in events[seen:]))
        changes = [e for e in memory.events[seen:] if ".object." in e.type]
        assert {e.attributes.origin for e in changes} == {"recovered"}
        assert sorted(e.subject.rpartition("/")[2] for e in changes if e.change == "deleted") == ["w", "x"]
        ends, begins = (
            next(e for e in changes if (e.change, e.attributes.partitionkey) == (change, uid))
            for change, uid in (("deleted", old), ("added", new))
        )
        assert changes.index(ends) < changes.index(begins)
        versions = [int(e.attributes.resourceversion) for e in changes]
        assert versions == sorted(versions)
        (gap,) = [e.data["object"] for e in memory.events[seen:] if e.change == "gap"]
        assert gap["complete"] is True


class _Day:
    """Makes, relabels and deletes ConfigMaps, by a seed."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self._shop = shop
        self._random = random.Random(seed)
        self._alive: set[str] = set()

    async def go_on(self, changes: int) -> None:
        for number in range(changes):
            name, labels = self._random.choice("abcd"), self._random.choice(LABELS)
            if name not in self._alive:
                await self._shop.create(name, labels=labels, data={"n": str(number)})
                self._alive.add(name)
            elif self._random.random() < 0.25:
                await self._shop.delete(name)
                self._alive.remove(name)
            else:
                await self._shop.change(name, f"{number}", labels=labels)


class _Widgets:
    """A custom resource that comes and goes."""

    def __init__(self, shop: Shop) -> None:
        self._server = shop.server
        self._path = shop.path(resource="widgets", api="/apis/example.com/v1")

    async def define(self) -> None:
        status, answer = await self._server.request("POST", DEFINITIONS, WIDGET_CRD)
        assert status in {201, 409}, answer
        await self._served(yes=True)

    async def undefine(self) -> None:
        await self._server.write("DELETE", f"{DEFINITIONS}/widgets.example.com")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self._server.request("GET", f"{DEFINITIONS}/widgets.example.com"))[0] != 404:
                await asyncio.sleep(0.05)
        await self._served(yes=False)

    async def _served(self, *, yes: bool) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while ((await self._server.request("GET", self._path))[0] == 200) != yes:
                await asyncio.sleep(0.05)

    async def create(self, name: str) -> str:
        body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}}
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (found := await self._server.request("POST", self._path, body))[0] != 201:
                await asyncio.sleep(0.05)  # served a moment before it takes writes
        uid: str = found[1]["metadata"]["uid"]
        return uid


def _said(events: list[Any]) -> list[tuple[str, str, Any]]:
    return [(e.change, e.id, e.data) for e in events if ".object." in e.type]
