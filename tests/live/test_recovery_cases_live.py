"""History that is read back, by the same cases as on FakeCluster: the real servers."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.live.test_informer_live import RealServer
from tests.recovery_cases import RecoveryCases
from tests.shop import Server
from tests.testbed import Cluster


class TestRecovery(RecoveryCases):
    """On the real one."""

    @pytest.fixture
    async def server(self, cluster: Cluster) -> AsyncIterator[Server]:
        context = ssl.create_default_context(cafile=cluster.api.ca_file)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            headers={"Authorization": f"Bearer {cluster.api.token}"},
        ) as session:
            yield RealServer(cluster, session)
