"""History that is read back, by the same cases as on FakeCluster: the real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.live.test_informer_live import real_server
from tests.recovery_cases import RecoveryCases
from tests.shop import Server
from tests.testbed import Cluster


class TestRecovery(RecoveryCases):
    """On the real one."""

    @pytest.fixture
    async def server(self, cluster: Cluster) -> AsyncIterator[Server]:
        async with real_server(cluster) as running:
            yield running
