"""What the controllers of a cluster do, without which namespaces and custom resources would not behave.

The namespace controller empties a namespace that is being deleted; the definition controllers serve, cut
off and clean up custom resources. All of it happens at once here, as changes of their own in the usual
order.
"""

from typing import Any

from kexport.testing import stamp
from kexport.testing.kinds import CRDS, NAMESPACES, PODS, Resource, custom_resources
from kexport.testing.registry import Registry
from kexport.testing.store import Change, Entry
from kexport.testing.watchcache import Ending

Object = dict[str, Any]


class Controllers:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store
        registry.controllers.append(self.react)

    def react(self, change: Change) -> None:
        if change.resource == NAMESPACES.name:
            if change.entry and _terminating(change.entry):
                self._empty_namespace(change.entry.key)
        elif change.resource == CRDS.name:
            self._follow_definition(change)
        elif change.entry is None and change.previous is not None:
            self._finish_namespace(change.previous.object["metadata"].get("namespace", ""))
            self._finish_definition(change.resource)

    def resume(self) -> None:
        """Serve what the definitions in the store say, after the store has become another one."""
        for resource in self._registry:
            if resource.custom:  # the real server would have been restarted, and end its watches so
                self._registry.withdraw(resource)
        for entry in self._store.scan(CRDS):
            self._serve(entry.object)

    def retry(self) -> None:
        """Finish what had to wait until all of the API could be discovered."""
        for entry in list(self._store.scan(NAMESPACES)):
            self._finish_namespace(entry.key)

    def _empty_namespace(self, namespace: str) -> None:
        for resource in _one_version_each(self._registry):
            if not resource.namespaced:
                continue
            for entry in list(self._store.scan(resource, prefix=resource.prefix(namespace))):
                self._delete(resource, entry)
        self._finish_namespace(namespace)

    def _finish_namespace(self, namespace: str) -> None:
        found = self._store.latest(NAMESPACES, namespace) if namespace else None
        if found is None or not _terminating(found) or self._registry.unavailable:
            return
        namespaced = (resource for resource in self._registry if resource.namespaced)
        if not any(
            any(self._store.scan(resource, prefix=resource.prefix(namespace))) for resource in namespaced
        ):
            self._store.remove(NAMESPACES, namespace)

    def _follow_definition(self, change: Change) -> None:
        if change.entry is None:
            assert change.previous is not None
            for resource in custom_resources(change.previous.object):
                self._registry.withdraw(resource)
        elif change.previous is None:
            self._serve(change.entry.object)
            self._establish(change.entry)
        elif _terminating(change.entry):
            if not _terminating(change.previous):
                self._announce_end(change.entry)
                self._remove_instances(change.entry.key)
        elif change.entry.object["spec"] != change.previous.object["spec"]:
            self._serve_anew(change.previous.object, change.entry.object)

    def _serve(self, definition: Object) -> None:
        for resource in custom_resources(definition):
            self._registry.serve(resource)

    def _serve_anew(self, before: Object, after: Object) -> None:
        """Take over a changed spec: every change of it ends all watches and empties the cache."""
        served = list(custom_resources(after))
        for resource in served:
            self._registry.serve(resource)
        kept = {resource.version for resource in served}
        for resource in custom_resources(before):
            if resource.version not in kept:
                self._registry.withdraw(resource)
        for name in {resource.name for resource in served}:
            self._registry.begin_anew(name, Ending.DRAINED)

    def _establish(self, entry: Entry) -> None:
        """Write what the naming and establishing controllers write: names and conditions."""
        spec = entry.object["spec"]
        conditions = [
            stamp.condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            stamp.condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ]
        stored = [version["name"] for version in spec["versions"] if version.get("storage")]
        status = {"conditions": conditions, "acceptedNames": spec["names"], "storedVersions": stored}
        metadata = dict(entry.object["metadata"])
        self._store.put(CRDS, entry.key, entry.object | {"metadata": metadata, "status": status})

    def _announce_end(self, entry: Entry) -> None:
        message = "CustomResource deletion is in progress"
        status = stamp.ending(entry.object, "InstanceDeletionInProgress", message)
        metadata = dict(entry.object["metadata"])
        self._store.put(CRDS, entry.key, entry.object | {"metadata": metadata, "status": status})

    def _remove_instances(self, definition: str) -> None:
        for resource in _one_version_each(self._registry):
            if resource.name == definition:
                for entry in list(self._store.scan(resource)):
                    self._delete(resource, entry)
        self._finish_definition(definition)

    def _finish_definition(self, name: str) -> None:
        found = self._store.latest(CRDS, name)
        if found is None or not _terminating(found):
            return
        served = (resource for resource in self._registry if resource.name == name)
        if not any(any(self._store.scan(resource)) for resource in served):
            self._store.remove(CRDS, name)

    def _delete(self, resource: Resource, entry: Entry) -> None:
        metadata = entry.object["metadata"]
        options = {"gracePeriodSeconds": 0} if resource is PODS else {}
        self._registry.delete(resource, metadata.get("namespace", ""), metadata["name"], options)


def _terminating(entry: Entry) -> bool:
    return "deletionTimestamp" in entry.object["metadata"]


def _one_version_each(registry: Registry) -> list[Resource]:
    return list({resource.name: resource for resource in registry}.values())
