"""The Kafka sink against brokers in the process: what is stored, in which order, and when `write` returns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import kexport_kafka
import pytest

from kexport import RejectedError
from kexport.testing import make_event

from .kafka_arrangement import TOPIC, by_key, context, events, keys_of, large, number, opened
from .mock_kafka import MockKafka

NOT_LEADER, REQUEST_TIMED_OUT = 6, 7


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        yield cluster


async def test_every_event_is_stored_when_write_returns(kafka: MockKafka) -> None:
    async with opened(kafka.bootstrap) as sink:
        await sink.write(events(1, 100))
        stored = kafka.records(TOPIC)
        assert sorted(map(number, stored)) == list(range(1, 101))
        assert {record.value() for record in stored} == {event.encode() for event in events(1, 100)}


async def test_write_waits_for_the_brokers_and_not_for_the_buffer(kafka: MockKafka) -> None:
    async with opened(kafka.bootstrap) as sink:
        await sink.write(events(1, 1))
        with kafka.outage():
            writing = asyncio.ensure_future(sink.write(events(2, 5)))
            done, _ = await asyncio.wait({writing}, timeout=0.5)
            assert not done
        await writing
        assert sorted(map(number, kafka.records(TOPIC))) == [1, 2, 3, 4, 5]


async def test_one_objects_events_stay_in_order_over_retries(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC, partitions=3)
    sent = events(1, 400)
    async with opened(kafka.bootstrap) as sink:
        for first in range(0, 400, 50):
            kafka.fail(NOT_LEADER, REQUEST_TIMED_OUT)
            await sink.write(sent[first : first + 50])
        stored = kafka.records(TOPIC)
    assert len({record.partition() for record in stored}) == 3
    assert by_key(stored) == keys_of(sent)


async def test_writing_again_repeats_the_same_bytes(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap) as sink:
        await sink.write(events(1, 10))
        await sink.write(events(1, 10))
        values = [record.value() for record in kafka.records(TOPIC)]
    assert values[:10] == values[10:] == [event.encode() for event in events(1, 10)]


async def test_a_full_client_buffer_is_waited_for(kafka: MockKafka) -> None:
    properties: dict[str, str | int] = {"queue.buffering.max.messages": 7}
    async with opened(kafka.bootstrap, properties=properties) as sink:
        await sink.write(events(1, 200))
        assert by_key(kafka.records(TOPIC)) == keys_of(events(1, 200))


async def test_a_tombstone_is_right_behind_a_deleted_object(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC)
    sent = [
        make_event(1),
        make_event(2, type="io.kexport.object.deleted"),
        make_event(3, type="io.kexport.object.left"),
        make_event(4, type="io.kexport.stream.gap"),
    ]
    async with opened(kafka.bootstrap, tombstones=True) as sink:
        await sink.write(sent)
        stored = [(record.key(), record.value()) for record in kafka.records(TOPIC)]
    keys = [event.key.encode() for event in sent]
    lines = [event.encode() for event in sent]
    assert stored == [
        (keys[0], lines[0]),
        (keys[1], lines[1]),
        (keys[1], None),
        (keys[2], lines[2]),
        (keys[2], None),
        (keys[3], lines[3]),
    ]


async def test_events_go_to_the_topics_of_the_template(kafka: MockKafka) -> None:
    sent = [make_event(1), make_event(2, resource="deployments.apps"), make_event(3, objnamespace="")]
    async with opened(kafka.bootstrap, topic="{cluster}.{resource}-{namespace}") as sink:
        await sink.write(sent)
    stored = [
        list(map(number, kafka.records(topic)))
        for topic in ("test.configmaps-shop", "test.deployments.apps-shop", "test.configmaps-_")
    ]
    assert stored == [[1], [2], [3]]


async def test_an_event_without_a_legal_topic_is_rejected_behind_a_durable_prefix(kafka: MockKafka) -> None:
    sent = [make_event(1), make_event(2), make_event(3, resource="r" * 250), make_event(4)]
    async with opened(kafka.bootstrap) as sink:
        with pytest.raises(RejectedError, match="no topic name") as rejected:
            await sink.write(sent)
        assert rejected.value.written == 2
        assert sorted(map(number, kafka.records(TOPIC))) == [1, 2]


async def test_an_event_too_large_for_the_client_is_rejected_behind_a_durable_prefix(
    kafka: MockKafka,
) -> None:
    properties: dict[str, str | int] = {"message.max.bytes": 4_000}
    async with opened(kafka.bootstrap, properties=properties) as sink:
        with pytest.raises(RejectedError, match=r"max\.message\.bytes") as rejected:
            await sink.write([*events(1, 30), large(31), *events(32, 40)])
        assert rejected.value.written == 30
        assert sorted(map(number, kafka.records(TOPIC))) == list(range(1, 31))
        await sink.write(events(32, 40))


async def test_cancelling_a_write_lets_nothing_of_it_arrive_behind_the_next(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC, partitions=3)
    async with opened(kafka.bootstrap) as sink:
        await sink.write(events(1, 10))
        kafka.answer_after(3000)
        first = asyncio.ensure_future(sink.write(events(11, 60)))
        await asyncio.wait({first}, timeout=0.1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        kafka.answer_after(0)
        await sink.write(events(11, 80))
        stored = by_key(kafka.records(TOPIC))
    for key, numbers in keys_of(events(11, 80)).items():
        assert stored[key][-len(numbers) :] == numbers
        earlier = stored[key][1 : -len(numbers)]
        assert earlier == numbers[: len(earlier)]


async def test_a_write_cancelled_in_an_outage_is_delivered_before_the_next(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap) as sink:
        await sink.write(events(1, 1))
        with kafka.outage():
            first = asyncio.ensure_future(sink.write(events(2, 4)))
            await asyncio.wait({first}, timeout=0.2)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            second = asyncio.ensure_future(sink.write(events(2, 6)))
            await asyncio.wait({second}, timeout=0.2)
        await second
        assert list(map(number, kafka.records(TOPIC))) == [1, 2, 3, 4, 2, 3, 4, 5, 6]


def test_the_plugin_registers_its_sink_type_and_building_does_no_io() -> None:
    (kind,) = kexport_kafka.kexport_sinks()
    assert kind.name == "kafka"
    kind.build(kind.config(bootstrap_servers=["nowhere.invalid:1"]), context())
