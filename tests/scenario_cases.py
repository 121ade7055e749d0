"""Scenarios that both FakeCluster and the real API server can be made to show, said once for both.

The number in a test's name is the scenario's in RELIABILITY.md. What only one of them can show is in
test_scenarios_*.py; other scenarios are in informer_cases.py and gap_cases.py.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import abstractmethod
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kexport.errors import ConfigError
from kexport.index import Index
from tests.exporter import Exporter, Memory, toml
from tests.server_cases import PATIENCE_SECONDS, Gadgets
from tests.shop import Server, Shop, about, value


class Guarded(Server):
    """A server on which one user's permission can be taken away and given back."""

    @property
    @abstractmethod
    def user(self) -> dict[str, Any]:
        """The [cluster] table of that user; `grant` comes first."""

    @abstractmethod
    async def grant(self, shop: Shop) -> None:
        """Let the user list and watch configmaps in the shop."""

    @abstractmethod
    async def revoke(self, shop: Shop) -> None: ...


class ScenarioCases:
    """Subclass it, and give it a `server` fixture."""

    @pytest.fixture
    async def shop(self, server: Guarded) -> Shop:
        return await Shop(server).open()

    @pytest.fixture
    def gadgets(self, server: Guarded) -> Gadgets:
        return Gadgets(server)

    @pytest.fixture
    def memory(self) -> Memory:
        return Memory()

    def config(self, shop: Shop, tmp_path: Path, resource: str = "configmaps", **entry: Any) -> str:
        cluster = {"rediscover_seconds": 0.5, **shop.server.cluster}
        entry = {"resource": resource, "namespaces": [shop.name], **entry}
        return toml(tmp_path, cluster, [entry])

    async def test_scenario_15_a_removed_definition_and_16_the_same_one_made_again(
        self, shop: Shop, gadgets: Gadgets, memory: Memory, tmp_path: Path
    ) -> None:
        await gadgets.install("v1")
        old = await gadgets.create(shop, "a")
        async with Exporter(self.config(shop, tmp_path, gadgets.name), memory) as exporter:
            await exporter.synced()
            await gadgets.remove()
            await exporter.until(lambda events: any(e.change == "gap" for e in events))
            await gadgets.install("v1")
            new = await gadgets.create(shop, "a")
            await exporter.until(lambda events: _ids(events, "added")[-1:] == [_id(new)])
        assert _ids(memory.events, "added") == [_id(old), _id(new)]
        assert _ids(memory.events, "deleted") == [f"{old['metadata']['uid']}/deleted"]
        gap = next(e for e in memory.events if e.change == "gap").data["object"]
        assert gap["reason"] == "resource-removed"

    async def test_scenario_17_a_changed_definition_ends_the_watch_and_costs_no_change(
        self, shop: Shop, gadgets: Gadgets, memory: Memory, tmp_path: Path
    ) -> None:
        await gadgets.install("v1")
        await gadgets.create(shop, "before")
        async with Exporter(self.config(shop, tmp_path, gadgets.name), memory) as exporter:
            await exporter.synced()
            changed = gadgets.definition("v1")
            changed["spec"]["names"]["shortNames"] = [f"s{gadgets.group[1:9]}"]
            changed["spec"]["versions"][0]["additionalPrinterColumns"] = [
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
            ]
            await gadgets.change(changed)
            await gadgets.create(shop, "after")
            await exporter.until(lambda events: ("added", "after") in _short(events, shop))
        assert _short(memory.events, shop) == [("added", "before"), ("added", "after")]

    async def test_scenario_18_another_version_is_followed_from_where_the_old_one_stood(
        self, shop: Shop, gadgets: Gadgets, memory: Memory, tmp_path: Path
    ) -> None:
        await gadgets.install("v1")
        await gadgets.create(shop, "a")
        async with Exporter(self.config(shop, tmp_path, gadgets.name), memory) as exporter:
            await exporter.synced()
            both = gadgets.definition("v1", "v2")
            both["spec"]["versions"][0]["served"] = False
            await gadgets.change(both)
            await exporter.until(lambda events: any(e.change == "schema" for e in events))
            await gadgets.served("v2")
            await shop.server.write(
                "POST",
                gadgets.path("v2", namespace=shop.name),
                {"apiVersion": f"{gadgets.group}/v2", "kind": "Gadget", "metadata": {"name": "b"}},
            )
            await exporter.until(lambda events: ("added", "b") in _short(events, shop))
        assert _short(memory.events, shop) == [("added", "a"), ("added", "b")]
        told = next(e for e in memory.events if e.change == "schema").data["object"]
        assert (told["from"], told["to"]) == (f"{gadgets.group}/v1", f"{gadgets.group}/v2")

    async def test_scenario_19_the_same_objects_under_two_names_are_refused(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        names = ("events", "events.events.k8s.io")
        text = toml(tmp_path, shop.server.cluster, [{"resource": name} for name in names])
        with pytest.raises(ConfigError, match="same objects"):
            async with Exporter(text, memory) as exporter:
                await exporter.synced()

    async def test_scenario_23_a_permission_that_is_taken_away_deletes_nothing_and_comes_back(
        self, server: Guarded, memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kexport.informer.FORBIDDEN_SECONDS", 0.2)
        shop = await Shop(server).open()
        await server.grant(shop)
        await shop.create("a")
        text = toml(tmp_path, server.user, [{"resource": "configmaps", "namespaces": [shop.name]}])
        async with Exporter(text, memory) as exporter:
            await exporter.synced()
            (stats,) = exporter.engine.stats.streams.values()
            await server.revoke(shop)
            await server.restart()  # an open watch goes on without a permission
            await exporter.look(lambda: stats.state == "forbidden", seconds=60, what=lambda: stats.state)
            await shop.create("b")
            await server.grant(shop)
            await exporter.until(lambda events: ("added", "b") in _short(events, shop))
        assert _short(memory.events, shop) == [("added", "a"), ("added", "b")]

    async def test_scenario_26_a_deleted_namespace_and_a_new_one_of_the_same_name(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": shop.name}}
        old = await shop.create("a")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
            await shop.server.write("DELETE", f"/api/v1/namespaces/{shop.name}")
            await exporter.until(lambda events: ("deleted", "a") in _short(events, shop))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (await shop.server.request("POST", "/api/v1/namespaces", space))[0] != 201:
                    await asyncio.sleep(0.05)  # the old one is still on its way out
            new = await _created_behind_the_old(shop)
            await exporter.until(lambda events: _short(events, shop)[-1] == ("added", "a"))
            (stats,) = exporter.engine.stats.streams.values()
            assert stats.snapshots == 1
        assert _short(memory.events, shop) == [("added", "a"), ("deleted", "a"), ("added", "a")]
        uids = [e.key for e in memory.events if e.subject == shop.subject("a")]
        assert uids == [old["metadata"]["uid"], old["metadata"]["uid"], new["metadata"]["uid"]]

    async def test_scenario_40_a_selector_changed_between_two_runs_deletes_nothing(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("in", labels={"team": "a"})
        await shop.create("out", labels={"team": "b"})
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        async with Exporter(self.config(shop, tmp_path, label_selector="team=a"), memory) as exporter:
            await exporter.synced(2)
            await shop.change("in", "1", labels={"team": "a"})
            await exporter.until(lambda events: ("modified", "in") in _short(events[seen:], shop))
        assert _short(memory.events[seen:], shop) == [("added", "in"), ("modified", "in")]

    async def test_scenario_44_without_its_index_a_stream_still_resumes_exactly(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("a")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        with closing(sqlite3.connect(tmp_path / "state" / "journal.db")) as journal:
            Index(journal).forget()
            journal.commit()
        seen = len(memory.events)
        await shop.change("a", "1")
        await shop.delete("a")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: ("deleted", "a") in _short(events, shop))
            (stats,) = exporter.engine.stats.streams.values()
            assert stats.snapshots == 0
        assert about(memory.events[seen:], shop) == [
            ("modified", "a", "watch"), ("deleted", "a", "watch"),
        ]  # fmt: skip
        assert value(memory.events[seen]) == "1"

    @pytest.mark.parametrize("resource", ["tokenreviews.authentication.k8s.io", "pods/log"])
    async def test_scenario_45_what_cannot_be_watched_is_refused_with_a_word(
        self, shop: Shop, memory: Memory, tmp_path: Path, resource: str
    ) -> None:
        text = toml(tmp_path, shop.server.cluster, [{"resource": resource}])
        with pytest.raises(ConfigError, match=rf"resources\[0\].*{resource}"):
            async with Exporter(text, memory) as exporter:
                await exporter.synced()


async def _created_behind_the_old(shop: Shop) -> dict[str, Any]:
    """The ConfigMap "a"; for a moment the server may still take the namespace for the one that ends (403)."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"n": "0"}}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (found := await shop.server.request("POST", shop.path(), body))[0] in {403, 429}:
            await asyncio.sleep(0.05)
    status, new = found
    assert status == 201, new
    return new


def _short(events: list[Any], shop: Shop) -> list[tuple[str, str]]:
    return [(change, name) for change, name, _ in about(events, shop) if change != "schema"]


def _id(obj: dict[str, Any]) -> str:
    return f"{obj['metadata']['uid']}/{obj['metadata']['resourceVersion']}"


def _ids(events: list[Any], change: str) -> list[str]:
    return [event.id for event in events if event.change == change]
