"""The kafka sink: events as CloudEvents records, acknowledged by all in-sync replicas.

A record's key is its object's uid, so that one object's changes stay in order in one partition. `write`
returns when the brokers have acknowledged every record; what waits in the client's buffer counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kexport import BatchConfig, SinkType, hookimpl
from kexport_kafka.config import KafkaConfig
from kexport_kafka.sink import KafkaSink

kafka_sink = SinkType(
    "kafka", KafkaConfig, KafkaSink, batch=BatchConfig(max_events=2000, max_bytes=16_000_000)
)


@hookimpl
def kexport_sinks() -> Iterable[SinkType[Any]]:
    return [kafka_sink]
