"""What an informer must do, said once: test_informer.py runs it on FakeCluster, live/ on the real API server.

Everything goes through HTTP, so that neither server can be treated more kindly than the other.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytest

from tests.exporter import Exporter, Memory, told, toml

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


class Server(ABC):
    """An API server that a test can write to and ill-treat."""

    @property
    @abstractmethod
    def cluster(self) -> dict[str, Any]:
        """The [cluster] table that reaches it."""

    @abstractmethod
    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]: ...

    @abstractmethod
    async def restart(self) -> None:
        """Restart the API server: its watch caches begin anew."""

    @abstractmethod
    async def compact(self) -> None:
        """Let etcd forget everything before now."""

    async def write(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        status, answer = await self.request(method, path, body)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer


class Shop:
    """A namespace of its own on a server, and what happens in it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.name = f"shop-{uuid.uuid4().hex[:8]}"

    async def open(self) -> Shop:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        await self.server.write("POST", "/api/v1/namespaces", body)
        return self

    def path(self, name: str = "", *, resource: str = "configmaps", api: str = "/api/v1") -> str:
        return f"{api}/namespaces/{self.name}/{resource}" + (f"/{name}" if name else "")

    async def create(
        self, name: str, *, resource: str = "configmaps", labels: dict[str, str] | None = None, **content: Any
    ) -> dict[str, Any]:
        kind = {"configmaps": "ConfigMap", "secrets": "Secret"}[resource]
        metadata = {"name": name, "labels": labels or {}}
        body = {"apiVersion": "v1", "kind": kind, "metadata": metadata, **(content or {"data": {"n": "0"}})}
        return await self.server.write("POST", self.path(resource=resource), body)

    async def change(self, name: str, value: str, *, labels: dict[str, str] | None = None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": value},
        }  # fmt: skip
        if labels is not None:
            body["metadata"]["labels"] = labels
        return await self.server.write("PUT", self.path(name), body)

    async def delete(self, name: str, *, resource: str = "configmaps") -> None:
        await self.server.write("DELETE", self.path(name, resource=resource))

    def subject(self, name: str) -> str:
        return f"{self.name}/{name}"


def about(events: list[Any], shop: Shop) -> list[tuple[str, str, str]]:
    """The object events of the shop, in short; names without the namespace. What clusters add is left out."""
    prefix = shop.name + "/"
    return [
        (change, subject.removeprefix(prefix), origin)
        for change, subject, origin in told(events)
        if subject.startswith(prefix) and not subject.endswith(("kube-root-ca.crt", "/*"))
        and change not in {"gap", "synced"}
    ]  # fmt: skip


