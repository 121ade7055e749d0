"""An event as an OpenTelemetry LogRecord: the CloudEvent's JSON is the body, its identity the attributes.

The same event gives the same bytes at every repeat: both times are the event's own. Names are those of the
semantic conventions where they have one, else our `kexport.*`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from kexport import Event

# Resources whose name and uid have an attribute in the stable Kubernetes conventions.
_CONVENTIONAL = {
    "cronjobs.batch": "k8s.cronjob",
    "daemonsets.apps": "k8s.daemonset",
    "deployments.apps": "k8s.deployment",
    "jobs.batch": "k8s.job",
    "namespaces": "k8s.namespace",
    "nodes": "k8s.node",
    "pods": "k8s.pod",
    "replicasets.apps": "k8s.replicaset",
    "statefulsets.apps": "k8s.statefulset",
}
_REPORTS = frozenset({"events", "events.events.k8s.io"})
_OBJECT = "io.kexport.object."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Severity(NamedTuple):
    number: SeverityNumber.ValueType
    text: str


_INFO = _Severity(SeverityNumber.SEVERITY_NUMBER_INFO, "INFO")
_WARN = _Severity(SeverityNumber.SEVERITY_NUMBER_WARN, "WARN")
_ERROR = _Severity(SeverityNumber.SEVERITY_NUMBER_ERROR, "ERROR")


class _Report(msgspec.Struct):
    """What is read of an Event object, and of a gap's description."""

    type: str = ""
    dropped: int = 0


class _Data(msgspec.Struct):
    object: _Report


class _Whole(msgspec.Struct):
    data: _Data


_whole = msgspec.json.Decoder(_Whole)


def encode(event: Event) -> bytes:
    """The serialized LogRecord; raises ValueError for an event that can't be one."""
    nanoseconds = (event.time - _EPOCH) // _MICROSECOND * 1000
    severity = _severity(event)
    record = LogRecord(
        time_unix_nano=nanoseconds,
        observed_time_unix_nano=nanoseconds,
        severity_number=severity.number,
        severity_text=severity.text,
        event_name=event.type,
        body=AnyValue(string_value=event.encode().decode()),
        attributes=[
            KeyValue(key=key, value=AnyValue(string_value=value))
            for key, value in _attributes(event)
            if value
        ],
    )
    return bytes(record.SerializeToString())


def _severity(event: Event) -> _Severity:
    """WARN for a Warning of the cluster's, and for history that was bridged; ERROR for events given up."""
    change, resource = event.change, event.attributes.resource
    if event.type.startswith(_OBJECT):
        return _WARN if resource in _REPORTS and _report(event).type == "Warning" else _INFO
    if change == "gap":
        return _ERROR if _report(event).dropped else _WARN
    return _WARN if change == "rollback" else _INFO


def _report(event: Event) -> _Report:
    try:
        return _whole.decode(event.encode()).data.object
    except msgspec.ValidationError:  # somebody else's kind of that name
        return _Report()


def _attributes(event: Event) -> Iterator[tuple[str, str]]:
    """The names are tested against the OpenTelemetry packages; empty values are left out."""
    its = event.attributes
    yield "cloudevents.event_id", its.id
    yield "cloudevents.event_source", its.source
    yield "cloudevents.event_spec_version", its.specversion
    yield "cloudevents.event_type", its.type
    yield "cloudevents.event_subject", its.subject
    yield "k8s.cluster.name", its.cluster
    yield "k8s.namespace.name", its.objnamespace
    if its.objname:
        kind = _CONVENTIONAL.get(its.resource, "kexport.object")
        yield f"{kind}.name", its.objname
        # Without a uid the key is the subject; the conventions have no uid for a namespace.
        if its.partitionkey != its.subject:
            yield ("kexport.object" if kind == "k8s.namespace" else kind) + ".uid", its.partitionkey
    yield "kexport.resource", its.resource
    yield "kexport.resource_version", its.resourceversion
    yield "kexport.change", event.change
    yield "kexport.origin", its.origin
    yield "kexport.rejected_by", its.rejectedby
    yield "kexport.rejected_reason", its.rejectedreason
