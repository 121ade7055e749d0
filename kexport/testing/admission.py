"""What the API server adds to or refuses about a new or changed object before it is stored."""

import base64
import re
import secrets
from typing import Any

from kexport.testing.failure import ApiFailure, bad_request, conflict, invalid, invalid_object
from kexport.testing.kinds import CRDS, NAMESPACES, PODS, Resource

Object = dict[str, Any]

_NAME_REGEX = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_BAD_NAME = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation "
    f"is '{_NAME_REGEX}')"
)
_NAME = re.compile(_NAME_REGEX)
# The letters of generated names: no vowels, so that no words come out.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def name_it(resource: Resource, obj: Object) -> str:
    """Return the object's name, made up from generateName if need be."""
    metadata = obj["metadata"]
    if not metadata.get("name") and (stem := metadata.get("generateName")):
        metadata["name"] = stem + "".join(secrets.choice(_ALPHABET) for _ in range(5))
    name = metadata.get("name") or ""
    if not name:
        message = "Required value: name or generateName is required"
        raise invalid_object(resource, "", ("FieldValueRequired", message, "metadata.name"))
    if not _NAME.fullmatch(name):
        message = f'Invalid value: "{name}": {_BAD_NAME}'
        raise invalid_object(resource, name, ("FieldValueInvalid", message, "metadata.name"))
    return str(name)


def check_target(resource: Resource, obj: Object, *, namespace: str, name: str = "") -> None:
    """Refuse a body that speaks of another kind, namespace or name than the URL."""
    if resource.custom and not obj.get("kind"):
        raise bad_request(
            f"the object provided is unrecognized (must be of type {resource.kind}): Object 'Kind' is missing"
        )
    kind, api_version = obj.get("kind") or resource.kind, obj.get("apiVersion") or resource.api_version
    if (kind, api_version) != (resource.kind, resource.api_version):
        raise bad_request(f'{kind} in version "{api_version}" cannot be handled as a {resource.kind}')
    metadata = obj["metadata"]
    if resource.namespaced and (metadata.get("namespace") or namespace) != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if name and (given := metadata.get("name") or name) != name:
        raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")


def check_versions(resource: Resource, obj: Object, old: Object) -> None:
    """Refuse a write that was made from another version of the object than the one that is there."""
    metadata, current = obj["metadata"], old["metadata"]
    version = metadata.get("resourceVersion")
    if not version and resource.custom:
        message = "Invalid value: 0: must be specified for an update"
        cause = ("FieldValueInvalid", message, "metadata.resourceVersion")
        raise invalid(resource.group, resource.plural, current["name"], [cause])
    if version and version != current["resourceVersion"]:
        raise conflict(resource, current["name"])
    if (uid := metadata.get("uid")) and uid != current["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {current['uid']}"
        raise conflict(resource, current["name"], why)


def check_preconditions(resource: Resource, old: Object, options: Object) -> None:
    """Refuse a deletion that is meant for another object of the same name."""
    metadata, wanted = old["metadata"], options.get("preconditions") or {}
    for field, label, fate in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        if (given := wanted.get(field)) and given != metadata[field]:
            why = (
                f"the {label} in the precondition ({given}) does not match the {label} in record "
                f"({metadata[field]}). The object might have been {fate}"
            )
            details = {"name": metadata["name"], "kind": resource.kind}
            message = f'Operation cannot be fulfilled on {resource.kind} "{metadata["name"]}": {why}'
            raise ApiFailure(409, message, details=details)


def validate(resource: Resource, obj: Object) -> None:
    """Refuse what a test would stumble over on a real server; the rest of validation is left out."""
    if resource is PODS and not obj.get("spec", {}).get("containers"):
        raise invalid_object(
            resource, obj["metadata"]["name"], ("FieldValueRequired", "Required value", "spec.containers")
        )


def fill_in(resource: Resource, obj: Object) -> None:
    """Set what the server sets on every new object of a kind."""
    metadata = obj["metadata"]
    if resource.name == "secrets":
        fold_strings(resource, obj)
        obj.setdefault("type", "Opaque")
    elif resource is NAMESPACES:
        metadata["labels"] = (metadata.get("labels") or {}) | {
            "kubernetes.io/metadata.name": metadata["name"]
        }
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
    elif resource is PODS:
        obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"} | (obj.get("status") or {})
    complete_names(resource, obj)


def complete_names(resource: Resource, obj: Object) -> None:
    """Set what a definition need not say, at each write: else a new label would look like a new spec."""
    if resource is CRDS:
        names = obj["spec"]["names"]
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", names["kind"] + "List")


def drop_status(resource: Resource, obj: Object, old: Object | None = None) -> None:
    """Ignore what a client says about the status anywhere but in its subresource."""
    if resource.has_status:
        obj.pop("status", None)
        if old and "status" in old:
            obj["status"] = old["status"]


def fold_strings(resource: Resource, obj: Object) -> None:
    """Turn a Secret's stringData, which is for writing only, into data."""
    strings = obj.pop("stringData", None) if resource.name == "secrets" else None
    if strings:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in strings.items()}
        obj["data"] = (obj.get("data") or {}) | encoded


def merged(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386): null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
