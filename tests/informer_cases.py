"""What an informer must do, said once: test_informer.py runs it on FakeCluster, live/ on the real API server.

Everything goes through HTTP, so that neither server can be treated more kindly than the other. What it must
do about a gap is in gap_cases.py.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from pathlib import Path

from kexport.remote import ask
from kexport.request import Snapshot
from tests.exporter import Exporter, Memory, told, toml
from tests.shop import Server, Shop, ShopCases, about

WIDGET_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


class InformerCases(ShopCases):
    """Subclass it, and give it a `server` fixture."""

    async def test_scenario_3_what_exists_comes_first_then_synced_then_each_change(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("old")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
            before = len(about(exporter.events, shop))
            await shop.create("new")
            await shop.change("new", "1")
            await shop.delete("new")
            await exporter.until(lambda events: ("deleted", shop.subject("new"), "watch") in told(events))
        assert ("added", "old", "snapshot") in about(memory.events, shop)
        assert about(memory.events, shop)[before:] == [
            ("added", "new", "watch"), ("modified", "new", "watch"), ("deleted", "new", "watch"),
        ]  # fmt: skip

    async def test_scenario_1_a_restart_resumes_where_it_was_without_listing(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        await shop.create("missed")
        await shop.change("missed", "1")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: len(about(events[seen:], shop)) == 2)
            (stats,) = exporter.engine.stats.streams.values()
        assert about(memory.events[seen:], shop) == [
            ("added", "missed", "watch"), ("modified", "missed", "watch"),
        ]  # fmt: skip
        assert stats.snapshots == 0

    async def test_a_snapshot_that_is_asked_for_tells_all_again_and_the_watch_goes_on(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        for name in ("old", "gone"):
            await shop.create(name)
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
            await shop.change("old", "1")
            await shop.delete("gone")
            await exporter.until(lambda events: ("deleted", shop.subject("gone"), "watch") in told(events))
            seen = len(exporter.events)
            request = Snapshot(resource="configmaps")
            answer = await asyncio.to_thread(ask, tmp_path / "state", request, wait_seconds=30)
            await shop.change("old", "2")
            await exporter.until(lambda events: ("modified", "old", "watch") in about(events[seen:], shop))
        again = memory.events[seen:]
        assert about(again, shop) == [("added", "old", "snapshot"), ("modified", "old", "watch")]
        assert [event.data["object"]["objects"] for event in again if event.change == "synced"] == [
            answer["objects"]
        ]
        assert not [event for event in again if event.change == "gap"]

    async def test_an_object_that_leaves_the_selector_is_not_called_deleted(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("in", labels={"team": "a"})
        await shop.create("out", labels={"team": "b"})
        text = self.config(shop, tmp_path, label_selector="team=a")
        async with Exporter(text, memory) as exporter:
            await exporter.synced()
            changed = await shop.change("in", "1", labels={"team": "b"})
            await exporter.until(lambda events: told(events)[-1][0] == "left")
            await shop.change("in", "2", labels={"team": "a"})
            await exporter.until(lambda events: told(events)[-1][0] == "added")
        assert about(memory.events, shop) == [
            ("added", "in", "snapshot"), ("left", "in", "watch"), ("added", "in", "watch"),
        ]  # fmt: skip
        left = next(e for e in memory.events if e.change == "left")
        uid, version = changed["metadata"]["uid"], changed["metadata"]["resourceVersion"]
        assert left.id == f"{uid}/{version}/left"

    async def test_a_field_selector_is_the_servers_work(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("one")
        await shop.create("two")
        async with Exporter(
            self.config(shop, tmp_path, field_selector="metadata.name=two"), memory
        ) as exporter:
            await exporter.synced()
        assert about(memory.events, shop) == [("added", "two", "snapshot")]

    async def test_several_namespaces_and_patterns(
        self, server: Server, memory: Memory, tmp_path: Path
    ) -> None:
        shops = [await Shop(server).open() for _ in range(3)]
        named = toml(
            tmp_path / "named",
            server.cluster,
            [{"resource": "cm", "namespaces": [shops[0].name, shops[1].name]}],
        )
        for shop in shops:
            await shop.create("a")
        async with Exporter(named, memory) as exporter:
            await exporter.synced(2)
        assert [bool(about(memory.events, shop)) for shop in shops] == [True, True, False]
        by_pattern = Memory()
        pattern = toml(
            tmp_path / "pattern",
            server.cluster,
            [{"resource": "cm", "namespaces": [shops[2].name[:-2] + "*"]}],
        )
        async with Exporter(pattern, by_pattern) as exporter:
            await exporter.synced()
            await shops[2].create("b")
            await exporter.until(lambda events: ("added", "b", "watch") in about(events, shops[2]))
        assert [bool(about(by_pattern.events, shop)) for shop in shops] == [False, False, True]

    async def test_a_silent_start_says_only_that_it_is_synced(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("old")
        async with Exporter(self.config(shop, tmp_path, initial="silent"), memory) as exporter:
            await exporter.synced()
            await shop.delete("old")
            await exporter.until(lambda events: told(events)[-1][0] == "deleted")
        assert about(memory.events, shop) == [("deleted", "old", "watch")]

    async def test_secret_values_reach_neither_sink_nor_disk(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        plain = f"hunter-{uuid.uuid4().hex}"
        await shop.create("listed", resource="secrets", stringData={"password": plain})
        async with Exporter(self.config(shop, tmp_path, resource="secrets"), memory) as exporter:
            await exporter.synced()
            await shop.create("watched", resource="secrets", stringData={"password": plain, "other": "x"})
            await exporter.until(lambda events: ("added", "watched", "watch") in about(events, shop))
            listed = _secret(memory, shop, "listed")
            watched = _secret(memory, shop, "watched")
        assert listed["password"].startswith("hmac-sha256:")
        assert watched["password"] == listed["password"] != watched["other"]
        stored = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
        sent = b"".join(event.line for event in memory.events)
        # The value as it was given, and in base64 as the server stores it (without its last, partial group).
        assert plain.encode() not in stored + sent
        assert base64.b64encode(plain.encode())[:-4] not in stored + sent

    async def test_custom_resources_are_resources(self, shop: Shop, memory: Memory, tmp_path: Path) -> None:
        status, _ = await shop.server.request(
            "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", WIDGET_CRD
        )
        assert status in {201, 409}
        path = shop.path(resource="widgets", api="/apis/example.com/v1")
        body = {
            "apiVersion": "example.com/v1",
            "kind": "Widget",
            "metadata": {"name": "w"},
            "spec": {"size": 1},
        }
        while "widgets" not in str(await shop.server.request("GET", "/apis/example.com/v1")):
            await asyncio.sleep(0.05)  # the server serves a new definition a moment after it took it
        await shop.server.write("POST", path, body)
        async with Exporter(self.config(shop, tmp_path, resource="wd"), memory) as exporter:
            await exporter.synced()
        (event,) = [e for e in memory.events if e.change == "added"]
        assert (event.attributes.resource, event.attributes.kind) == ("widgets.example.com", "Widget")
        assert event.attributes.source == "/clusters/test/apis/example.com/widgets"
        assert event.data["object"]["spec"] == {"size": 1}

    async def test_a_listed_and_a_watched_object_look_the_same(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        async with Exporter(self.config(shop, tmp_path / "first"), memory) as exporter:
            await exporter.synced()
            await shop.create("a", labels={"x": "y"})
            await exporter.until(lambda events: ("added", "a", "watch") in about(events, shop))
        again = Memory()
        async with Exporter(self.config(shop, tmp_path / "second"), again) as exporter:
            await exporter.synced()
        watched = next(e for e in memory.events if e.subject == shop.subject("a"))
        listed = next(e for e in again.events if e.subject == shop.subject("a"))
        assert watched.id == listed.id
        assert watched.data_json == listed.data_json


def _secret(memory: Memory, shop: Shop, name: str) -> dict[str, str]:
    event = next(e for e in memory.events if e.subject == shop.subject(name))
    values: dict[str, str] = event.data["object"]["data"]
    return values
