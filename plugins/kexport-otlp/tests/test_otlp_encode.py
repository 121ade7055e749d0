"""What an event looks like as a log record, held against OpenTelemetry's own packages."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kexport_otlp.config import OtlpConfig
from kexport_otlp.encode import encode
from kexport_otlp.request import Frame, frame, split
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.semconv._incubating.attributes import cloudevents_attributes
from opentelemetry.semconv.attributes import k8s_attributes

from kexport import Event
from kexport.testing import make_event

from .otlp_arrangement import attributes

WARN, INFO, ERROR = (
    SeverityNumber.SEVERITY_NUMBER_WARN,
    SeverityNumber.SEVERITY_NUMBER_INFO,
    SeverityNumber.SEVERITY_NUMBER_ERROR,
)
NAMED = {
    "pods": "pod", "nodes": "node", "deployments.apps": "deployment", "replicasets.apps": "replicaset",
    "statefulsets.apps": "statefulset", "daemonsets.apps": "daemonset", "jobs.batch": "job",
    "cronjobs.batch": "cronjob",
}  # fmt: skip
STABLE = {value for name, value in vars(k8s_attributes).items() if name.startswith("K8S_")}


def record(event: Event) -> LogRecord:
    made = LogRecord()
    made.ParseFromString(encode(event))
    return made


def test_the_body_is_the_cloudevent_as_it_is_and_the_name_its_type() -> None:
    event = make_event(3, data={"object": {"text": 'ümlaut "quoted" \U0001f600'}})
    made = record(event)
    assert made.body.string_value.encode() == event.encode()
    assert made.event_name == event.type


def test_both_times_are_the_events_own_so_that_repeats_are_equal() -> None:
    event = make_event(time="2026-11-22T10:20:30.123457Z")
    expected = datetime(2026, 11, 22, 10, 20, 30, 123457, UTC)
    made = record(event)
    assert made.time_unix_nano == int(expected.timestamp()) * 10**9 + 123457000
    assert made.observed_time_unix_nano == made.time_unix_nano
    assert encode(event) == encode(Event(event.line))


def test_attributes_of_an_object_without_conventional_names() -> None:
    event = make_event(7)
    assert attributes(record(event)) == {
        cloudevents_attributes.CLOUDEVENTS_EVENT_ID: event.id,
        cloudevents_attributes.CLOUDEVENTS_EVENT_SOURCE: event.source,
        cloudevents_attributes.CLOUDEVENTS_EVENT_SPEC_VERSION: "1.0",
        cloudevents_attributes.CLOUDEVENTS_EVENT_SUBJECT: "shop/config-7",
        cloudevents_attributes.CLOUDEVENTS_EVENT_TYPE: event.type,
        k8s_attributes.K8S_CLUSTER_NAME: "test",
        k8s_attributes.K8S_NAMESPACE_NAME: "shop",
        "kexport.object.name": "config-7",
        "kexport.object.uid": event.key,
        "kexport.resource": "configmaps",
        "kexport.resource_version": "7",
        "kexport.change": "modified",
        "kexport.origin": "watch",
    }


@pytest.mark.parametrize(("resource", "word"), NAMED.items())
def test_names_and_uids_are_those_of_the_stable_conventions(resource: str, word: str) -> None:
    made = attributes(record(make_event(7, resource=resource)))
    assert made[f"k8s.{word}.name"] == "config-7"
    assert made[f"k8s.{word}.uid"].startswith("00000000-")
    assert {key for key in made if key.startswith("k8s.")} <= STABLE
    assert "kexport.object.name" not in made


def test_a_namespace_has_a_conventional_name_and_our_uid() -> None:
    made = attributes(record(make_event(7, resource="namespaces", objnamespace="", objname="shop")))
    assert made["k8s.namespace.name"] == "shop"
    assert made["kexport.object.uid"]
    assert {key for key in made if key.startswith("k8s.")} <= STABLE


def test_a_custom_resource_that_is_named_like_a_pod_is_none() -> None:
    assert "k8s.pod.name" not in attributes(record(make_event(resource="pods.example.com")))


def test_a_rejected_event_of_another_sink_says_who_refused_it() -> None:
    made = attributes(record(make_event().rejected(sink="kafka", reason="too large")))
    assert (made["kexport.rejected_by"], made["kexport.rejected_reason"]) == ("kafka", "too large")


@pytest.mark.parametrize(
    ("resource", "body", "severity"),
    [
        ("events", {"type": "Warning"}, WARN),
        ("events.events.k8s.io", {"type": "Warning"}, WARN),
        ("events", {"type": "Normal"}, INFO),
        ("events", {"type": 7}, INFO),
        ("events", {}, INFO),
        ("widgets.example.com", {"type": "Warning"}, INFO),
    ],
)
def test_warnings_of_the_cluster_are_warnings(resource: str, body: object, severity: int) -> None:
    made = record(make_event(resource=resource, data={"object": body}))
    assert made.severity_number == severity
    assert made.severity_text == {WARN: "WARN", INFO: "INFO"}[severity]  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "body", "severity"),
    [
        ("io.kexport.stream.gap", {"reason": "expired", "complete": False}, WARN),
        ("io.kexport.stream.gap", {"reason": "journal-full", "dropped": 3}, ERROR),
        ("io.kexport.stream.rollback", {}, WARN),
        ("io.kexport.stream.synced", {}, INFO),
    ],
)
def test_gaps_are_warnings_and_events_given_up_are_errors(kind: str, body: object, severity: int) -> None:
    event = make_event(type=kind, data={"object": body}, objname="", objnamespace="", resource="events")
    assert record(event).severity_number == severity


def test_an_event_without_a_time_zone_or_with_torn_text_cannot_be_a_record() -> None:
    with pytest.raises(TypeError):
        encode(make_event(time="2026-01-01T00:00:00"))
    with pytest.raises(ValueError, match="utf-8"):
        encode(Event(make_event().line.replace(b"config", b"conf\xff"), attributes=make_event().attributes))
    with pytest.raises(msgspec.DecodeError):
        encode(Event(b"{}"))


def test_the_resource_is_kexport_unless_the_environment_or_the_settings_say_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resource_of() == {"service.name": "kexport", "service.version": "0.1.0"}
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=env,deployment.environment.name=prod")
    assert resource_of()["service.name"] == "env"
    given_in_settings = resource_of({"service.name": "mine", "team": "x"})
    assert given_in_settings["service.name"] == "mine"
    assert given_in_settings["deployment.environment.name"] == "prod"
    assert given_in_settings["team"] == "x"


def resource_of(given_in_settings: dict[str, str | int | float | bool] | None = None) -> dict[str, str]:
    made = frame(OtlpConfig(endpoint="http://x", resource_attributes=given_in_settings or {}))
    request = ExportLogsServiceRequest.FromString(made.around([]))
    (logs,) = request.resource_logs
    (scope,) = logs.scope_logs
    assert (scope.scope.name, scope.scope.version) == ("kexport", "0.1.0")
    return {each.key: each.value.string_value for each in logs.resource.attributes}


def test_resource_attributes_keep_their_types() -> None:
    made = frame(OtlpConfig(endpoint="http://x", resource_attributes={"a": 1, "b": 1.5, "c": True}))
    request = ExportLogsServiceRequest.FromString(made.around([]))
    values = {each.key: each.value for each in request.resource_logs[0].resource.attributes}
    assert (values["a"].int_value, values["b"].double_value, values["c"].bool_value) == (1, 1.5, True)


@given(st.lists(st.text(max_size=300), max_size=40), st.text(min_size=1, max_size=200))
def test_the_frame_put_together_by_hand_is_what_the_messages_give(bodies: list[str], name: str) -> None:
    records = [LogRecord(event_name=body, flags=len(body)) for body in bodies]
    described = Resource(dropped_attributes_count=len(name))
    scope = InstrumentationScope(name=name)
    message = ExportLogsServiceRequest(
        resource_logs=[
            ResourceLogs(resource=described, scope_logs=[ScopeLogs(scope=scope, log_records=records)])
        ]
    )
    made = Frame(
        ResourceLogs(resource=described).SerializeToString(), ScopeLogs(scope=scope).SerializeToString()
    ).around([each.SerializeToString() for each in records])
    assert made == message.SerializeToString()


@given(st.lists(st.integers(0, 200), max_size=60), st.integers(1, 500))
def test_splitting_keeps_everything_in_order_and_within_the_limit(sizes: list[int], limit: int) -> None:
    made = Frame(b"\x0a\x02ab", b"\x0a\x03abc")
    spans = list(split(sizes, max_bytes=limit))
    assert [index for first, last in spans for index in range(first, last)] == list(range(len(sizes)))
    for first, last in spans:
        request = made.around([b"x" * size for size in sizes[first:last]])
        assert last == first + 1 or len(request) <= limit + made.size
