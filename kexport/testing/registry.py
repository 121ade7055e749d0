"""The write side of the fake API server: which resources exist, and what each verb does to the store.

HTTP requests and the Python surface of `FakeCluster` both end here, so an object made by a test and one
made by a client can't differ. What the controllers of a real cluster do with namespaces and definitions is
in `lifecycle`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from kexport.testing import admission, stamp
from kexport.testing.clock import Clock
from kexport.testing.failure import ApiFailure, already_exists, bad_request, forbidden, not_found
from kexport.testing.kinds import BUILT_IN, CRDS, NAMESPACES, PODS, Resource
from kexport.testing.replica import Replica
from kexport.testing.settings import Settings
from kexport.testing.store import Change, Entry, Store
from kexport.testing.watchcache import Ending

Object = dict[str, Any]

_GRACE_SECONDS = 30
_CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


class Registry:
    def __init__(self, settings: Settings) -> None:
        self._resources: dict[tuple[str, str, str], Resource] = {}
        self.clock = Clock()
        self.store = Store(settings.first_revision, self._spread)
        self.replicas = [Replica(self.store, settings, self.clock) for _ in range(settings.replicas)]
        self.unavailable: set[str] = set()
        """Groups whose own API server, behind the aggregation layer, does not answer."""
        self.controllers: list[Callable[[Change], None]] = []
        """What reacts to changes as the control plane does, after the watches have them."""
        for resource in BUILT_IN:
            self.serve(resource)

    def __iter__(self) -> Iterator[Resource]:
        return iter(tuple(self._resources.values()))

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._resources.get((group, version, plural))

    def named(self, name: str) -> Resource:
        """Return the resource of a name like `pods` or `deployments.apps`."""
        for resource in self:
            if name in (resource.name, f"{resource.plural}.{resource.group}"):
                return resource
        raise bad_request(
            f'no resource "{name}" is served; the name of a group belongs to it: "deployments.apps"'
        )

    def of(self, obj: Object) -> Resource:
        for resource in self:
            if (resource.api_version, resource.kind) == (obj.get("apiVersion"), obj.get("kind")):
                return resource
        raise bad_request(
            f"no resource serves kind {obj.get('kind')!r} of apiVersion {obj.get('apiVersion')!r}"
        )

    def serve(self, resource: Resource) -> None:
        self._resources[resource.group, resource.version, resource.plural] = resource
        for replica in self.replicas:
            replica.serve(resource)

    def withdraw(self, resource: Resource) -> None:
        """Stop serving one version of a resource; with the last one its watches end."""
        self._resources.pop((resource.group, resource.version, resource.plural), None)
        if not any(other.name == resource.name for other in self):
            for replica in self.replicas:
                replica.withdraw(resource.name)

    def begin_anew(self, resource: str = "", ending: Ending = Ending.CLEAN) -> None:
        for replica in self.replicas:
            replica.begin_anew(resource, ending)

    def get(self, resource: Resource, namespace: str, name: str) -> Entry:
        entry = self.store.latest(resource, resource.key(namespace, name))
        if entry is None:
            raise not_found(resource, name)
        return entry

    def create(
        self, resource: Resource, namespace: str, obj: Object, *, manager: str, whole: bool = False
    ) -> Entry:
        """Store a new object; `whole`: its status too, which clients can't set here."""
        obj = _copied(obj)
        admission.check_target(resource, obj, namespace=namespace)
        self._check_namespace(resource, namespace, obj["metadata"].get("name") or "")
        name = admission.name_it(resource, obj)
        if self.store.latest(resource, resource.key(namespace, name)):
            raise already_exists(resource, name)
        if not whole:
            admission.validate(resource, obj)
            admission.drop_status(resource, obj)
        stamp.born(resource, obj, namespace=namespace)
        admission.fill_in(resource, obj)
        return self._write(resource, obj, [], manager=manager)

    def update(
        self,
        resource: Resource,
        namespace: str,
        obj: Object,
        *,
        name: str,
        manager: str,
        subresource: str = "",
        whole: bool = False,
    ) -> Entry:
        old = self.get(resource, namespace, name)
        obj = _copied(obj)
        admission.check_target(resource, obj, namespace=namespace, name=name)
        admission.check_versions(resource, obj, old.object)
        obj["metadata"]["name"] = name
        if subresource == "status":
            obj = old.object | {"status": obj.get("status"), "metadata": obj["metadata"]}
        elif not whole:
            admission.drop_status(resource, obj, old.object)
        admission.fold_strings(resource, obj)
        admission.complete_names(resource, obj)
        return self._replace(resource, obj, old, manager=manager, subresource=subresource)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        patch: Object,
        *,
        name: str,
        manager: str,
        subresource: str = "",
        whole: bool = False,
    ) -> Entry:
        obj = admission.merged(self.get(resource, namespace, name).object, patch)
        return self.update(
            resource, namespace, obj, name=name, manager=manager, subresource=subresource, whole=whole
        )

    def delete(self, resource: Resource, namespace: str, name: str, options: Object) -> tuple[Entry, bool]:
        """Delete, or begin to: an object with finalizers, and a pod on a node, stay until they are let go."""
        old = self.get(resource, namespace, name)
        admission.check_preconditions(resource, old.object, options)
        grace = _grace_seconds(resource, old.object, options)
        held = old.object["metadata"].get("finalizers") or resource in (NAMESPACES, CRDS)
        if held or grace is not None:
            old = self._mark_deleted(resource, old, grace)
            if held or grace:
                return old, False
        return self.store.remove(resource, old.key), True

    def expire(self, objects: list[tuple[Resource, str]]) -> None:
        """Delete what etcd deletes when a lease ends: in one transaction, at one revision for all."""
        for resource, key in objects:
            if self.store.latest(resource, key) is None:
                raise not_found(resource, key.rpartition("/")[2])
        self.store.remove_together(objects)

    def touch(self, resource: Resource) -> None:
        """Write each object again as it is: nothing changes but its resourceVersion."""
        for entry in list(self.store.scan(resource)):
            self.store.put(resource, entry.key, _copied(entry.object))

    def _mark_deleted(self, resource: Resource, old: Entry, grace: int | None) -> Entry:
        metadata = old.object["metadata"]
        if metadata.get("deletionTimestamp") and metadata.get("deletionGracePeriodSeconds", 0) <= (
            grace or 0
        ):
            return old
        marks: Object = {"deletionTimestamp": stamp.now(grace or 0)}
        if resource is CRDS:
            marks["finalizers"] = [_CRD_FINALIZER]
        elif resource is not NAMESPACES:
            marks["deletionGracePeriodSeconds"] = grace or 0
            if "generation" in metadata and not metadata.get("deletionTimestamp"):
                marks["generation"] = metadata["generation"] + 1
        obj = old.object | {"metadata": metadata | marks}
        if resource is NAMESPACES:
            obj["status"] = {"phase": "Terminating"}
        elif resource is CRDS:
            message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
            obj["status"] = stamp.ending(obj, "InstanceDeletionPending", message)
        return self.store.put(resource, old.key, stamp.laid_out(resource, obj))

    def _replace(
        self, resource: Resource, obj: Object, old: Entry, *, manager: str, subresource: str = ""
    ) -> Entry:
        stamp.inherit(resource, obj, old.object)
        managed = obj["metadata"].pop("managedFields", None) or old.object["metadata"].get(
            "managedFields", []
        )
        obj["metadata"]["managedFields"] = managed
        obj = stamp.laid_out(resource, obj)
        if stamp.same(obj, old.object):
            return old
        if _let_go(resource, obj["metadata"]):
            # Letting go of the last finalizer is the deletion: DELETED carries the object as it was before.
            self.store.remove(resource, old.key)
            return Entry(old.key, obj, old.revision)
        return self._write(resource, obj, managed, manager=manager, subresource=subresource)

    def _write(
        self, resource: Resource, obj: Object, managed: list[Object], *, manager: str, subresource: str = ""
    ) -> Entry:
        metadata = obj["metadata"]
        metadata["managedFields"] = stamp.managed(
            resource, obj, managed, manager=manager, subresource=subresource
        )
        metadata["resourceVersion"] = "set by the store"  # holds the place in the usual order
        key = resource.key(metadata.get("namespace", ""), metadata["name"])
        return self.store.put(resource, key, stamp.laid_out(resource, obj))

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        found = self.get(NAMESPACES, "", namespace)
        if found.object["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(resource, name, why)

    def _spread(self, changes: tuple[Change, ...]) -> None:
        for replica in self.replicas:
            replica.learn(changes)
        for change in changes:
            for react in self.controllers:
                react(change)


def _copied(obj: Any) -> Object:
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata", {}), dict):
        raise ApiFailure(400, "the object provided is unrecognized: it must be an object with metadata")
    copy: Object = msgspec.json.decode(msgspec.json.encode(obj))
    copy["metadata"] = copy.get("metadata") or {}
    return copy


def _let_go(resource: Resource, metadata: Object) -> bool:
    held = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds") or resource is NAMESPACES
    return bool(metadata.get("deletionTimestamp")) and not held


def _on_a_node(resource: Resource, obj: Object) -> bool:
    running = obj.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    return resource is PODS and bool(obj.get("spec", {}).get("nodeName")) and running


def _grace_seconds(resource: Resource, obj: Object, options: Object) -> int | None:
    """Return how long a pod is given to end; None for what knows no grace."""
    if resource is not PODS:
        return None
    if not _on_a_node(resource, obj):
        return 0
    spec: Object = obj.get("spec", {})
    given = options.get("gracePeriodSeconds")
    return int(spec.get("terminationGracePeriodSeconds", _GRACE_SECONDS) if given is None else given)
