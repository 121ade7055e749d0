"""The metadata that the API server itself writes into an object, in the order in which it writes it."""

import datetime as dt
import uuid
from typing import Any

from kexport.testing.kinds import Resource

Object = dict[str, Any]

_METADATA_ORDER = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
_NOTHING: tuple[Any, ...] = (None, "", [], {})
# Fields that nobody manages, because the server owns them.
_UNMANAGED = frozenset(_METADATA_ORDER) - {
    "generateName",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
}


def now(seconds_ahead: int = 0) -> str:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds_ahead)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def laid_out(resource: Resource, obj: Object) -> Object:
    """Return the object as the server stores it: type, then metadata in order, without what is empty."""
    given = obj["metadata"]
    metadata = {field: given[field] for field in _METADATA_ORDER if given.get(field) not in _NOTHING}
    rest = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion", "metadata")}
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata} | rest


def born(resource: Resource, obj: Object, *, namespace: str) -> None:
    metadata = obj["metadata"]
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields"):
        metadata.pop(field, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now()
    if resource.namespaced:
        metadata["namespace"] = namespace
    if resource.has_generation:
        metadata["generation"] = 1


def inherit(resource: Resource, obj: Object, old: Object) -> None:
    """Keep what a client can't change; a new generation is a changed spec."""
    fixed = (
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "namespace",
        "generation",
    )
    metadata = obj["metadata"]
    for field in fixed:
        metadata.pop(field, None)
        if field in old["metadata"]:
            metadata[field] = old["metadata"][field]
    if resource.has_generation and _specified(resource, obj) != _specified(resource, old):
        metadata["generation"] = old["metadata"].get("generation", 0) + 1


def _specified(resource: Resource, obj: Object) -> Object:
    """Return what counts for the generation: all but metadata and status in custom objects, else the spec."""
    if resource.custom:
        return {
            key: value
            for key, value in obj.items()
            if key not in ("metadata", "status", "apiVersion", "kind")
        }
    return obj.get("spec") or {}


def condition(kind: str, reason: str, message: str) -> Object:
    return {
        "type": kind,
        "status": "True",
        "lastTransitionTime": now(),
        "reason": reason,
        "message": message,
    }


def ending(definition: Object, reason: str, message: str) -> Object:
    """Return the status of a definition that is being deleted, with how far that has come."""
    status = definition.get("status") or {}
    others = [each for each in status.get("conditions", []) if each["type"] != "Terminating"]
    return status | {"conditions": [*others, condition("Terminating", reason, message)]}


def same(one: Object, other: Object) -> bool:
    """Tell whether a write would change nothing, in which case the server doesn't write."""
    return _comparable(one) == _comparable(other)


def _comparable(obj: Object) -> Object:
    metadata = {
        key: value
        for key, value in obj["metadata"].items()
        if key not in ("resourceVersion", "managedFields")
    }
    return obj | {"metadata": metadata}


def managed(
    resource: Resource, obj: Object, entries: list[Object], *, manager: str, subresource: str
) -> list[Object]:
    """Return managedFields after a write: the writer has one entry that lists what it set, dated now.

    The real server lists the fields that this writer was the last to change; here it is all fields.
    """
    fields = _field_set({"status": obj.get("status")} if subresource == "status" else obj | {"status": None})
    kept = [
        entry
        for entry in entries
        if (entry["manager"], entry.get("subresource", "")) != (manager, subresource)
    ]
    if not fields:
        return kept
    entry = {
        "manager": manager,
        "operation": "Update",
        "apiVersion": resource.api_version,
        "time": now(),
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    return [*kept, entry | ({"subresource": subresource} if subresource else {})]


def _field_set(obj: Object) -> Object:
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key not in _UNMANAGED}
    rest = {
        key: value for key, value in obj.items() if key not in ("kind", "apiVersion", "metadata") and value
    }
    if metadata:
        rest["metadata"] = metadata
    # Structs such as spec have no "." of their own, maps have.
    return {
        f"f:{key}": _fields(value) if key in ("metadata", "spec", "status") else _leaf(value)
        for key, value in sorted(rest.items())
    }


def _fields(value: Any) -> Object:
    return (
        {f"f:{key}": _leaf(inner) for key, inner in sorted(value.items())} if isinstance(value, dict) else {}
    )


def _leaf(value: Any) -> Object:
    return {".": {}} | _fields(value) if isinstance(value, dict) and value else {}
