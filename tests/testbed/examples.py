"""An event of every type, as the encoder makes it: docs/events.md shows them, the schema holds for them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kexport.change import ChangeType, Known, Metadata, Origin, Resource, Stream
from kexport.encoder import Encoder, dropped_events
from kexport.event import Event, splice
from kexport.patch import between

TIME = "2026-11-23T13:52:40.213203Z"
UID = "6f1c2b0e-8f0d-4a6b-9f6e-0c7d3c1f5a11"
DEPLOYMENTS = Resource(group="apps", version="v1", name="deployments", kind="Deployment", namespaced=True)
_SET_BACK = """\
The server's history was set back, as by a restored backup of etcd. What was told up to `from` is void;
everything is told anew, in a new epoch."""


def _object(version: str, image: str) -> bytes:
    metadata = {"name": "web", "namespace": "shop", "uid": UID, "resourceVersion": version}
    spec = {"replicas": 3, "template": {"spec": {"containers": [{"name": "web", "image": image}]}}}
    body = {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": metadata, "spec": spec}
    return msgspec.json.encode(body)


def examples() -> Iterator[tuple[str, Event]]:
    """(what it is, an event) for every type, as the encoder makes it."""
    encoder = Encoder(Stream(resource=DEPLOYMENTS), "prod-eu")
    yield from _of_an_object(encoder)
    yield from _of_a_stream(encoder)


def _of_an_object(encoder: Encoder) -> Iterator[tuple[str, Event]]:
    narrow = Encoder(Stream(resource=DEPLOYMENTS, label_selector="tier=web"), "prod-eu")

    def change(kind: ChangeType, version: str, origin: Origin, image: str = "shop/web:1.5") -> Event:
        told = Metadata(name="web", namespace="shop", uid=UID, resourceVersion=version)
        return encoder.change(kind, told, _object(version, image), origin=origin, time=TIME)

    yield (
        "It is there, or came. Of the first listing `origin` is `snapshot`.",
        change(ChangeType.ADDED, "48190", Origin.SNAPSHOT, "shop/web:1.4"),
    )
    yield (
        "It is other than before; `data.object` is how it is now.",
        change(ChangeType.MODIFIED, "48213", Origin.WATCH),
    )
    yield "The same with `diff = true` ([diffs.md](diffs.md)).", _with_diff(encoder)
    yield "It is gone; `data.object` is its last state.", change(ChangeType.DELETED, "48377", Origin.WATCH)
    yield (
        "The same, found by comparing: `data.object` is what the index knows, the version is the listing's.",
        encoder.vanished(
            "shop/web", Known(UID, "48213"), change=ChangeType.DELETED, version="51000", time=TIME
        ),
    )
    yield (
        "It no longer matches the selector, or was deleted: the API server says the same of both.",
        narrow.change(
            ChangeType.LEFT,
            Metadata(name="web", namespace="shop", uid=UID, resourceVersion="48400"),
            _object("48400", "shop/web:1.5"),
            origin=Origin.WATCH,
            time=TIME,
        ),
    )


def _of_a_stream(encoder: Encoder) -> Iterator[tuple[str, Event]]:
    counts = {"added": 0, "modified": 0, "deleted": 0, "recovered": 17, "scanned": True}
    yield (
        "Nobody watched between two versions. Here everything was read back, and nothing is missing.",
        encoder.gap("48213", "51000", reason="expired", complete=True, **counts),
    )
    yield (
        "One sink lost stored events: its journal overran, or was damaged. Only that sink gets it.",
        dropped_events("prod-eu", "audit", reason="journal-full", dropped=1200, until=88_412),
    )
    yield (
        "A listing is over: all that exists has been said.",
        encoder.synced("48200", origin=Origin.SNAPSHOT, objects=42),
    )
    counts = {"added": 3, "modified": 1, "deleted": 0, "recovered": 0, "scanned": True}
    encoder.enter(1)
    set_back = encoder.rollback("51000", "49000", reason="rollback", complete=False, **counts)
    yield _SET_BACK, set_back
    encoder.enter(0)
    yield "From here on objects come in another API version.", encoder.schema("apps/v1beta2", "48500")


def _with_diff(encoder: Encoder) -> Event:
    """As the trail attaches it."""
    before, after = _object("48190", "shop/web:1.4"), _object("48213", "shop/web:1.5")
    told = Metadata(name="web", namespace="shop", uid=UID, resourceVersion="48213")
    plain = encoder.change(ChangeType.MODIFIED, told, after, origin=Origin.WATCH, time=TIME)
    attributes = msgspec.structs.replace(
        plain.attributes, manager="kubectl-set", managertime="2026-11-23T13:52:40Z"
    )
    patch = msgspec.json.encode([each.document for each in between(before, after)])
    return splice(attributes, b'{"object":%b,"previous":%b,"patch":%b}' % (after, before, patch))
