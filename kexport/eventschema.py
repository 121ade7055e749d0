"""The JSON Schema (draft 2020-12) of an event in structured mode, and what each attribute means.

Open where CloudEvents is: attributes and members of `data` that come later are no error to a consumer.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from kexport.event import GAP, OBJECT, ROLLBACK, SCHEMA, SYNCED, Attributes

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
CHANGES: Final = ("added", "modified", "deleted", "left")
# In the order of `Attributes`, which a test compares.
ATTRIBUTES: Final[dict[str, str]] = {
    "specversion": "The version of CloudEvents: 1.0.",
    "id": "Which state it is: the same state has the same id, after any restart; what repeats is told by it.",
    "source": "Where it is from: /clusters/<cluster>/apis/<group, or core>/<resource>.",
    "type": "What happened: io.kexport.object.<change>, or io.kexport.stream.<news of the stream>.",
    "subject": "The object, as <namespace>/<name> or <name>; in stream events the stream's key.",
    "time": "When kexport observed it, in UTC; a watch says nothing about when it happened.",
    "datacontenttype": "The form of data: application/json.",
    "partitionkey": "The object's uid, so that its changes stay in order; in stream events the stream's key.",
    "sequence": "The resourceVersion, padded with zeros to 20 digits, so that it sorts as text.",
    "origin": "How it came to be known: seen live, first listing, read back from history, or by comparing.",
    "cluster": "The cluster's name, or the uid of its namespace kube-system.",
    "apiversion": "As in the object: apps/v1.",
    "kind": "As in the object: Deployment.",
    "resource": "As kubectl writes it: deployments.apps.",
    "objnamespace": "The object's namespace; absent for what has none, and in stream events.",
    "objname": "The object's name; absent in stream events.",
    "resourceversion": "The object's version, or the one at which a stream stands.",
    "epoch": "How often the server's history was set back; absent while it never was.",
    "manager": "Who changed the object last (its field manager); only with diff, where it is known.",
    "managertime": "When that was, to the second, as the API server noted it; only with diff.",
    "rejectedby": "The sink that refused it; only in what a rejects_to sink gets.",
    "rejectedreason": "Why that sink refused it; only in what a rejects_to sink gets.",
}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_TEXT: dict[str, Any] = {"type": "string"}
_FLAG: dict[str, Any] = {"type": "boolean"}
_FORMS: dict[str, dict[str, Any]] = {
    "specversion": {"const": "1.0"},
    "datacontenttype": {"const": "application/json"},
    "id": {"minLength": 1},
    "source": {"pattern": "^/clusters/.+"},
    "time": {"format": "date-time", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
    "sequence": {"pattern": r"^\d{20,}$"},
    "origin": {"enum": ["watch", "snapshot", "recovered", "resync"]},
    "epoch": {"pattern": r"^[1-9]\d*$"},
    "managertime": {"format": "date-time"},
}
# What `data.object` of a stream event has: the members, and which of them always.
_COUNTS = ("added", "modified", "deleted", "recovered")
_SPAN: dict[str, Any] = {
    "stream": {**_TEXT, "description": "The stream's key, as in the logs and the metrics."},
    "resourceVersion": {**_TEXT, "description": "Where the stream stands now."},
    "from": {**_TEXT, "description": "The last version that was known."},
    "to": {**_TEXT, "description": "The version from which on all is known again."},
    "reason": {**_TEXT, "description": "Why: expired, journal-lost: …, and the others of ARCHITECTURE.md."},
    "complete": {**_FLAG, "description": "Whether nothing was missed, in spite of the gap."},
    "scanned": {**_FLAG, "description": "Whether every version between was explained or looked at."},
    "added": {**_COUNT, "description": "Objects that are new by comparing."},
    "modified": {**_COUNT, "description": "Objects that are other by comparing."},
    "deleted": {**_COUNT, "description": "Objects that are gone by comparing."},
    "recovered": {**_COUNT, "description": "Changes that were read back from history."},
}
_STEP: dict[str, Any] = {
    "type": "object",
    "required": ["op", "path"],
    "properties": {"op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]}, "path": _TEXT},
}
_DROPPED: dict[str, Any] = {
    "sink": {**_TEXT, "description": "The sink that did not get them; only this one gets the event."},
    "dropped": {**_COUNT, "description": "How many stored events were given up or could not be read."},
}
_STREAM = {name: _SPAN[name] for name in ("stream", "resourceVersion")}
STREAM_EVENTS: Final[dict[str, tuple[dict[str, Any], list[list[str]]]]] = {
    GAP: ({**_SPAN, **_DROPPED}, [[*_SPAN], ["sink", "dropped", "reason", "complete"]]),
    ROLLBACK: (_SPAN, [[*_SPAN]]),
    SYNCED: (
        {**_STREAM, "objects": {**_COUNT, "description": "How many objects there are."}},
        [["stream", "resourceVersion", "objects"]],
    ),
    SCHEMA: (
        {
            **_STREAM,
            "from": {**_TEXT, "description": "The API version of the objects before."},
            "to": {**_TEXT, "description": "The API version of the objects from here on."},
        },
        [["stream", "resourceVersion", "from", "to"]],
    ),
}  # fmt: skip


def document() -> dict[str, Any]:
    """The whole schema."""
    types = [*(OBJECT + change for change in CHANGES), *STREAM_EVENTS]
    required = [field.name for field in msgspec.structs.fields(Attributes) if field.required]
    forms = {**_FORMS, "type": {"enum": types}}
    return {
        "$schema": DIALECT,
        "title": "An event of kexport",
        "description": "A CloudEvent 1.0 in structured mode: a change of one object, or news of a stream.",
        "type": "object",
        "required": [*required, "data"],
        "properties": {
            **{
                name: {"type": "string", "description": text, **forms.get(name, {})}
                for name, text in ATTRIBUTES.items()
            },
            "data": {"type": "object", "required": ["object"], "properties": {"object": {"type": "object"}}},
        },
        "propertyNames": {"pattern": "^[a-z0-9]+$"},
        "oneOf": [_of_objects(), *map(_of_stream, STREAM_EVENTS)],
    }


def _of_objects() -> dict[str, Any]:
    """The types io.kexport.object.*: `data.object` is the Kubernetes object."""
    identity = {"type": "object", "required": ["name"], "properties": {"name": _TEXT, "namespace": _TEXT}}
    body = {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {"apiVersion": _TEXT, "kind": _TEXT, "metadata": identity},
    }
    data = {
        "object": {**body, "description": "The object now; of a deletion its last state."},
        "previous": {**body, "description": "With diff: the object as the event before told it."},
        "patch": {
            "type": "array",
            "items": _STEP,
            "description": "With diff: the steps from previous to object, RFC 6902.",
        },
    }
    return {
        "title": "A change of an object",
        "required": ["objname", "resourceversion"],
        "properties": {
            "type": {"enum": [OBJECT + change for change in CHANGES]},
            "data": {"properties": data},
        },
    }


def _of_stream(kind: str) -> dict[str, Any]:
    members, demands = STREAM_EVENTS[kind]
    body = {"type": "object", "properties": members, "anyOf": [{"required": names} for names in demands]}
    return {
        "title": kind,
        "properties": {"type": {"const": kind}, "data": {"properties": {"object": body}}},
    }


def text() -> str:
    """The schema as `kexport schema --event` prints it."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"
