"""The Kafka sink's first contact: open waits for what may come, and names what will not."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from kexport import ConfigError, TransientError

from .kafka_arrangement import TOPIC, build, by_key, events, keys_of, opened
from .mock_kafka import MockKafka

UNKNOWN_TOPIC, NO_PERMISSION = 3, 29
NOBODY = "127.0.0.1:1"


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        yield cluster


async def test_open_without_brokers_is_transient_and_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kexport_kafka.courier._REACH_SECONDS", 3)
    sink = build(NOBODY)
    with pytest.raises(
        TransientError, match=f"no broker of {NOBODY} can be reached.*refused.*check bootstrap_servers"
    ):
        await sink.open()
    await sink.close()
    await sink.close()


async def test_open_may_be_repeated_until_the_brokers_are_there(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = build(kafka.bootstrap)
    with monkeypatch.context() as patch, kafka.outage():
        patch.setattr("kexport_kafka.courier._REACH_SECONDS", 0.2)
        with pytest.raises(TransientError):
            await sink.open()
    await sink.open()
    await sink.write(events(1, 3))
    await sink.close()
    assert by_key(kafka.records(TOPIC)) == keys_of(events(1, 3))


async def test_open_refuses_a_topic_that_is_not_there(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport_kafka.courier._TOPIC_SECONDS", 0.2)
    kafka.make_topic("audit")
    kafka.fail_topic("audit", UNKNOWN_TOPIC)
    with pytest.raises(ConfigError, match=r"topic 'audit': no such topic.*create it"):
        async with opened(kafka.bootstrap, topic="audit"):
            pass


async def test_a_broker_that_is_silent_while_it_makes_a_topic_is_waited_for(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = 0.2
    monkeypatch.setattr("kexport_kafka.courier._TOPIC_SECONDS", patience)
    missing, silent = KafkaError(UNKNOWN_TOPIC), KafkaError(KafkaError._TIMED_OUT)
    answers = iter([missing, silent, missing, None])

    def answer(*_: object, seconds: float) -> KafkaError | None:
        found = next(answers)
        if found is silent:
            time.sleep(2 * patience)
        return found

    monkeypatch.setattr("kexport_kafka.courier._ask", answer)
    async with opened(kafka.bootstrap):
        assert next(answers, "all given") == "all given"


async def test_open_refuses_a_topic_without_permission(kafka: MockKafka) -> None:
    kafka.make_topic("audit")
    kafka.fail_topic("audit", NO_PERMISSION)
    with pytest.raises(ConfigError, match="grant it Write"):
        async with opened(kafka.bootstrap, topic="audit"):
            pass
