"""The oldest Kubernetes that kexport is for, by the same cases as the newest; Chart.yaml names it.

It differs where kexport must look for itself: it has no WatchList. What only describes the newest server
(server_cases) is not asked of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from tests.exporter import Exporter, Memory
from tests.gap_cases import GapCases
from tests.informer_cases import InformerCases
from tests.live.test_informer_live import real_server
from tests.recovery_cases import RecoveryCases
from tests.scenario_cases import ScenarioCases
from tests.server_cases import WATCH_LIST
from tests.shop import Server, Shop, ShopCases, about
from tests.testbed import Cluster
from tests.testbed.helm import CHART


@pytest.fixture
async def server(oldest_cluster: Cluster) -> AsyncIterator[Server]:
    async with real_server(oldest_cluster) as running:
        yield running


class TestInformer(InformerCases):
    """On the oldest."""


class TestGap(GapCases):
    """On the oldest."""


class TestScenarios(ScenarioCases):
    """On the oldest."""


class TestRecovery(RecoveryCases):
    """On the oldest."""


class TestOldest(ShopCases):
    async def test_it_is_the_one_that_the_chart_asks_for(self, server: Server) -> None:
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        floor = re.fullmatch(r">=(1\.\d+)\.0-0", chart["kubeVersion"])
        assert floor
        version = await server.write("GET", "/version")
        assert version["gitVersion"].startswith(f"v{floor[1]}.")

    async def test_without_a_watch_list_it_is_listed_in_pages(
        self, shop: Shop, memory: Memory, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger="kexport")
        status, body = await shop.server.request("GET", f"{shop.path()}?{WATCH_LIST}")
        assert (status, body["reason"]) == (422, "Invalid"), json.dumps(body)
        await shop.create("old")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        assert ("added", "old", "snapshot") in about(memory.events, shop)
        said = [record.getMessage() for record in caplog.records]
        assert sum("the server has no WatchList; listing in pages instead" in each for each in said) == 1
