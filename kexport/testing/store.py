"""The fake cluster's etcd: one counter for every write, and each version of each object until compaction.

Revisions are plain integers here, because they are etcd's own; only clients have to treat them as opaque
text. Objects in the store are never changed in place: a write replaces the dictionary.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import msgspec

from kexport.testing.kinds import Resource

Object = dict[str, Any]

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class Entry:
    """One object as it was from one revision on; its JSON is made once and shared by all readers."""

    def __init__(self, key: str, obj: Object, revision: int) -> None:
        self.key = key
        self.object = obj
        self.revision = revision
        self._bodies: dict[tuple[str, bool], bytes] = {}

    def body(self, resource: Resource, *, metadata_only: bool = False) -> bytes:
        form = (resource.api_version, metadata_only)
        if (body := self._bodies.get(form)) is None:
            body = self._bodies[form] = self._make_body(resource, metadata_only=metadata_only)
        return body

    def item(self, resource: Resource, *, metadata_only: bool = False) -> bytes:
        """Encode it as an item of a list, where only custom resources repeat kind and apiVersion."""
        body = self.body(resource, metadata_only=metadata_only)
        if metadata_only or resource.custom:
            return body
        return b"{" + body[len(_type_prefix(resource)) :]

    def at(self, revision: int) -> "Entry":
        """Return the same content under another resourceVersion, as DELETED carries it."""
        obj = {**self.object, "metadata": {**self.object["metadata"], "resourceVersion": str(revision)}}
        return Entry(self.key, obj, revision)

    def _make_body(self, resource: Resource, *, metadata_only: bool) -> bytes:
        if metadata_only:
            head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
            return _encode(head | {"metadata": _metadata(self.object, resource)})
        obj = self.object | {"metadata": _metadata(self.object, resource)}
        if resource.custom:  # Go writes maps, and custom objects are maps, with their keys sorted
            return _encode_sorted(obj | {"apiVersion": resource.api_version})
        rest = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
        return _type_prefix(resource) + _encode(rest)[1:]


def _metadata(obj: Object, resource: Resource) -> Object:
    if resource.versioned:
        return dict(obj["metadata"])
    return {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}


def _type_prefix(resource: Resource) -> bytes:
    return f'{{"kind":"{resource.kind}","apiVersion":"{resource.api_version}",'.encode()


class Change:
    """One write: what is there now (None: deleted) and what was there before."""

    def __init__(self, resource: str, revision: int, entry: Entry | None, previous: Entry | None) -> None:
        self.resource = resource
        self.revision = revision
        self.entry = entry
        self.previous = previous

    @cached_property
    def departed(self) -> Entry:
        """What DELETED carries: the last content, with the revision that took it away."""
        assert self.previous is not None
        return self.previous.at(self.revision)


class _Versions:
    """All versions of one key, oldest first; None marks a deletion."""

    def __init__(self) -> None:
        self.revisions: list[int] = []
        self.entries: list[Entry | None] = []

    def at(self, revision: int) -> Entry | None:
        index = bisect_right(self.revisions, revision) - 1
        return self.entries[index] if index >= 0 else None

    def add(self, revision: int, entry: Entry | None) -> None:
        self.revisions.append(revision)
        self.entries.append(entry)

    def forget_before(self, revision: int) -> None:
        index = bisect_right(self.revisions, revision) - 1
        if index >= 0 and self.entries[index] is None:
            index += 1
        del self.revisions[: max(index, 0)], self.entries[: max(index, 0)]

    def forget_after(self, revision: int) -> None:
        index = bisect_right(self.revisions, revision)
        del self.revisions[index:], self.entries[index:]


class Store:
    def __init__(self, revision: int, on_step: Callable[[tuple[Change, ...]], None]) -> None:
        self.revision = revision
        self.compacted = 0
        self._on_step = on_step
        self._versions: dict[str, dict[str, _Versions]] = {}
        self._keys: dict[str, list[str]] = {}
        self._changes: list[Change] = []

    def latest(self, resource: Resource, key: str) -> Entry | None:
        return self.read(resource, key, self.revision)

    def read(self, resource: Resource, key: str, revision: int) -> Entry | None:
        versions = self._versions.get(resource.name, {}).get(key)
        return versions.at(revision) if versions else None

    def scan(
        self, resource: Resource, *, prefix: str = "", after: str = "", revision: int = 0
    ) -> Iterator[Entry]:
        """Yield what was there at a revision (0: now) in the order of the keys, beginning behind a key."""
        keys, versions = self._keys.get(resource.name, []), self._versions.get(resource.name, {})
        start = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
        for index in range(start, len(keys)):
            if not keys[index].startswith(prefix):
                return
            if entry := versions[keys[index]].at(revision or self.revision):
                yield entry

    def changes_after(self, revision: int, resource: str) -> list[Change]:
        start = bisect_right(self._changes, revision, key=lambda change: change.revision)
        return [change for change in self._changes[start:] if change.resource == resource]

    def put(self, resource: Resource, key: str, obj: Object) -> Entry:
        """Write a new version; the object is the store's from here on."""
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        entry = Entry(key, obj, self.revision)
        self._on_step((self._record(resource, key, entry),))
        return entry

    def remove(self, resource: Resource, key: str) -> Entry:
        (change,) = self.remove_together([(resource, key)])
        return change.departed

    def remove_together(self, keys: Iterable[tuple[Resource, str]]) -> tuple[Change, ...]:
        """Delete several objects in one transaction, at one revision for all."""
        self.revision += 1
        changes = tuple(self._record(resource, key, None) for resource, key in keys)
        self._on_step(changes)
        return changes

    def bump(self, by: int = 1) -> int:
        """Let the revision grow, as writes outside of what anybody watches do."""
        self.revision += by
        self._on_step(())
        return self.revision

    def compact(self, revision: int) -> None:
        """Forget what was overwritten before the revision; it stays readable itself, as etcd's does."""
        self.compacted = max(self.compacted, min(revision, self.revision))
        for resource, versions in self._versions.items():
            for history in versions.values():
                history.forget_before(self.compacted)
            self._drop_empty(resource)
        self._changes = [change for change in self._changes if change.revision >= self.compacted]

    def rollback(self, revision: int, *, bump: int = 0) -> None:
        """Become what was there at an older revision, as after a restore: the counter goes back.

        `bump` is etcd's cure: the counter goes on so far beyond it, and all before counts as compacted.
        """
        if revision < self.compacted:
            raise ValueError(
                f"revision {revision} was compacted, and no backup has it: name one from {self.compacted} on"
            )
        self.revision = revision
        for resource, versions in self._versions.items():
            for history in versions.values():
                history.forget_after(revision)
            self._drop_empty(resource)
        self._changes = [change for change in self._changes if change.revision <= revision]
        if bump:
            self.revision += bump
            self.compact(self.revision)

    def wipe(self, revision: int) -> None:
        """Become the empty store of another cluster."""
        self.revision, self.compacted = revision, 0
        self._versions, self._keys, self._changes = {}, {}, []

    def _record(self, resource: Resource, key: str, entry: Entry | None) -> Change:
        versions = self._versions.setdefault(resource.name, {})
        if key not in versions:
            versions[key] = _Versions()
            insort(self._keys.setdefault(resource.name, []), key)
        change = Change(resource.name, self.revision, entry, versions[key].at(self.revision))
        versions[key].add(self.revision, entry)
        self._changes.append(change)
        return change

    def _drop_empty(self, resource: str) -> None:
        kept = {key: history for key, history in self._versions[resource].items() if history.revisions}
        self._versions[resource] = kept
        self._keys[resource] = sorted(kept)
