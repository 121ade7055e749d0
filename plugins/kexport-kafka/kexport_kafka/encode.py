"""Event -> Kafka records, as the CloudEvents Kafka protocol binding 1.0 says. Pure; the key is the uid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kexport import Event
from kexport_kafka.config import KafkaConfig
from kexport_kafka.topic import NoTopicError, Topics

Headers = list[tuple[str, bytes]]


class Record(NamedTuple):
    """One record; a tombstone has no value and no headers."""

    topic: str
    key: str
    value: bytes | None
    headers: Headers


STRUCTURED: Headers = [("content-type", b"application/cloudevents+json")]
_GONE = frozenset({"deleted", "left"})


class Encoder:
    """Events -> records by the settings."""

    def __init__(self, config: KafkaConfig, topics: Topics) -> None:
        self._encode = _structured if config.mode == "structured" else _binary
        self._tombstones = config.tombstones
        self._topics = topics

    def encode(self, events: Sequence[Event]) -> tuple[list[list[Record]], NoTopicError | None]:
        """The records of each event, up to one that has no legal topic, and why it has none."""
        encoded: list[list[Record]] = []
        for event in events:
            try:
                record = self._encode(event, self._topics.topic(event))
            except NoTopicError as error:
                return encoded, error
            if self._tombstones and event.change in _GONE:
                # Same key, so same partition, and directly behind: nothing of this object comes between.
                encoded.append([record, Record(record.topic, record.key, None, [])])
            else:
                encoded.append([record])
        return encoded, None


def _structured(event: Event, topic: str) -> Record:
    return Record(topic, event.key, event.encode(), STRUCTURED)


def _binary(event: Event, topic: str) -> Record:
    attributes = event.attributes
    headers: Headers = [("content-type", attributes.datacontenttype.encode())]
    for name in attributes.__struct_fields__:
        value = getattr(attributes, name)
        if value and name != "datacontenttype":
            headers.append((f"ce_{name}", value.encode()))
    return Record(topic, event.key, event.data_json, headers)
