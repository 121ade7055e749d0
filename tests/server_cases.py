"""What the API server itself does, said once: FakeCluster is held to the real one by the same cases.

Each is a behaviour that kexport's answers to failures depend on.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.shop import Server, Shop

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PATIENCE_SECONDS = 90.0
CONTENT = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
WATCH_LIST = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


class Lines:
    """The lines of an open watch; clusters' own objects in the namespace are left out."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, Any]:
        """The next line; fails if the server ended the watch instead."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while raw := await self.response.content.readline():
                line: dict[str, Any] = json.loads(raw)
                if line["object"].get("metadata", {}).get("name") != "kube-root-ca.crt":
                    return line
        raise AssertionError("the watch has ended")

    async def short(self, count: int) -> list[tuple[str, str]]:
        lines = [await self.next() for _ in range(count)]
        return [(line["type"], line["object"]["metadata"].get("name", "")) for line in lines]

    async def rest(self) -> bytes:
        """What is left until a clean end; a cut raises."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.response.content.read()


@asynccontextmanager
async def watching(server: Server, path: str) -> AsyncIterator[Lines]:
    """An open watch; while the server fills its watch cache it says 429, and is asked again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        async with server.stream(path) as response:
            if response.status == 429:
                await asyncio.sleep(float(response.headers["Retry-After"]) / 2)
                continue
            assert response.status == 200, await response.text()
            yield Lines(response)
            return
    raise AssertionError(f"{path} was never ready")


async def until(ask: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Ask until the answer is this one: some of what a server does comes a moment behind its cause."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := await ask()) != wanted:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


class Gadgets:
    """A custom resource of the test's own."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.group = f"g{uuid.uuid4().hex[:8]}.example.com"
        self.name = f"gadgets.{self.group}"

    def path(self, version: str = "v1", *, namespace: str = "") -> str:
        return (
            f"/apis/{self.group}/{version}" + (f"/namespaces/{namespace}" if namespace else "") + "/gadgets"
        )

    def definition(self, *versions: str) -> dict[str, Any]:
        served = [
            {"name": name, "served": True, "storage": not index, "schema": CONTENT}
            for index, name in enumerate(versions)
        ]
        names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"}
        spec = {"group": self.group, "scope": "Namespaced", "names": names, "versions": served}
        kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
        return {**kind, "metadata": {"name": self.name}, "spec": spec}

    async def install(self, *versions: str) -> None:
        await self.server.write("POST", DEFINITIONS, self.definition(*versions))
        await self.served(versions[0])

    async def change(self, definition: dict[str, Any]) -> None:
        path = f"{DEFINITIONS}/{self.name}"

        async def put() -> int:
            current = await self.server.write("GET", path)
            definition["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
            status, answer = await self.server.request("PUT", path, definition)
            assert status in {200, 409, 429}, answer  # the server writes into it, too: its status
            return status

        await until(put, 200)

    async def remove(self) -> None:
        await self.server.write("DELETE", f"{DEFINITIONS}/{self.name}")
        await self.served("v1", status=404)

    async def served(self, version: str, *, status: int = 200) -> None:
        async def answer() -> int:
            return (await self.server.request("GET", self.path(version)))[0]

        await until(answer, status)

    async def create(self, shop: Shop, name: str) -> dict[str, Any]:
        kind = {"apiVersion": f"{self.group}/v1", "kind": "Gadget"}
        path = self.path(namespace=shop.name)
        return await self.server.write("POST", path, {**kind, "metadata": {"name": name}})

    async def offered(self) -> list[str]:
        """The versions that discovery has, the preferred one last."""
        group = await self.server.write("GET", f"/apis/{self.group}")
        versions = [*group["versions"], group["preferredVersion"]]
        return [each["version"] for each in versions]

    async def version(self) -> str:
        listed = await self.server.write("GET", self.path())
        return str(listed["metadata"]["resourceVersion"])


class ServerCases:
    """Subclass it, and give it a `server` fixture."""

    @pytest.fixture
    async def shop(self, server: Server) -> Shop:
        return await Shop(server).open()

    @pytest.fixture
    def gadgets(self, server: Server) -> Gadgets:
        return Gadgets(server)

    async def test_a_removed_definition_deletes_its_objects_then_ends_their_watch_then_is_404(
        self, shop: Shop, gadgets: Gadgets
    ) -> None:
        await gadgets.install("v1")
        for name in "ab":
            await gadgets.create(shop, name)
        query = f"?watch=1&resourceVersion={await gadgets.version()}"
        async with watching(shop.server, gadgets.path() + query) as lines:
            await gadgets.remove()
            assert sorted(await lines.short(2)) == [("DELETED", "a"), ("DELETED", "b")]
            assert await lines.rest() == b""
        assert await shop.server.request("GET", gadgets.path() + query) == (
            404, {"text": "404 page not found\n"},
        )  # fmt: skip

    async def test_a_definition_says_that_it_will_end(self, shop: Shop, gadgets: Gadgets) -> None:
        await gadgets.install("v1")
        made = await gadgets.create(shop, "a")
        start = made["metadata"]["resourceVersion"]
        query = f"?watch=1&resourceVersion={start}&fieldSelector=metadata.name%3D{gadgets.name}"
        async with watching(shop.server, DEFINITIONS + query) as lines:
            await gadgets.remove()
            marked, announced, gone = [await lines.next() for _ in range(3)]
        assert [line["type"] for line in (marked, announced, gone)] == ["MODIFIED", "MODIFIED", "DELETED"]
        assert marked["object"]["metadata"]["deletionTimestamp"]
        assert "InstanceDeletionPending" in str(marked["object"]["status"])
        assert "InstanceDeletionInProgress" in str(announced["object"]["status"])

    async def test_a_definition_made_again_answers_old_versions_with_410_and_lists_the_old_objects_exactly(
        self, shop: Shop, gadgets: Gadgets
    ) -> None:
        await gadgets.install("v1")
        await gadgets.create(shop, "a")
        old = await gadgets.version()
        await gadgets.remove()
        await gadgets.install("v1")
        async with watching(shop.server, f"{gadgets.path()}?watch=1&resourceVersion={old}") as lines:
            error = (await lines.next())["object"]
            assert await lines.rest() == b""
        assert (error["code"], error["reason"]) == (410, "Expired")
        exact = f"?resourceVersion={old}&resourceVersionMatch=Exact"
        listed = await shop.server.write("GET", gadgets.path() + exact)
        assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
        assert (await shop.server.write("GET", gadgets.path()))["items"] == []

    async def test_a_new_preferred_version_ends_the_watches_of_the_old_one_and_their_history(
        self, shop: Shop, gadgets: Gadgets
    ) -> None:
        await gadgets.install("v1")
        made = await gadgets.create(shop, "a")
        start = await gadgets.version()
        async with watching(shop.server, f"{gadgets.path()}?watch=1&resourceVersion={start}") as lines:
            await gadgets.change(gadgets.definition("v1", "v2", "v1beta1"))
            assert await lines.rest() == b""
        await gadgets.served("v2")
        for version in ("v1", "v2"):
            path = f"{gadgets.path(version)}?watch=1&resourceVersion={start}"
            async with watching(shop.server, path) as lines:
                assert (await lines.next())["object"]["code"] == 410
        await until(gadgets.offered, ["v2", "v1", "v1beta1", "v2"])
        (item,) = (await shop.server.write("GET", gadgets.path("v2")))["items"]
        assert item["apiVersion"] == f"{gadgets.group}/v2"
        for field in ("uid", "resourceVersion"):
            assert item["metadata"][field] == made["metadata"][field]

    async def test_a_version_that_is_no_longer_served_is_404_and_its_objects_live_on_in_another(
        self, shop: Shop, gadgets: Gadgets
    ) -> None:
        await gadgets.install("v1", "v2")
        made = await gadgets.create(shop, "a")
        start = await gadgets.version()
        changed = gadgets.definition("v1", "v2")
        changed["spec"]["versions"][0]["served"] = False
        async with watching(shop.server, f"{gadgets.path()}?watch=1&resourceVersion={start}") as lines:
            await gadgets.change(changed)
            assert await lines.rest() == b""  # not a word of a deletion
        await gadgets.served("v1", status=404)
        await gadgets.served("v2")  # while its cache is filled again it says 429
        (item,) = (await shop.server.write("GET", gadgets.path("v2")))["items"]
        assert item["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    async def test_a_label_on_a_definition_ends_no_watch(self, shop: Shop, gadgets: Gadgets) -> None:
        await gadgets.install("v1")
        start = await gadgets.version()
        labelled = gadgets.definition("v1")
        labelled["metadata"]["labels"] = {"a": "b"}
        async with watching(shop.server, f"{gadgets.path()}?watch=1&resourceVersion={start}") as lines:
            await gadgets.change(labelled)
            await gadgets.create(shop, "a")
            assert await lines.short(1) == [("ADDED", "a")]

    async def test_a_deleted_namespace_deletes_its_objects_one_by_one_and_then_lists_empty(
        self, shop: Shop
    ) -> None:
        for name in "ab":
            await shop.create(name)
        start = (await shop.server.write("GET", shop.path()))["metadata"]["resourceVersion"]
        async with watching(shop.server, f"{shop.path()}?watch=1&resourceVersion={start}") as lines:
            await shop.server.write("DELETE", f"/api/v1/namespaces/{shop.name}")
            assert sorted(await lines.short(2)) == [("DELETED", "a"), ("DELETED", "b")]
        await until(shop.names, [])  # what the cluster put in may go last

    async def test_leaving_a_selection_is_deleted_with_the_old_content_and_the_new_version(
        self, shop: Shop
    ) -> None:
        made = await shop.create("a", labels={"team": "a"})
        start = made["metadata"]["resourceVersion"]
        query = f"?watch=1&resourceVersion={start}&labelSelector=team%3Da"
        async with watching(shop.server, shop.path() + query) as lines:
            changed = await shop.change("a", "1", labels={"team": "b"})
            line = await lines.next()
        assert (line["type"], line["object"]["data"]) == ("DELETED", {"n": "0"})
        assert line["object"]["metadata"]["labels"] == {"team": "a"}
        assert line["object"]["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]

    async def test_a_watch_from_the_future_is_silent_and_a_list_of_it_504(self, shop: Shop) -> None:
        made = await shop.create("a")
        future = int(made["metadata"]["resourceVersion"]) + 1_000_000
        query = f"?watch=1&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion={future}"
        async with watching(shop.server, shop.path() + query) as lines:
            await shop.create("b")
            assert await lines.rest() == b""
        query = f"?limit=1&resourceVersion={future}&resourceVersionMatch=NotOlderThan"
        status, body = await shop.server.request("GET", shop.path() + query)
        assert (status, body["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")

    async def test_a_watch_list_is_packed_and_marks_the_end_of_its_snapshot(self, shop: Shop) -> None:
        await shop.create("a")
        async with watching(shop.server, f"{shop.path()}?{WATCH_LIST}") as lines:
            assert lines.response.headers["Content-Encoding"] == "gzip"
            assert await lines.short(1) == [("ADDED", "a")]
            bookmark = await lines.next()
            await shop.create("b")
            assert await lines.short(1) == [("ADDED", "b")]
        annotations = bookmark["object"]["metadata"]["annotations"]
        assert (bookmark["type"], annotations) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})

    async def test_what_is_not_served_is_404_in_two_forms(self, server: Server) -> None:
        plain = {"text": "404 page not found\n"}
        for path in ("/apis/nope.example.com/v1/foos", "/apis/nope.example.com/v1"):
            assert await server.request("GET", path) == (404, plain)
        for path in ("/apis/apps/v1/foos", "/apis/apps/v9/deployments", "/apis/apps/v9", "/api/v1/foos"):
            status, body = await server.request("GET", path)
            assert (status, body["reason"], body["details"]) == (404, "NotFound", {})
