"""What of an object people look at: images, replicas, readiness, and the stated cause of its last change.

Objects come from anywhere and may have any shape; what isn't shaped as Kubernetes says is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_CAUSE = "kubernetes.io/change-cause"
_TEMPLATES = (("template",), ("jobTemplate", "spec", "template"))  # of workloads, of CronJobs
_CONTAINERS = ("initContainers", "containers")
_READINESS = ("Ready", "Available")  # the second is what Deployments have

SHOWN: tuple[tuple[str, ...], ...] = (
    ("spec", "replicas"),
    *(("status", "conditions", "*", member) for member in ("type", "status")),
    *(
        ("spec", *template, member, "*", shown)
        for template in ((), *((*path, "spec") for path in _TEMPLATES))
        for member in _CONTAINERS
        for shown in ("name", "image")
    ),
)
"""Where in an object that stands; `*` is any place in a list."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of an object; None and empty: it has no such thing."""

    images: dict[str, str] = {}
    replicas: int | None = None
    ready: str | None = None
    why: str = ""
    cause: str = ""


def state_of(obj: object) -> State:
    """The part of an object that lines are made of."""
    spec = _inside(obj, "spec")
    replicas = spec.get("replicas")
    condition = _readiness(_inside(obj, "status"))
    return State(
        images=dict(_images(spec)),
        replicas=replicas if isinstance(replicas, int) else None,
        ready=_text(condition, "status") or None,
        why=_text(condition, "reason"),
        cause=_text(_inside(obj, "metadata", "annotations"), _CAUSE),
    )


def changes(before: State, after: State) -> list[str]:
    """What people can see of the way from one state to the other: `replicas 3 → 5`."""
    found = list(_image_changes(before.images, after.images))
    if before.replicas != after.replicas:
        found.append(f"replicas {_shown(before.replicas)} → {_shown(after.replicas)}")
    if before.ready != after.ready:
        found.append(f"ready {_shown(before.ready)} → {_shown(after.ready)}{_because(after)}")
    if found and after.cause and after.cause != before.cause:
        found.append(f"cause: {after.cause}")
    return found


def facts(state: State) -> list[str]:
    """The state by itself, where nothing is known of the one before: `image web:1.5`."""
    found = [
        f"image {image}" if len(state.images) == 1 else f"image of {container} {image}"
        for container, image in state.images.items()
    ]
    if state.replicas is not None:
        found.append(f"replicas {state.replicas}")
    if state.ready is not None:
        found.append(f"ready {_shown(state.ready)}{_because(state)}")
    return found


def _image_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    alone = len(before) == len(after) == 1
    for container, image in after.items():
        old = before.get(container)
        if old is None:
            yield f"container {container} added, image {image}"
        elif old != image:
            name = "image" if alone else f"image of {container}"
            yield f"{name} {' → '.join(_told_apart(old, image))}"
    for container in before:
        if container not in after:
            yield f"container {container} removed"


def _told_apart(old: str, new: str) -> tuple[str, str]:
    """Only the tags, where these are all that differs."""
    (old_name, old_tag), (new_name, new_tag) = _split(old), _split(new)
    if old_name == new_name and old_tag and new_tag:
        return old_tag, new_tag
    return old, new


def _split(image: str) -> tuple[str, str]:
    """`host:5000/shop/web:1.4` -> name and tag; a digest belongs to the tag."""
    path, _, last = image.rpartition("/")
    for separator in (":", "@"):
        name, found, tag = last.partition(separator)
        if found and "@" not in name:
            return f"{path}/{name}" if path else name, tag
    return image, ""


def _images(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    pods = [spec, *(_inside(spec, *path, "spec") for path in _TEMPLATES)]
    for pod in pods:
        for member in _CONTAINERS:
            for container in _entries(pod, member):
                name, image = _text(container, "name"), _text(container, "image")
                if name and image:
                    yield name, image


def _readiness(status: Mapping[str, Any]) -> Mapping[str, Any]:
    known = {_text(each, "type"): each for each in _entries(status, "conditions")}
    return next((known[name] for name in _READINESS if name in known), {})


def _because(state: State) -> str:
    return f" ({state.why})" if state.why and state.ready != "True" else ""


def _shown(value: str | int | None) -> str:
    return {"True": "yes", "False": "no", "Unknown": "unknown", "None": "none"}.get(str(value), str(value))


def _inside(value: object, *path: str) -> Mapping[str, Any]:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _entries(table: Mapping[str, Any], member: str) -> Iterator[Mapping[str, Any]]:
    values = table.get(member)
    yield from (each for each in values if isinstance(each, Mapping)) if isinstance(values, list) else ()


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name)
    return value if isinstance(value, str) else ""
