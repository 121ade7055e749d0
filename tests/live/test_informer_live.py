"""The informer, and the API server itself, by the same cases as on FakeCluster: the real ones."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from typing_extensions import override

from tests.gap_cases import GapCases
from tests.informer_cases import InformerCases
from tests.scenario_cases import Guarded, ScenarioCases
from tests.server_cases import ServerCases
from tests.shop import Server, Shop
from tests.testbed import Cluster

RBAC = "/apis/rbac.authorization.k8s.io/v1"
USER = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}


class RealServer(Guarded):
    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self._cluster = cluster
        self._session = session

    @property
    @override
    def cluster(self) -> dict[str, Any]:
        return {"kubeconfig": str(self._cluster.api.kubeconfig())}

    @override
    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        status, text = await asyncio.to_thread(self._cluster.api.request, method, path, body)
        return status, json.loads(text) if text.startswith(b"{") else {"text": text.decode()}

    @override
    def stream(self, path: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.get(self._cluster.api.url + path)

    @override
    async def restart(self) -> None:
        await asyncio.to_thread(self._cluster.api.restart)
        # A client of Go's that loses its server a few times in two minutes comes back to it after half a
        # minute and more; one that has just begun is there at once.
        await asyncio.to_thread(self._cluster.controllers.restart)

    @override
    async def compact(self) -> None:
        await asyncio.to_thread(self._cluster.etcd.compact)

    @override
    async def furnish(self, namespace: str) -> None:
        # Right behind a restart, the controllers need seconds to find out what there is.
        path = f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt"
        async with asyncio.timeout(150):
            while (await self.request("GET", path))[0] != 200:
                await asyncio.sleep(0.05)

    @property
    @override
    def user(self) -> dict[str, Any]:
        return {"kubeconfig": str(self._cluster.api.kubeconfig("reader"))}

    @override
    async def grant(self, shop: Shop) -> None:
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
        role = {"metadata": {"name": "reader"}, "rules": rules}
        await self.request("POST", f"{RBAC}/namespaces/{shop.name}/roles", role)
        reference = {"apiGroup": USER["apiGroup"], "kind": "Role", "name": "reader"}
        binding = {"metadata": {"name": "reader"}, "roleRef": reference, "subjects": [USER]}
        await self.write("POST", f"{RBAC}/namespaces/{shop.name}/rolebindings", binding)

    @override
    async def revoke(self, shop: Shop) -> None:
        await self.write("DELETE", f"{RBAC}/namespaces/{shop.name}/rolebindings/reader")


@asynccontextmanager
async def real_server(cluster: Cluster) -> AsyncIterator[Server]:
    context = ssl.create_default_context(cafile=cluster.api.ca_file)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context),
        headers={"Authorization": f"Bearer {cluster.api.token}"},
    ) as session:
        yield RealServer(cluster, session)


@pytest.fixture
async def server(cluster: Cluster) -> AsyncIterator[Server]:
    async with real_server(cluster) as running:
        yield running


class TestInformer(InformerCases):
    """On the real one."""


class TestGap(GapCases):
    """On the real one."""


class TestScenarios(ScenarioCases):
    """On the real one."""


class TestServer(ServerCases):
    """The real one itself."""
