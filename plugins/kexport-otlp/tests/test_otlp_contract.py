"""The sink contract on a server in the process, over HTTP and over gRPC: something that can go away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import kexport_otlp
import msgspec
import pytest
from kexport_otlp.config import OtlpConfig

from kexport import Event
from kexport.testing import SinkContract, make_event

from .grpc_arrangement import GrpcServer
from .otlp_arrangement import OtlpServer

_REFUSED = 1_000_000


class OtlpContract(SinkContract[OtlpConfig]):
    """Requests of a few events, so that a write is many of them."""

    sink_type = kexport_otlp.otlp_sink
    far_end: type[OtlpServer] = OtlpServer

    @pytest.fixture
    async def server(self) -> AsyncIterator[OtlpServer]:
        async with self.far_end().running() as server:
            server.poison = {_REFUSED}
            self._server = server
            yield server

    @pytest.fixture
    def config(self, server: OtlpServer) -> OtlpConfig:
        return OtlpConfig(endpoint=server.endpoint, max_request_bytes=20_000)

    async def stored(self, config: OtlpConfig) -> list[str]:
        return [msgspec.json.decode(record)["id"] for record in await self.records(config)]

    async def records(self, config: OtlpConfig) -> list[bytes]:
        return [record.body.string_value.encode() for record in self._server.stored]

    @asynccontextmanager
    async def outage(self, config: OtlpConfig) -> AsyncIterator[None]:
        await self._server.stop()
        try:
            yield
        finally:
            await self._server.start()

    def unacceptable(self) -> Event:
        return make_event(_REFUSED)

    def with_secrets(self, config: OtlpConfig, marker: str) -> OtlpConfig:
        return msgspec.structs.replace(config, headers={"authorization": f"Bearer {marker}"})


class TestOtlp(OtlpContract):
    """A server that takes what is well-formed."""


class TestOtlpOverGrpc(OtlpContract):
    """The same server behind gRPC."""

    far_end = GrpcServer

    @pytest.fixture
    def config(self, server: OtlpServer) -> OtlpConfig:
        return OtlpConfig(endpoint=server.endpoint, protocol="grpc", max_request_bytes=20_000)
