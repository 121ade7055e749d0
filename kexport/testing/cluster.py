"""A Kubernetes API server in the process, for tests, plugin authors and the demo.

It speaks real HTTP on loopback and behaves as kube-apiserver 1.37 does, never kinder: the same tests run
against both. What a test does to it in Python (write, restart, cut, roll back) is what happens to real
clusters; the misfortunes are in `misfortune`, made-up answers in `faults`.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from kexport.testing.apiserver import ApiServer, Request
from kexport.testing.kinds import Resource
from kexport.testing.lifecycle import Controllers
from kexport.testing.listener import Listener
from kexport.testing.misfortune import Misfortune
from kexport.testing.registry import Registry

Object = dict[str, Any]

_MANAGER = "kexport-testing"


@dataclass(kw_only=True, eq=False)
class FakeCluster(Misfortune):
    """`async with FakeCluster() as cluster`: an API server that runs until the block ends."""

    _heartbeat: asyncio.TimerHandle | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._registry = Registry(self)
        self._controllers = Controllers(self._registry)
        self._server = ApiServer(self._registry, self)
        self._listener = Listener(self._server.answer)
        self._found()

    async def __aenter__(self) -> Self:
        await self.listen()
        self._beat()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._heartbeat:
            self._heartbeat.cancel()
        await self.stop_listening()
        await self._listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def revision(self) -> int:
        """Where etcd's counter stands."""
        return self._registry.store.revision

    @property
    def requests(self) -> list[Request]:
        """The last requests, oldest first, as pairs of method and path with query."""
        return list(self._server.requests)

    @property
    def watch_count(self) -> int:
        """How many watches are open: what a test waits for before it changes something."""
        return sum(
            len(cache.watchers) for replica in self._registry.replicas for cache in replica.caches.values()
        )

    def kubeconfig(self, directory: Path) -> Path:
        """Write a kubeconfig for this server into a directory, and return its path."""
        name = "fake"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": self.url}}],
            "users": [{"name": name, "user": {"token": self.token} if self.token else {}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        path = directory / "kubeconfig"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return path

    # Writing and reading, straight at the store. Unlike over HTTP, a status is stored as it is given.

    def create(self, obj: Object) -> Object:
        """Create an object, in `default` if it names no namespace, and return it as stored."""
        resource = self._registry.of(obj)
        entry = self._registry.create(resource, _namespace(resource, obj), obj, manager=_MANAGER, whole=True)
        return entry.object

    def update(self, obj: Object) -> Object:
        """Replace an object, also with another status; a resourceVersion in it must be the current one."""
        resource = self._registry.of(obj)
        name = obj["metadata"]["name"]
        namespace = _namespace(resource, obj)
        entry = self._registry.update(resource, namespace, obj, name=name, manager=_MANAGER, whole=True)
        return entry.object

    def patch(self, resource: str, namespace: str, name: str, patch: Object) -> Object:
        """Apply a JSON merge patch: `patch("pods", "default", "web", {"status": {"phase": "Running"}})`."""
        served = self._registry.named(resource)
        entry = self._registry.patch(served, namespace, patch, name=name, manager=_MANAGER, whole=True)
        return entry.object

    def delete(
        self, thing: Object | str, namespace: str = "", name: str = "", *, grace_seconds: int = 0
    ) -> None:
        """Delete an object, given itself or as resource, namespace and name; finalizers hold it as ever."""
        if isinstance(thing, str):
            resource = self._registry.named(thing)
        else:
            resource = self._registry.of(thing)
            namespace, name = _namespace(resource, thing), thing["metadata"]["name"]
        self._registry.delete(resource, namespace, name, {"gracePeriodSeconds": grace_seconds})

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """Return an object; fails with an `ApiFailure` 404 as a request would."""
        return self._registry.get(self._registry.named(resource), namespace, name).object

    def list(self, resource: str, namespace: str = "") -> list[Object]:
        served = self._registry.named(resource)
        return [entry.object for entry in self._registry.store.scan(served, prefix=served.prefix(namespace))]

    # Permissions.

    def deny(self, verb: str, resource: str, *, namespace: str | None = None) -> None:
        """Answer 403 to a verb on a resource (`pods`, `deployments.apps`, `*`) from now on."""
        self._server.access.deny(verb, resource, namespace)

    def allow(self, verb: str = "*", resource: str = "*", *, namespace: str | None = None) -> None:
        """Take denials back."""
        self._server.access.allow(verb, resource, namespace)

    def _beat(self) -> None:
        if self.heartbeat_seconds is not None:
            self.heartbeat()
            self._heartbeat = asyncio.get_running_loop().call_later(self.heartbeat_seconds, self._beat)


def _namespace(resource: Resource, obj: Object) -> str:
    return str(obj["metadata"].get("namespace") or "default") if resource.namespaced else ""
