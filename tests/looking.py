"""An engine on a FakeCluster, and the address at which it can be looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from kexport.tables import HttpConfig
from kexport.testing import FakeCluster
from kexport.view import View
from kexport.web import Web
from tests.exporter import Exporter, Memory, toml_of

QUICK = {"min_seconds": 0.01, "max_seconds": 0.05}


class Answer(NamedTuple):
    status: int
    text: str
    headers: Any


class Looking(NamedTuple):
    cluster: FakeCluster
    exporter: Exporter
    view: View
    web: Web
    session: aiohttp.ClientSession

    async def miss(self, name: str) -> None:
        """A Pod is created while nobody watches, and the API server has forgotten that when it is back."""
        await self.cluster.stop_listening()
        self.cluster.create(pod(name))
        self.cluster.forget()
        await self.cluster.listen()

    async def get(self, path: str, **options: Any) -> Answer:
        method = options.pop("method", "GET")
        async with self.session.request(method, self.web.url + path, **options) as response:
            return Answer(response.status, await response.text(), response.headers)


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"containers": [{"name": "web", "image": "shop/web:1"}]},
    }


def view_of(exporter: Exporter) -> View:
    engine = exporter.engine
    return View(engine.stats, engine._journal, lambda: engine._config)


def configuration(directory: Path, url: str, *, secret: str = "", **http: Any) -> str:
    document: dict[str, Any] = {
        "cluster": {"name": secret or "test", "url": url},
        "journal": {"path": str(directory / "state")},
        "http": {"listen": "", **http},
        "resources": [{"resource": "pods"}],
        "sinks": {"memory": {"type": "memory", "retry": QUICK}},
    }
    return toml_of(document)


@asynccontextmanager
async def looking(
    directory: Path,
    *,
    memory: Memory | None = None,
    listen: str = "127.0.0.1:0",
    secret: str = "",
    **http: Any,
) -> AsyncIterator[Looking]:
    """An exporter of pods in which everything is synced, and its web server."""
    async with FakeCluster() as cluster:
        cluster.create(pod("first"))
        text = configuration(directory, cluster.url, secret=secret, **http)
        async with Exporter(text, memory or Memory()) as exporter:
            await exporter.synced()
            await exporter.look(
                lambda: cluster.watch_count == 1, seconds=20, what=lambda: "no watch was opened"
            )
            view = view_of(exporter)
            config = HttpConfig(listen=listen)
            async with Web(config, view) as web, aiohttp.ClientSession() as session:
                yield Looking(cluster, exporter, view, web, session)


async def first_event(look: Looking, **options: Any) -> dict[str, Any]:
    async with look.session.get(look.web.url + "/events", **options) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        async with asyncio.timeout(20):
            return await next_event(response)


async def next_event(response: aiohttp.ClientResponse) -> dict[str, Any]:
    line = await response.content.readline()
    assert line.startswith(b"data: "), line
    assert await response.content.readline() == b"\n"
    event: dict[str, Any] = json.loads(line[6:])
    return event
