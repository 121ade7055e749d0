"""The Kafka sink in trouble: every failure is named, none acknowledges, and all but refusals pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException
from kexport_kafka.reports import Reports
from kexport_kafka.sink import KafkaSink

from kexport import RejectedError, TransientError
from kexport.testing import SinkLog
from kexport.testing.rehearsal import deliver

from .kafka_arrangement import TOPIC, build, by_key, context, events, keys_of, number, opened
from .mock_kafka import MockKafka

NO_PERMISSION_ON_CLUSTER, INIT_PRODUCER_ID = 31, 22
UNKNOWN_TOPIC, NO_PERMISSION, TOO_LARGE, OUT_OF_ORDER, INVALID_RECORD = 3, 29, 10, 45, 87
IMPATIENT: dict[str, str | int] = {"message.timeout.ms": 5_000, "reconnect.backoff.max.ms": 200}
NOBODY = "127.0.0.1:1"


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        yield cluster


# The brokers are away --------------------------------------------------------------------------------


async def test_an_outage_is_transient_names_the_cause_and_passes(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap, properties=IMPATIENT) as sink:
        await sink.write(events(1, 3))
        with kafka.outage(), pytest.raises(TransientError, match=r"no acknowledgement.*last heard") as failed:
            await sink.write(events(4, 9))
        assert failed.value.written == 0
        await deliver(sink, events(4, 9))
        assert by_key(kafka.records(TOPIC)) == keys_of(events(1, 9))


async def test_a_client_that_tells_no_fate_in_time_is_given_up(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport_kafka.courier._LATE_SECONDS", -29.0)
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap) as sink:  # its limit is 30 s
        await sink.write(events(1, 3))
        with kafka.outage(), pytest.raises(TransientError) as failed:
            await asyncio.wait_for(sink.write(events(4, 9)), 20)
        assert failed.value.written == 0
        await deliver(sink, events(4, 9))
        assert by_key(kafka.records(TOPIC)) == keys_of(events(1, 9))


@pytest.mark.parametrize("under_way", [False, True])
async def test_close_is_quick_when_the_brokers_are_away(kafka: MockKafka, under_way: bool) -> None:
    sink = build(kafka.bootstrap)
    await sink.open()
    await sink.write(events(1, 3))
    with kafka.outage():
        if under_way:
            writing = asyncio.ensure_future(sink.write(events(4, 9)))
            await asyncio.wait({writing}, timeout=0.2)
            writing.cancel()
        begin = time.monotonic()
        await sink.close()
        assert time.monotonic() - begin < 20
        await sink.close()


async def test_close_is_quick_while_open_still_looks_for_brokers() -> None:
    sink = build(NOBODY)
    opening = asyncio.ensure_future(sink.open())
    await asyncio.wait({opening}, timeout=0.2)
    opening.cancel()
    begin = time.monotonic()
    await sink.close()
    assert time.monotonic() - begin < 20


async def test_a_cancelled_close_is_finished_by_whatever_comes_next(kafka: MockKafka) -> None:
    sink = build(kafka.bootstrap)
    await sink.open()
    closing = asyncio.ensure_future(sink.close())
    await asyncio.wait({closing}, timeout=0)
    closing.cancel()
    await sink.open()
    await sink.write(events(1, 3))
    await sink.close()
    assert by_key(kafka.records(TOPIC)) == keys_of(events(1, 3))


async def test_close_ends_a_write_that_is_under_way(kafka: MockKafka) -> None:
    sink = build(kafka.bootstrap)
    await sink.open()
    with kafka.outage():
        writing = asyncio.ensure_future(sink.write(events(1, 9)))
        await asyncio.wait({writing}, timeout=0.2)
        await sink.close()
        with pytest.raises(TransientError, match="broken off") as failed:
            await writing
    assert failed.value.written == 0


async def test_a_closed_sink_may_be_opened_again(kafka: MockKafka) -> None:
    sink = build(kafka.bootstrap)
    for first in (1, 4):
        await sink.open()
        await sink.write(events(first, first + 2))
        await sink.close()
    assert by_key(kafka.records(TOPIC)) == keys_of(events(1, 6))


# The brokers refuse ----------------------------------------------------------------------------------


async def test_a_missing_permission_is_named_and_passes_once_it_is_granted(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap) as sink:
        kafka.fail(NO_PERMISSION)
        with pytest.raises(TransientError, match="grant it Write") as failed:
            await sink.write(events(1, 3))
        assert failed.value.written == 0
        await sink.write(events(1, 3))
        assert by_key(kafka.records(TOPIC)) == keys_of(events(1, 3))


@pytest.mark.parametrize("late", [False, True])
async def test_a_client_that_may_not_begin_says_so_and_is_built_anew(kafka: MockKafka, late: bool) -> None:
    kafka.make_topic(TOPIC)
    kafka.fail(NO_PERMISSION_ON_CLUSTER, request=INIT_PRODUCER_ID)
    async with opened(kafka.bootstrap) as sink:
        if late:  # the client has noticed before the write, and refuses to take anything
            await asyncio.wait_for(asyncio.to_thread(noticed_fatal, sink), 60)
        with pytest.raises(TransientError, match="do not allow this user to write") as failed:
            await sink.write(events(1, 3))
        assert failed.value.written == 0
        await sink.write(events(1, 3))
        assert by_key(kafka.records(TOPIC)) == keys_of(events(1, 3))


def noticed_fatal(sink: KafkaSink) -> None:
    """Wait, without taking reports, until the client itself takes no record any more."""
    producer = sink._courier._producer
    assert producer is not None
    while True:
        try:
            producer.produce("elsewhere", b"")
        except KafkaException as error:
            if error.args[0].code() == KafkaError._FATAL:
                return
        else:
            producer.purge()


async def test_the_prefix_is_truthful_when_only_one_partition_fails(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC, partitions=3)
    async with opened(kafka.bootstrap) as sink:
        kafka.fail(NO_PERMISSION)
        with pytest.raises(TransientError) as failed:
            await sink.write(events(1, 30))
        stored = set(map(number, kafka.records(TOPIC)))
        missing = set(range(1, 31)) - stored
        assert stored
        assert failed.value.written == min(missing) - 1
        await sink.write(events(failed.value.written + 1, 30))
        assert set(map(number, kafka.records(TOPIC))) == set(range(1, 31))


async def test_a_topic_that_is_deleted_is_named_and_found_again(kafka: MockKafka) -> None:
    kafka.make_topic("audit")
    properties = {"topic.metadata.propagation.max.ms": 500, "topic.metadata.refresh.interval.ms": 200}
    async with opened(kafka.bootstrap, topic="audit", properties=properties) as sink:
        kafka.fail_topic("audit", UNKNOWN_TOPIC)
        kafka.fail(*[UNKNOWN_TOPIC] * 20)
        with pytest.raises(TransientError, match="no such topic"):
            await sink.write(events(1, 3))
        kafka.heal()
        kafka.fail_topic("audit", 0)
        await deliver(sink, events(1, 3))  # the client may still believe the topic gone for a moment
        assert by_key(kafka.records("audit")) == keys_of(events(1, 3))


@pytest.mark.parametrize("code", [TOO_LARGE, INVALID_RECORD])
async def test_an_event_the_brokers_refuse_is_rejected_only_when_it_was_sent_alone(
    kafka: MockKafka, code: int
) -> None:
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap) as sink:
        kafka.fail(code, code)
        with pytest.raises(RejectedError) as rejected:
            await sink.write(events(1, 5))
        assert rejected.value.written == 0
        await sink.write(events(2, 5))
        assert list(map(number, kafka.records(TOPIC))) == [2, 3, 4, 5]


async def test_a_request_that_is_too_large_rejects_no_event_that_is_not(
    kafka: MockKafka,
) -> None:
    log = SinkLog()
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap, log=log) as sink:
        kafka.fail(TOO_LARGE)
        await sink.write(events(1, 5))
        assert list(map(number, kafka.records(TOPIC))) == [1, 2, 3, 4, 5]
    assert [fields["kind"] for _, _, fields in log.entries] == ["request refused"]


async def test_a_refused_event_in_the_middle_leaves_a_truthful_prefix(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap) as sink:
        kafka.fail(TOO_LARGE, 0, 0, TOO_LARGE)
        with pytest.raises(RejectedError) as rejected:
            await sink.write(events(1, 5))
        assert rejected.value.written == 2
        assert list(map(number, kafka.records(TOPIC))) == [1, 2]


async def test_a_fatal_error_is_transient_and_the_client_is_built_anew(kafka: MockKafka) -> None:
    kafka.make_topic(TOPIC)
    async with opened(kafka.bootstrap) as sink:
        await sink.write(events(1, 3))
        kafka.fail(OUT_OF_ORDER)
        with pytest.raises(TransientError, match="built anew") as failed:
            await sink.write(events(4, 6))
        assert failed.value.written == 0
        await sink.write(events(4, 6))
        assert list(map(number, kafka.records(TOPIC))) == [1, 2, 3, 4, 5, 6]


# Reports ---------------------------------------------------------------------------------------------


def test_each_kind_of_report_is_logged_at_times_and_the_rest_is_counted() -> None:
    log, now = SinkLog(), 0.0
    reports = Reports(context(log), clock=lambda: now)
    for second in range(21):
        now = float(second)
        reports.error(KafkaError(KafkaError._TRANSPORT))
        reports.log(40, "%s", "FAIL", "client", "refused")
    said = [(fields["kind"], fields["repeats_not_shown"]) for _, _, fields in log.entries]
    assert said == [("_TRANSPORT", 0), ("FAIL", 0)] + [("_TRANSPORT", 9), ("FAIL", 9)] * 2
    assert {level for level, _, _ in log.entries} == {"warning"}
