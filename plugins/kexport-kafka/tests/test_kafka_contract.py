"""The sink contract on librdkafka's mock cluster: real connections to brokers that can go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import kexport_kafka
import msgspec
import pytest
from confluent_kafka import Message
from kexport_kafka import courier
from kexport_kafka.config import KafkaConfig

from kexport import Event
from kexport.testing import SinkContract, make_event

from .kafka_arrangement import TOPIC, large
from .mock_kafka import MockKafka, read_all

_LARGEST_BYTES = 30_000
_PROPERTIES: dict[str, str | int | float | bool] = {
    "message.timeout.ms": 2_500,
    "message.max.bytes": _LARGEST_BYTES,
}


class KafkaContract(SinkContract[KafkaConfig]):
    """Three partitions, a client that gives up after seconds, and events that are too large for it."""

    sink_type = kexport_kafka.kafka_sink

    outage_moments = (6,)
    cancellations = 12

    @pytest.fixture
    def kafka(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[MockKafka]:
        monkeypatch.setattr(courier, "_REACH_SECONDS", 0.5)  # how long open tries by itself
        with MockKafka() as cluster:
            cluster.make_topic(TOPIC, partitions=3)
            self._kafka = cluster
            yield cluster

    @pytest.fixture
    def config(self, kafka: MockKafka) -> KafkaConfig:
        return KafkaConfig(
            bootstrap_servers=[kafka.bootstrap],
            properties=_PROPERTIES,
        )

    async def _read(self, config: KafkaConfig) -> list[Message]:
        return await asyncio.to_thread(read_all, config.bootstrap_servers[0], TOPIC)

    @asynccontextmanager
    async def outage(self, config: KafkaConfig) -> AsyncIterator[None]:
        with self._kafka.outage():
            yield

    def unacceptable(self) -> Event:
        return large(666, _LARGEST_BYTES)

    def with_secrets(self, config: KafkaConfig, marker: str) -> KafkaConfig:
        return msgspec.structs.replace(config, username="kexport", password=marker, sasl_mechanism="PLAIN")


class TestKafka(KafkaContract):
    async def stored(self, config: KafkaConfig) -> list[str]:
        return [msgspec.json.decode(value)["id"] for value in await self.records(config)]

    async def records(self, config: KafkaConfig) -> list[bytes]:
        return [record.value() or b"" for record in await self._read(config)]


class TestKafkaInBinaryMode(KafkaContract):
    """With tombstones behind deletions, which are records without a value and no events."""

    @pytest.fixture
    def config(self, kafka: MockKafka) -> KafkaConfig:
        return KafkaConfig(
            bootstrap_servers=[kafka.bootstrap], mode="binary", tombstones=True, properties=_PROPERTIES
        )

    def event(self, number: int) -> Event:
        return make_event(
            number, type="io.kexport.object.deleted" if number % 7 == 0 else "io.kexport.object.modified"
        )

    async def stored(self, config: KafkaConfig) -> list[str]:
        events = [record for record in await self._read(config) if record.value() is not None]
        return [_headers(record)["ce_id"].decode() for record in events]

    async def records(self, config: KafkaConfig) -> list[bytes]:
        events = [record for record in await self._read(config) if record.value() is not None]
        return [msgspec.json.encode([*_headers(record).items(), record.value()]) for record in events]


def _headers(record: Message) -> dict[str, bytes]:
    return {name: value for name, value in record.headers() or [] if isinstance(value, bytes)}
