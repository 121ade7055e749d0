"""The sink contract against a real broker, which is stopped and started for each outage."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import kexport_kafka
import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from kexport_kafka import courier
from kexport_kafka.config import KafkaConfig

from kexport import Event
from kexport.testing import SinkContract, make_event
from tests.testbed import Kafka

T = TypeVar("T")

_TOO_LARGE = 3_000_000  # characters that do not compress; a topic takes 1 MB


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker for all tests here, with a topic each: an outage ends before its test does."""
    with Kafka(tmp_path_factory.mktemp("kafka"), properties={"num.partitions": "3"}) as running:
        yield running


class TestKafka(SinkContract[KafkaConfig]):
    sink_type = kexport_kafka.kafka_sink
    outage_moments = (6,)
    cancellations = 8

    @pytest.fixture
    def config(self, broker: Kafka, request: pytest.FixtureRequest) -> KafkaConfig:
        self._broker = broker
        return KafkaConfig(
            bootstrap_servers=[broker.bootstrap],
            topic=request.node.name,
            # So long a write takes in an outage, and so long a busy broker may be silent.
            properties={"message.timeout.ms": 10_000, "reconnect.backoff.max.ms": 200},
        )

    async def stored(self, config: KafkaConfig) -> list[str]:
        return [msgspec.json.decode(value)["id"] for value in await self.records(config)]

    async def records(self, config: KafkaConfig) -> list[bytes]:
        found = await asyncio.to_thread(read, config.bootstrap_servers[0], config.topic)
        return [record.value() or b"" for record in found]

    @asynccontextmanager
    async def outage(self, config: KafkaConfig) -> AsyncIterator[None]:
        await asyncio.to_thread(self._broker.stop)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(courier, "_REACH_SECONDS", 1.0)  # how long open tries by itself
                yield
        finally:
            await asyncio.to_thread(self._broker.start)

    def unacceptable(self) -> Event:
        noise = random.Random(5).randbytes(_TOO_LARGE // 2).hex()
        return make_event(666, data={"object": {"data": {"noise": noise}}})

    def with_secrets(self, config: KafkaConfig, marker: str) -> KafkaConfig:
        return msgspec.structs.replace(config, username="kexport", password=marker, sasl_mechanism="PLAIN")


def patiently(ask: Callable[[], T], *, patience_seconds: float = 60.0) -> T:
    """What a broker answers; one that has just started may not know yet which partitions it leads."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return ask()
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def places_of(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """The beginning of each of its partitions."""
    found = consumer.list_topics(topic, timeout=10).topics[topic]
    if found.error:
        raise KafkaException(found.error)
    return [TopicPartition(topic, number, 0) for number in found.partitions]


def read(bootstrap: str, topic: str) -> list[Message]:
    """Every record that the topic has now, partition by partition, in order."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False,
         "fetch.wait.max.ms": 10}
    )  # fmt: skip
    try:
        places = patiently(lambda: places_of(consumer, topic))
        ends = patiently(lambda: [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places])
        missing = sum(ends)
        consumer.assign(places)
        found: list[Message] = []
        while len(found) < missing:
            record = consumer.poll(60)
            assert record is not None, f"{topic}: {missing - len(found)} records never came"
            assert record.error() is None, record.error()
            found.append(record)
        return sorted(found, key=lambda each: (each.partition() or 0, each.offset() or 0))
    finally:
        consumer.close()
