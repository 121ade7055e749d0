"""The informer on FakeCluster: the cases it shares with the real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kexport.testing.cluster import FakeCluster
from tests.informer_cases import InformerCases, Server


class FakeServer(Server):
    def __init__(self, fake: FakeCluster, session: aiohttp.ClientSession) -> None:
        self.fake = fake
        self._session = session

    @property
    def cluster(self) -> dict[str, Any]:
        return {"url": self.fake.url}

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        async with self._session.request(method, self.fake.url + path, json=body) as response:
            return response.status, await response.json()

    async def restart(self) -> None:
        await self.fake.restart()

    async def compact(self) -> None:
        self.fake.compact()


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