class InformerCases:
    """Subclass it, and give it a `server` fixture."""

    @pytest.fixture
    async def shop(self, server: Server) -> Shop:
        return await Shop(server).open()

    @pytest.fixture
    def memory(self) -> Memory:
        return Memory()

    def config(self, shop: Shop, tmp_path: Path, **resource: Any) -> str:
        entry = {"resource": "configmaps", "namespaces": [shop.name], **resource}
        return toml(tmp_path, shop.server.cluster, [entry])

    async def test_what_exists_comes_first_then_synced_then_each_change(
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

    async def test_a_restart_resumes_where_it_was_without_listing(
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

    async def test_after_a_restart_of_both_the_lost_changes_are_recovered_and_a_gap_says_so(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        for name in ("kept", "changed", "gone", "remade"):
            await shop.create(name)
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        old_uid = next(
            e.attributes.partitionkey for e in memory.events if e.subject == shop.subject("remade")
        )
        await shop.change("changed", "1")
        await shop.delete("gone")
        await shop.delete("remade")
        await shop.create("remade")
        await shop.create("new")
        await shop.server.restart()
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: any(e.change == "synced" for e in events[seen:]))
        events = memory.events[seen:]
        assert about(events, shop) == [
            ("modified", "changed", "recovered"), ("deleted", "gone", "recovered"),
            ("deleted", "remade", "recovered"), ("added", "remade", "recovered"),
            ("added", "new", "recovered"),
        ]  # fmt: skip
        remade = [e for e in events if e.subject == shop.subject("remade")]
        assert remade[0].id == f"{old_uid}/deleted"
        assert remade[1].attributes.partitionkey != old_uid
        gap = next(e for e in events if e.change == "gap").data["object"]
        assert (gap["added"], gap["modified"], gap["deleted"]) == (0, 0, 0)
        assert gap["recovered"] >= 5  # clusters add objects of their own
        assert int(gap["from"]) < int(gap["to"])
        assert gap["complete"] is True

    async def test_every_version_while_it_was_down_comes_back_as_a_watch_would_have_shown_it(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        for name in ("changed", "gone", "remade"):
            await shop.create(name)
        async with Exporter(self.config(shop, tmp_path / "down"), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        witness = Memory()
        async with Exporter(self.config(shop, tmp_path / "up"), witness) as watching:
            await watching.synced()
            start = len(witness.events)
            await _busy_day(shop)
            await watching.until(lambda events: any(_value(e) == "last" for e in events))
        await shop.server.restart()
        async with Exporter(self.config(shop, tmp_path / "down"), memory) as exporter:
            await exporter.until(lambda events: any(e.change == "gap" for e in events[seen:]))
        truth, recovered = witness.events[start:], memory.events[seen:]
        assert [each[:2] for each in about(recovered, shop)] == [each[:2] for each in about(truth, shop)]
        assert {origin for _, _, origin in about(recovered, shop)} == {"recovered"}
        assert _bodies(recovered, shop) == _bodies(truth, shop)
        gap = next(e for e in recovered if e.change == "gap").data["object"]
        assert (gap["complete"], gap["scanned"]) == (True, True)

    async def test_without_a_look_at_each_version_only_short_lives_are_overlooked(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        for name in ("changed", "gone", "remade"):
            await shop.create(name)
        text = self.config(shop, tmp_path)
        text = text.replace("[cluster]", "[cluster]\nrecover_scan_revisions = 0")
        async with Exporter(text, memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        await _busy_day(shop)
        await shop.server.restart()
        async with Exporter(text, memory) as exporter:
            await exporter.until(lambda events: any(e.change == "gap" for e in events[seen:]))
        events = memory.events[seen:]
        assert about(events, shop) == [
            ("modified", "changed", "recovered"), ("added", "new", "recovered"),
            ("modified", "changed", "recovered"), ("modified", "gone", "recovered"),
            ("deleted", "gone", "recovered"), ("deleted", "remade", "recovered"),
            ("added", "remade", "recovered"), ("modified", "remade", "recovered"),
            ("modified", "changed", "recovered"),
        ]  # fmt: skip
        gap = next(e for e in events if e.change == "gap").data["object"]
        assert (gap["complete"], gap["scanned"]) == (False, False)

    async def test_every_version_since_the_servers_memory_begins_is_delivered(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("a")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        await shop.change("a", "lost 1")
        await shop.change("a", "lost 2")
        await shop.server.restart()
        for value in ("1", "2", "3"):  # after the restart: the server's watch cache has these
            await shop.change("a", value)
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: any(_value(e) == "3" for e in events[seen:]))
        values = [_value(e) for e in memory.events[seen:] if e.subject == shop.subject("a")]
        assert values == ["lost 1", "lost 2", "1", "2", "3"]

    async def test_a_restart_while_watching_loses_nothing(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
            await shop.create("a")
            await exporter.until(lambda events: told(events)[-1][1] == shop.subject("a"))
            await shop.server.restart()
            await shop.change("a", "1")
            await exporter.until(lambda events: any(_value(e) == "1" for e in events))
        assert [c for c, s, _ in about(memory.events, shop) if s == "a"] == ["added", "modified"]

    async def test_when_etcd_is_compacted_too_the_newest_state_is_compared(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("gone")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        await shop.server.restart()
        await shop.delete("gone")
        await shop.create("new")
        await shop.server.compact()
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: "new" in [s for _, s, _ in about(events, shop)])
            await exporter.until(
                lambda events: "gone" in [s for c, s, _ in about(events, shop) if c == "deleted"]
            )
        last = {subject: change for change, subject, _ in about(memory.events, shop)}
        assert last == {"gone": "deleted", "new": "added"}

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

    async def test_a_journal_that_was_lost_is_a_gap_not_a_fresh_start(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("a")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        journal = tmp_path / "state" / "journal.db"
        journal.write_bytes(journal.read_bytes()[: 5 * 1024])
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: any(e.change == "synced" for e in events[seen:]))
        gap = next(e for e in memory.events[seen:] if e.change == "gap").data["object"]
        assert gap["reason"].startswith("journal-lost")
        assert ("added", "a", "snapshot") in about(memory.events[seen:], shop)
        assert list((tmp_path / "state").glob("broken-*-journal.db"))


async def _busy_day(shop: Shop) -> None:
    """Changes, creations, deletions, objects that come and go, and more than one life under one name."""
    await shop.change("changed", "1")
    await shop.create("new")
    await shop.create("brief")
    await shop.change("brief", "1")
    await shop.delete("brief")
    await shop.change("changed", "2")
    await shop.change("gone", "1")
    await shop.delete("gone")
    await shop.delete("remade")
    await shop.create("remade")
    await shop.delete("remade")
    await shop.create("remade")
    await shop.change("remade", "1")
    await shop.change("changed", "last")


def _bodies(events: list[Any], shop: Shop) -> list[tuple[str, bytes]]:
    names = {shop.subject(name) for name in ("changed", "new", "brief", "gone", "remade")}
    return [(event.id, event.data_json) for event in events if event.subject in names]


def _value(event: Any) -> str:
    data: dict[str, str] = event.data["object"].get("data") or {}
    return data.get("n", "")


def _secret(memory: Memory, shop: Shop, name: str) -> dict[str, str]:
    event = next(e for e in memory.events if e.subject == shop.subject(name))
    values: dict[str, str] = event.data["object"]["data"]
    return values
