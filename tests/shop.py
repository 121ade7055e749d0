"""A server that a test can write to and ill-treat over HTTP, and a namespace of the test's own on it."""

from __future__ import annotations

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.exporter import Memory, told, toml

BUSY_SECONDS = 60.0


class Server(ABC):
    """An API server that a test can write to and ill-treat."""

    @property
    @abstractmethod
    def cluster(self) -> dict[str, Any]:
        """The [cluster] table that reaches it."""

    @abstractmethod
    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]: ...

    @abstractmethod
    def stream(self, path: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A GET whose body is read as it comes."""

    @abstractmethod
    async def restart(self) -> None:
        """Restart the API server: its watch caches begin anew."""

    @abstractmethod
    async def compact(self) -> None:
        """Let etcd forget everything before now."""

    async def furnish(self, namespace: str) -> None:
        """Wait until the new namespace has what controllers put into each; there may be none of them."""
        return

    async def write(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """What it answers to what must go well.

        With 429 a server has done nothing yet: it fills a cache, or has too much to do.
        """
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            status, answer = await self.request(method, path, body)
            if status != 429 or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
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
        await self.server.furnish(self.name)
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

    async def names(self) -> list[str]:
        """Of the ConfigMaps that are there, also what clusters add."""
        listed = await self.server.write("GET", self.path())
        return [item["metadata"]["name"] for item in listed["items"]]

    def subject(self, name: str) -> str:
        return f"{self.name}/{name}"


class ShopCases:
    """Cases that play in a shop: subclass it, and give it a `server` fixture."""

    @pytest.fixture
    async def shop(self, server: Server) -> Shop:
        return await Shop(server).open()

    @pytest.fixture
    def memory(self) -> Memory:
        return Memory()

    def config(self, shop: Shop, tmp_path: Path, **resource: Any) -> str:
        entry = {"resource": "configmaps", "namespaces": [shop.name], **resource}
        return toml(tmp_path, shop.server.cluster, [entry])


def about(events: list[Any], shop: Shop) -> list[tuple[str, str, str]]:
    """The object events of the shop, in short; names without the namespace. What clusters add is left out."""
    prefix = shop.name + "/"
    return [
        (change, subject.removeprefix(prefix), origin)
        for change, subject, origin in told(events)
        if subject.startswith(prefix) and not subject.endswith(("kube-root-ca.crt", "/*"))
        and change not in {"gap", "synced"}
    ]  # fmt: skip


def value(event: Any) -> str:
    data: dict[str, str] = event.data["object"].get("data") or {}
    return data.get("n", "")
