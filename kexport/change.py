"""The nouns of the Kubernetes side: resources, streams of them, and one change of one object.

Bytes first: an object is a mapping of its top-level members to their *unparsed* JSON. Only metadata's few
identifying fields are decoded; nobody pays for a spec that nobody asked for.
"""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NewType

import msgspec

ResourceVersion = NewType("ResourceVersion", str)
StreamKey = NewType("StreamKey", str)

RawObject = dict[str, msgspec.Raw]
"""A Kubernetes object: top-level member name -> that member's JSON text."""


class ChangeType(StrEnum):
    """What happened to an object. `LEFT`: it stopped matching the stream's selector, or was deleted."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    LEFT = "left"


GONE = frozenset({ChangeType.DELETED, ChangeType.LEFT})
"""After these an object is not in the index any more."""


class Origin(StrEnum):
    """How a change came to be known (the `origin` attribute, design of the CloudEvent)."""

    WATCH = "watch"
    SNAPSHOT = "snapshot"
    RECOVERED = "recovered"
    RESYNC = "resync"


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One served resource, as `kubectl api-resources` shows it."""

    group: str
    version: str
    name: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...] = ()
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """The plural and its group, as kubectl takes it: `deployments.apps`, `pods`."""
        return f"{self.name}.{self.group}" if self.group else self.name

    @property
    def watchable(self) -> bool:
        return "list" in self.verbs and "watch" in self.verbs

    def path(self, namespace: str | None = None) -> str:
        """The collection's path below the server's address."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.name}" if namespace else f"{root}/{self.name}"


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One list+watch: a resource, everywhere or in one namespace, as narrowed by selectors.

    `only_namespaces` are patterns (`prod-*`) applied here, not by the server, to a cluster-wide stream.
    """

    resource: Resource
    namespace: str | None = None
    only_namespaces: tuple[str, ...] = ()
    label_selector: str = ""
    field_selector: str = ""
    initial: str = "emit"
    deletions: str = "emit"
    diff: str = ""
    unchanged: str = "emit"
    ignore: tuple[str, ...] = ()

    @property
    def key(self) -> StreamKey:
        """The name under which the position is kept; free of the served version (informer.md #18)."""
        scope = self.namespace or ",".join(self.only_namespaces) or "*"
        key = f"{self.resource.full_name}/{scope}"
        if self.label_selector:
            key += f"?labels={self.label_selector}"
        if self.field_selector:
            key += f"?fields={self.field_selector}"
        return StreamKey(key)

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace)

    @property
    def selective(self) -> bool:
        """Whether the server narrows the selection, so that its DELETED may mean "no longer selected"."""
        return bool(self.label_selector or self.field_selector)

    @property
    def gone(self) -> ChangeType:
        """What has become of an object that is missing: with a selector nobody can tell a deletion."""
        return ChangeType.LEFT if self.selective else ChangeType.DELETED

    def wants(self, namespace: str) -> bool:
        """Whether an object of this namespace belongs to the stream (`only_namespaces`)."""
        return not self.only_namespaces or any(
            fnmatchcase(namespace, pattern) for pattern in self.only_namespaces
        )

    @property
    def selectors(self) -> dict[str, str]:
        """The query parameters that every request of the stream carries."""
        query = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {name: value for name, value in query.items() if value}


class Known(msgspec.Struct, frozen=True, gc=False):
    """What the index remembers of an object: enough to tell what happened while nobody watched."""

    uid: str
    version: str


class Metadata(msgspec.Struct, frozen=True, gc=False):
    """The part of ObjectMeta that the engine itself needs."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""  # noqa: N815  (Kubernetes' own spelling)

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` for cluster-scoped objects."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def known(self) -> Known:
        """What the index is to remember of an object in this state."""
        return Known(self.uid, self.resourceVersion)


def is_version(text: str) -> bool:
    """Whether this is a comparable resourceVersion: decimal, no leading zero (KEP-5504)."""
    return text.isdigit() and text.isascii() and text[0] != "0"


def newer(left: str, right: str) -> bool:
    """Whether resourceVersion `left` is later than `right`: by length, then lexically (KEP-5504).

    Both must satisfy `is_version`; what doesn't is never newer, so that nothing is skipped because of it.
    """
    if not (is_version(left) and is_version(right)):
        return False
    return (len(left), left) > (len(right), right)
