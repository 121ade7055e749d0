"""Change -> CloudEvent for one stream: deterministic ids, the object's bytes spliced in.

The same state gives the same id after any restart or relist (`<uid>/<resourceVersion>`; `<uid>/deleted`,
since a uid dies only once), so a consumer that drops ids it has seen has each change exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from kexport.change import ChangeType, Known, Metadata, Origin, Stream
from kexport.event import GAP, OBJECT, ROLLBACK, SCHEMA, SYNCED, Attributes, Event, splice


def now() -> str:
    """The time of observation, RFC 3339 in UTC with microseconds."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


class Encoder:
    """Makes the events of one stream; `cluster` is the configured name."""

    def __init__(self, stream: Stream, cluster: str) -> None:
        resource = stream.resource
        self._stream = stream
        self._cluster = cluster
        self._resource = resource.full_name
        self._api_version, self._kind = resource.api_version, resource.kind
        self._source = f"/clusters/{cluster}/apis/{resource.group or 'core'}/{resource.name}"
        self._types = {change: OBJECT + change.value for change in ChangeType}
        self.enter(0)

    def enter(self, epoch: int) -> None:
        """From now on versions are of this epoch: an id that was given before must not come again."""
        self._epoch = str(epoch) if epoch else ""
        self._suffix = f"/epoch-{epoch}" if epoch else ""

    def change(
        self, change: ChangeType, metadata: Metadata, data: bytes, *, origin: Origin, time: str
    ) -> Event:
        """The event of one object; `data` is the object's JSON as it is to be sent."""
        version = metadata.resourceVersion
        attributes = Attributes(
            specversion="1.0",
            id=_id(change, metadata) + self._suffix,
            source=self._source,
            type=self._types[change],
            subject=metadata.key,
            time=time,
            datacontenttype="application/json",
            partitionkey=metadata.uid or metadata.key,
            sequence=version.zfill(20),
            origin=origin.value,
            cluster=self._cluster,
            apiversion=self._api_version,
            kind=self._kind,
            resource=self._resource,
            objnamespace=metadata.namespace,
            objname=metadata.name,
            resourceversion=version,
            epoch=self._epoch,
        )
        return splice(attributes, b'{"object":%b}' % data)

    def vanished(self, key: str, known: Known, *, change: ChangeType, version: str, time: str) -> Event:
        """The event of an object that a complete listing at `version` no longer has: what the index knows."""
        namespace, _, name = key.rpartition("/")
        metadata: dict[str, str] = {"name": name, "uid": known.uid, "resourceVersion": known.version}
        if namespace:
            metadata["namespace"] = namespace
        body = {"kind": self._kind, "apiVersion": self._api_version, "metadata": metadata}
        seen = Metadata(name=name, namespace=namespace, uid=known.uid, resourceVersion=version)
        return self.change(change, seen, msgspec.json.encode(body), origin=Origin.RESYNC, time=time)

    def synced(self, version: str, *, origin: Origin, **details: Any) -> Event:
        """Closes a snapshot: everything that exists at `version` has been said."""
        return self._about_stream(SYNCED, f"synced/{version}", version, origin, details)

    def gap(self, since: str, version: str, **details: Any) -> Event:
        """History between two versions could not be read; `details` say why and what was inferred."""
        body = {"from": since, "to": version, **details}
        return self._about_stream(GAP, f"gap/{since}-{version}", version, Origin.RESYNC, body)

    def rollback(self, since: str, version: str, **details: Any) -> Event:
        """The server's history was set back: what came after it, up to `since`, is void."""
        body = {"from": since, "to": version, **details}
        return self._about_stream(ROLLBACK, f"rollback/{since}-{version}", version, Origin.RESYNC, body)

    def schema(self, before: str, version: str) -> Event:
        """From here on objects are in another API version than `before`."""
        body = {"from": before, "to": self._api_version}
        what = f"schema/{before}-{self._api_version}/{version}"
        return self._about_stream(SCHEMA, what, version, Origin.WATCH, body)

    def _about_stream(
        self, kind: str, what: str, version: str, origin: Origin, details: Mapping[str, Any]
    ) -> Event:
        key = self._stream.key
        attributes = Attributes(
            specversion="1.0",
            id=f"{key}/{what}{self._suffix}",
            source=self._source,
            type=kind,
            subject=key,
            time=now(),
            datacontenttype="application/json",
            partitionkey=key,
            sequence=version.zfill(20),
            origin=origin.value,
            cluster=self._cluster,
            apiversion=self._api_version,
            kind=self._kind,
            resource=self._resource,
            resourceversion=version,
            epoch=self._epoch,
        )
        body = {"object": {"stream": key, "resourceVersion": version, **details}}
        return splice(attributes, msgspec.json.encode(body))


def _id(change: ChangeType, metadata: Metadata) -> str:
    uid = metadata.uid or metadata.key  # a few kinds, such as ComponentStatus, have no uid
    if change is ChangeType.DELETED:
        return f"{uid}/deleted"
    if change is ChangeType.LEFT:
        return f"{uid}/{metadata.resourceVersion}/left"
    return f"{uid}/{metadata.resourceVersion}"


def dropped_events(cluster: str, sink: str, *, reason: str, dropped: int, until: int) -> Event:
    """The gap event for one sink: `dropped` events up to position `until` are not to be had any more."""
    attributes = Attributes(
        specversion="1.0",
        id=f"journal/{sink}/dropped/{until}",
        source=f"/clusters/{cluster}/journal",
        type=GAP,
        subject=sink,
        time=now(),
        datacontenttype="application/json",
        partitionkey=sink,
        sequence=f"{until:020d}",
        origin=Origin.RESYNC.value,
        cluster=cluster,
        apiversion="",
        kind="",
        resource="",
    )
    body = {"object": {"reason": reason, "sink": sink, "dropped": dropped, "complete": False}}
    return splice(attributes, msgspec.json.encode(body), position=until)
