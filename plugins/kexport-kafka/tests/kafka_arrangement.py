"""What the tests of the Kafka sink share: a sink on a cluster, events, and what became of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from confluent_kafka import Message
from kexport_kafka.config import KafkaConfig
from kexport_kafka.sink import KafkaSink

from kexport import Event, SinkContext
from kexport.testing import SinkLog, make_context, make_event

TOPIC = "k8s.configmaps"


def context(log: SinkLog | None = None) -> SinkContext:
    return make_context("audit", log=log)


def build(bootstrap: str, *, log: SinkLog | None = None, **settings: Any) -> KafkaSink:
    return KafkaSink(KafkaConfig(bootstrap_servers=[bootstrap], **settings), context(log))


@asynccontextmanager
async def opened(bootstrap: str, **settings: Any) -> AsyncIterator[KafkaSink]:
    sink = build(bootstrap, **settings)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


def events(first: int, last: int) -> list[Event]:
    return [make_event(number) for number in range(first, last + 1)]


def large(number: int, size: int = 5_000) -> Event:
    return make_event(number, data={"object": {"data": {"text": "x" * size}}})


def number(record: Message) -> int:
    """Which made-up event a structured record holds."""
    value = record.value()
    assert value is not None
    return int(msgspec.json.decode(value)["sequence"])


def by_key(records: Iterable[Message]) -> dict[bytes, list[int]]:
    """The numbers of the events of each key, in the order in which they are stored."""
    found: dict[bytes, list[int]] = {}
    for record in records:
        key = record.key()
        assert isinstance(key, bytes)
        found.setdefault(key, []).append(number(record))
    return found


def keys_of(sent: Iterable[Event]) -> dict[bytes, list[int]]:
    """The same of events, in the order in which they were sent."""
    found: dict[bytes, list[int]] = {}
    for event in sent:
        found.setdefault(event.key.encode(), []).append(int(event.attributes.sequence))
    return found
