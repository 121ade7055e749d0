"""Asks a FakeCluster over HTTP, as kexport does, and makes the objects that its tests are about."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kexport.testing.cluster import FakeCluster

PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
MERGE = {"Content-Type": "application/merge-patch+json"}
MAPS = "/api/v1/namespaces/default/configmaps"
ALL_MAPS = "/api/v1/configmaps"
WATCH_LIST = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


class Client:
    """The least that speaks to a cluster: a status and a body, or the lines of a watch."""

    def __init__(self, cluster: FakeCluster, session: aiohttp.ClientSession) -> None:
        self.cluster = cluster
        self.session = session

    async def ask(self, method: str, path: str, body: Any = None, **headers: Any) -> tuple[int, Any]:
        async with self.session.request(
            method, self.cluster.url + path, data=None if body is None else json.dumps(body), headers=headers
        ) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def get(self, path: str, **headers: Any) -> Any:
        status, body = await self.ask("GET", path, **headers)
        assert status == 200, body
        return body

    @contextlib.asynccontextmanager
    async def watch(self, path: str, **headers: Any) -> AsyncIterator["Stream"]:
        async with self.session.get(self.cluster.url + path, headers=headers) as response:
            assert response.status == 200, await response.text()
            yield Stream(response)

    async def versions(self, path: str = ALL_MAPS) -> str:
        return str((await self.get(path))["metadata"]["resourceVersion"])


class Stream:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def line(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            parsed: dict[str, Any] = json.loads(await self.response.content.readline())
            return parsed

    async def lines(self, count: int) -> list[dict[str, Any]]:
        return [await self.line() for _ in range(count)]

    async def rest(self) -> bytes:
        async with asyncio.timeout(20):
            return await self.response.content.read()

    async def silent(self) -> None:
        """Assert that nothing arrives, however long the loop gets to deliver it."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await self.response.content.readline()


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Client]:
    async with FakeCluster(**options) as cluster, aiohttp.ClientSession() as session:
        yield Client(cluster, session)


def config_map(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} | more


def labelled(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "i"}]} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def event(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "reason": "Tested"}


def definition(*versions: str) -> dict[str, Any]:
    served = [
        {"name": name, "served": True, "storage": not index} for index, name in enumerate(versions or ("v1",))
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.x.io"},
        "spec": {
            "group": "x.io",
            "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"]},
            "versions": served,
        },
    }


def foo(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "x.io/v1", "kind": "Foo", "metadata": {"name": name}} | more


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def kinds_of(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["type"], line["object"]["metadata"].get("name", "")) for line in lines]


def version_of(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])
