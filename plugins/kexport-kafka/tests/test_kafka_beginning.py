"""The first records to a topic: none counts that no broker has confirmed, and their order holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kexport_kafka.courier import Courier

from kexport import TransientError

from .kafka_arrangement import TOPIC, events, number, opened
from .mock_kafka import MockKafka

NOT_LEADER = 6


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        yield cluster


# A broker that leads a partition since just now refuses the first request, and takes what is under way behind
# it: of a producer that it doesn't know any sequence number will do. librdkafka then says both are stored.


HASTY: dict[str, str | int] = {"batch.size": 1_000, "linger.ms": 0}  # many requests under way


async def test_a_success_that_is_only_concluded_is_none(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Courier, "_at_once", lambda _, records, first: len(records) - first)
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap, properties=HASTY) as sink:
        kafka.answer_after(500)  # long enough for many requests to be under way
        kafka.fail(NOT_LEADER)
        with pytest.raises(TransientError, match="without an offset") as failed:
            await sink.write(events(1, 40))
        assert failed.value.written == 0
        kafka.answer_after(0)
        await sink.write(events(1, 40))
    assert {number(record) for record in kafka.records(TOPIC)} == set(range(1, 41))


async def test_to_a_new_topic_no_two_requests_are_under_way_together(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap, properties=HASTY) as sink:
        kafka.answer_after(50)
        kafka.fail(NOT_LEADER)
        await sink.write(events(1, 40))
    assert [number(record) for record in kafka.records(TOPIC)] == list(range(1, 41))
