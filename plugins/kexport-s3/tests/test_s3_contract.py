"""The sink contract on the fake S3: real HTTP to a server that can go away, in each form of objects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import kexport_s3
import pytest
from kexport_s3.config import Format, S3Config

from kexport import Event
from kexport.testing import SinkContract, make_event

from .fake_s3 import FakeS3
from .s3_arrangement import rows, settings, unpack

RESOURCES = ("configmaps", "pods", "nodes", "jobs.batch", "secrets")


class S3Contract(SinkContract[S3Config]):
    """A bucket of its own for each test; within a folder the objects' names sort as the events came."""

    sink_type = kexport_s3.s3_sink
    form: Format

    @pytest.fixture
    async def server(self) -> AsyncIterator[FakeS3]:
        async with FakeS3() as server:
            self._server = server
            yield server

    @pytest.fixture
    def config(self, server: FakeS3) -> S3Config:
        return settings(server, format=self.form)

    async def stored(self, config: S3Config) -> list[str]:
        return [json.loads(record)["id"] for record in await self.records(config)]

    async def records(self, config: S3Config) -> list[bytes]:
        bodies = [unpack(key, self._server.objects[key]) for key in self._server.names]
        return [record for body in bodies for record in self._records_of(body)]

    def _records_of(self, body: bytes) -> list[bytes]:
        return body.splitlines()

    @asynccontextmanager
    async def outage(self, config: S3Config) -> AsyncIterator[None]:
        await self._server.stop()
        try:
            yield
        finally:
            await self._server.start()

    def event(self, number: int) -> Event:
        """Five folders, so that a batch is objects that go up side by side; a key stays in its folder."""
        return make_event(number, resource=RESOURCES[number % len(RESOURCES)])

    def unacceptable(self) -> Event:
        pytest.skip("a store takes or refuses whole objects, whatever is in them, up to 5 GB in one request")


class TestS3(S3Contract):
    """As it is when nothing is said about the format."""

    form = "jsonl.zst"


class TestS3WithPlainLines(S3Contract):
    form = "jsonl"


class TestS3WithParquet(S3Contract):
    form = "parquet"

    def _records_of(self, body: bytes) -> list[bytes]:
        return [json.dumps(row, default=str).encode() for row in rows(body)]
