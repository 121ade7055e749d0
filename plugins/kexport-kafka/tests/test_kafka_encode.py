"""Records as the CloudEvents SDK reads them, topic templates, and the settings that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings import kafka as binding
from cloudevents.core.formats.json import JSONFormat
from kexport_kafka.config import KafkaConfig
from kexport_kafka.encode import Encoder, Record
from kexport_kafka.properties import client_properties
from kexport_kafka.topic import NoTopicError, Topics

from kexport import ConfigError, Event
from kexport.testing import make_event

from .kafka_arrangement import build

DATA = {"object": {"kind": "ConfigMap", "data": {"text": 'é "quoted" \u2028 \n', "number": 1.50, "list": []}}}


def record(event: Event, **settings: Any) -> Record:
    config = KafkaConfig(bootstrap_servers=["b:1"], **settings)
    ((found,),), _ = Encoder(config, Topics(config.topic, name="audit")).encode([event])
    return found


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize("changes", [{}, {"objnamespace": "", "kind": "Dänemark"}, {"rejectedby": "audit"}])
def test_the_sdk_reads_the_same_event(mode: str, changes: dict[str, Any]) -> None:
    event = make_event(7, data=DATA, **changes)
    sent = record(event, mode=mode)
    assert sent.value is not None
    message = binding.KafkaMessage(dict(sent.headers), sent.key.encode(), sent.value)
    read = (binding.from_structured if mode == "structured" else binding.from_binary)(message, JSONFormat())
    attributes = {**read.get_attributes(), "time": read.get_time()}
    expected = {**msgspec.to_builtins(event.attributes), "time": event.time}
    assert attributes == expected
    assert read.get_data() == DATA


def test_a_structured_record_is_what_the_sdk_writes_but_for_spaces() -> None:
    event = make_event(7, data=DATA)
    sent = record(event)
    assert sent.value is not None
    read = binding.from_structured(binding.KafkaMessage(dict(sent.headers), None, sent.value), JSONFormat())
    written = binding.to_structured(read, JSONFormat())
    assert dict(sent.headers) == written.headers
    assert sent.key == written.key
    ours, theirs = msgspec.json.decode(sent.value), msgspec.json.decode(written.value)
    assert {**ours, "time": ""} == {**theirs, "time": ""}


def test_a_binary_record_has_the_headers_the_sdk_writes() -> None:
    event = make_event(7, data=DATA)
    sent = record(event, mode="binary")
    assert sent.value == event.data_json
    read = binding.from_binary(
        binding.KafkaMessage(dict(sent.headers), sent.key.encode(), sent.value), JSONFormat()
    )
    ours, theirs = dict(sent.headers), binding.to_binary(read, JSONFormat()).headers
    assert {**ours, "ce_time": b""} == {**theirs, "ce_time": b""}


@pytest.mark.parametrize(
    ("template", "changes", "topic"),
    [
        ("audit", {}, "audit"),
        ("k8s.{resource}", {"resource": "deployments.apps"}, "k8s.deployments.apps"),
        ("{cluster}-{kind}", {"cluster": "prod/eu:1", "kind": "Pod"}, "prod_eu_1-Pod"),
        ("{namespace}.x", {"objnamespace": ""}, "_.x"),
    ],
)
def test_the_template_is_filled_in(template: str, changes: dict[str, Any], topic: str) -> None:
    topics = Topics(template, name="audit")
    assert [topics.topic(make_event(1, **changes)) for _ in range(2)] == [topic, topic]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("k8s.{resourse}", "unknown field {resourse}: there are {resource}"),
        ("k8s.{}", "unknown field {}"),
        ("{kind.__class__}", "unknown field"),
        ("{kind!r}", "unknown field"),
        ("k8s {kind}", "holds only letters"),
        ("k8s/{{kind}}", "holds only letters"),
        ("{kind", "is no template"),
        ("..", "is no topic name"),
        ("x" * 250, "is no topic name"),
    ],
)
def test_a_template_that_can_never_work_is_refused(template: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build("b:1", topic=template)
    assert str(refused.value).startswith("sinks.audit: topic ")
    assert problem in str(refused.value)


def test_a_name_that_is_too_long_when_filled_in_is_no_topic() -> None:
    with pytest.raises(NoTopicError):
        Topics("{resource}", name="audit").topic(make_event(1, resource="r" * 250))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"properties": {"acks": 1}}, "acks = 1 is refused: an event must be on all"),
        ({"properties": {"request.required.acks": "0"}}, "is refused"),
        ({"properties": {"enable.idempotence": False}}, "change the order"),
        ({"properties": {"delivery.report.only.error": True}}, "delivery reports"),
        ({"properties": {"partitioner": "random"}}, "one partition"),
        ({"properties": {"transactional.id": "x"}}, "without transactions"),
        ({"properties": {"bootstrap.servers": "b:2"}}, "bootstrap_servers"),
        ({"properties": {"sasl.password": "x"}}, "password"),
        ({"password": "x"}, "set username too"),
        ({"ca_file": "/ca.pem"}, "set tls = true"),
        ({"tls": True, "key_file": "/key.pem"}, "set cert_file too"),
    ],
)
def test_settings_that_break_the_promise_or_each_other_are_refused(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        build("b:1", **settings)
    assert str(refused.value).startswith("sinks.audit")
    assert problem in str(refused.value)


def test_a_url_among_the_brokers_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"sinks\.audit\.bootstrap_servers: 'http://b:2' is a URL: write host:"
    ):
        build("http://b:2")


@pytest.mark.parametrize(
    "properties", [{"no.such.property": 1}, {"linger.ms": "soon"}, {"acks": "all", "retries": 0}]
)
async def test_properties_the_client_does_not_know_are_refused_at_open(properties: dict[str, Any]) -> None:
    sink = build("127.0.0.1:1", properties=properties)
    with pytest.raises(ConfigError, match="the Kafka client refuses its settings"):
        await sink.open()
    await sink.close()


def test_properties_win_over_defaults_and_allowed_values_pass() -> None:
    config = KafkaConfig(
        bootstrap_servers=["a:1", "b:2"],
        properties={"linger.ms": 50, "acks": -1, "enable.idempotence": "true"},
    )
    properties = client_properties(config, name="audit")
    assert (properties["linger.ms"], properties["acks"]) == (50, -1)
    assert properties["bootstrap.servers"] == "a:1,b:2"


@pytest.mark.parametrize(
    ("settings", "protocol"),
    [
        ({}, "plaintext"),
        ({"tls": True}, "ssl"),
        ({"username": "ann", "password": "x"}, "sasl_plaintext"),
        ({"username": "ann", "password": "x", "tls": True}, "sasl_ssl"),
    ],
)
def test_the_protocol_follows_from_tls_and_username(settings: dict[str, Any], protocol: str) -> None:
    config = KafkaConfig(bootstrap_servers=["b:1"], **settings)
    assert client_properties(config, name="audit")["security.protocol"] == protocol


def test_unknown_settings_are_refused_the_readme_describes_each_and_secrets_are_not_shown() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"bootstrap_servers": ["b:1"], "topik": "x"}, KafkaConfig)
    (schema,) = msgspec.json.schema(KafkaConfig)["$defs"].values()
    readme = Path(__file__).parent.with_name("README.md").read_text()
    for name, each in schema["properties"].items():
        assert f"| `{name}` |" in readme
        assert each["description"] in readme
    assert "s3cret" not in repr(KafkaConfig(bootstrap_servers=["b:1"], username="ann", password="s3cret"))
