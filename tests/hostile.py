"""What tests of security share: a server that plays what no API server would, and the forms of a secret."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kexport.kube import Client
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Fault
from tests.exporter import Exporter, Memory
from tests.objects import config, configmap, seen

MAPS = "/api/v1/configmaps"
MIB = 1 << 20
TOKEN = "hunter2-is-the-token"


@asynccontextmanager
async def connected(fake: FakeCluster, folder: Path) -> AsyncIterator[Client]:
    client = Client(ClusterConfig(kubeconfig=str(fake.kubeconfig(folder)), list_requests_per_second=10_000))
    await client.open()
    try:
        yield client
    finally:
        await client.close()


async def listed(client: Client) -> list[Any]:
    return [page async for page in client.pages(MAPS, {})]


async def watched(client: Client) -> list[bytes]:
    async with client.watch(MAPS, {}) as batches:
        return [line async for lines in batches for line in lines]


class Endless:
    """The same piece again and again, counted; a bound far above every limit keeps a failing test finite."""

    def __init__(self, piece: bytes, *, most: int = 400 * MIB) -> None:
        self._piece = piece
        self._most = most
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.sent < self._most:
            self.sent += len(self._piece)
            yield self._piece


def change(kind: str, name: str, version: str, body: bytes = b"{}") -> bytes:
    metadata = json.dumps(
        {"name": name, "namespace": "default", "uid": f"u-{name}", "resourceVersion": version}
    )
    return b'{"type":"%b","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":%b,"data":%b}}\n' % (
        kind.encode(),
        metadata.encode(),
        body,
    )


def deep(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


async def after(fake: FakeCluster, folder: Path, *faults: Fault) -> Memory:
    """What comes when a stream that is synced meets the faults in its next watches."""
    fake.token = None
    memory = Memory()
    text = config(fake, folder, "configmaps")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    configmap(fake, "later")
    for fault in faults:
        fake.script(fault, verb="watch", path_contains=MAPS)
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda _events: ("added", "later") in seen(memory))
    return memory


def forms(secret: str) -> set[str]:
    """In how many ways one can give a secret away."""
    encoded = base64.b64encode(secret.encode()).decode()
    quoted = {json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret), quote(secret, safe="")}
    return {secret, encoded, *quoted}
