"""The informer on the real API server: the same cases as on FakeCluster."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typing_extensions import override

from tests.informer_cases import InformerCases, Server
from tests.testbed import Cluster


class RealServer(Server):
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @property
    @override
    def cluster(self) -> dict[str, Any]:
        return {"kubeconfig": str(self._cluster.api.kubeconfig())}

    @override
    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        status, text = await asyncio.to_thread(self._cluster.api.request, method, path, body)
        return status, json.loads(text) if text.startswith(b"{") else {"text": text.decode()}

    @override
    async def restart(self) -> None:
        await asyncio.to_thread(self._cluster.api.restart)

    @override
    async def compact(self) -> None:
        await asyncio.to_thread(self._cluster.etcd.compact)


@pytest.fixture
def server(cluster: Cluster) -> Server:
    return RealServer(cluster)


class TestInformer(InformerCases):
    """On the real one."""
