"""The sink contract on an endpoint in the process, in each of the three modes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import kexport_webhook
import msgspec
import pytest
from kexport_webhook.config import Mode, WebhookConfig

from kexport import Event
from kexport.testing import SinkContract, make_event

from .webhook_arrangement import Endpoint

_REFUSED = 1_000_000


class WebhookContract(SinkContract[WebhookConfig]):
    """Batches of a few events, so that a write is many requests."""

    sink_type = kexport_webhook.webhook_sink
    mode: Mode

    @pytest.fixture
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        async with Endpoint().running() as endpoint:
            endpoint.poison = {_REFUSED}
            self._endpoint = endpoint
            yield endpoint

    @pytest.fixture
    def config(self, endpoint: Endpoint) -> WebhookConfig:
        return WebhookConfig(url=endpoint.url, mode=self.mode, max_request_events=8)

    async def stored(self, config: WebhookConfig) -> list[str]:
        return [event.get_id() for request in self._endpoint.taken for event in request.events]

    async def records(self, config: WebhookConfig) -> list[bytes]:
        return [
            repr((sorted(event.get_attributes().items()), event.get_data())).encode()
            for request in self._endpoint.taken for event in request.events
        ]  # fmt: skip

    @asynccontextmanager
    async def outage(self, config: WebhookConfig) -> AsyncIterator[None]:
        await self._endpoint.stop()
        try:
            yield
        finally:
            await self._endpoint.start()

    def unacceptable(self) -> Event:
        return make_event(_REFUSED)

    def with_secrets(self, config: WebhookConfig, marker: str) -> WebhookConfig:
        return msgspec.structs.replace(
            config, headers={"authorization": f"Bearer {marker}"}, url=f"{config.url}/{marker}?key={marker}"
        )


class TestStructured(WebhookContract):
    mode: Mode = "structured"


class TestBinary(WebhookContract):
    mode: Mode = "binary"


class TestBatched(WebhookContract):
    mode: Mode = "batched"
