"""The sink contract against a real OpenTelemetry Collector, which is stopped and started for each outage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import kexport_otlp
import msgspec
import pytest
from kexport_otlp.config import OtlpConfig

from kexport import Event
from kexport.testing import SinkContract
from tests.live.exporting import file_lines
from tests.testbed import Collector


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """One Collector for all tests here: an outage ends before its test does."""
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


class TestOtlp(SinkContract[OtlpConfig]):
    """The Collector's answer comes after its file has the records: what `write` acknowledged is there."""

    sink_type = kexport_otlp.otlp_sink

    @pytest.fixture
    def config(self, collector: Collector) -> OtlpConfig:
        self._collector = collector
        self._begin = len(file_lines(collector.output))
        return OtlpConfig(endpoint=collector.endpoint, max_request_bytes=20_000, request_timeout_seconds=20)

    async def stored(self, config: OtlpConfig) -> list[str]:
        return [msgspec.json.decode(record)["id"] for record in await self.records(config)]

    async def records(self, config: OtlpConfig) -> list[bytes]:
        """The bodies of this test's records; each line of the file is a request."""
        return [
            record["body"]["stringValue"].encode()
            for line in file_lines(self._collector.output)[self._begin :]
            for each in json.loads(line)["resourceLogs"]
            for scope in each["scopeLogs"]
            for record in scope["logRecords"]
        ]

    @asynccontextmanager
    async def outage(self, config: OtlpConfig) -> AsyncIterator[None]:
        await asyncio.to_thread(self._collector.stop)
        try:
            yield
        finally:
            await asyncio.to_thread(self._collector.start)

    def unacceptable(self) -> Event:
        pytest.skip("the Collector takes every well-formed record")

    def with_secrets(self, config: OtlpConfig, marker: str) -> OtlpConfig:
        return msgspec.structs.replace(config, headers={"authorization": f"Bearer {marker}"})
