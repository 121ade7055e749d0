"""What happens to real clusters, as methods of `FakeCluster`: outages, restores, lag, half-open connections.

Where a docstring says "seen", the real API server 1.37 was watched doing so.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kexport.testing.apiserver import ApiServer
from kexport.testing.faults import Fault, Refusal
from kexport.testing.kinds import Resource
from kexport.testing.lifecycle import Controllers
from kexport.testing.listener import Listener
from kexport.testing.registry import Registry
from kexport.testing.replica import Replica
from kexport.testing.settings import Settings
from kexport.testing.watchcache import Ending

Object = dict[str, Any]
_SYSTEM_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


@dataclass(kw_only=True, eq=False)
class Misfortune(Settings):
    _registry: Registry = field(init=False, repr=False)
    _server: ApiServer = field(init=False, repr=False)
    _listener: Listener = field(init=False, repr=False)
    _controllers: Controllers = field(init=False, repr=False)

    # Time.

    def bookmark(self) -> None:
        """Send a bookmark now to every watch that asked for bookmarks."""
        for replica in self._registry.replicas:
            replica.bookmark()

    def heartbeat(self, revisions: int = 1) -> int:
        """Let the revision grow as leases do, unseen by any watch, and return it."""
        return self._registry.store.bump(revisions)

    def elapse(self, seconds: float) -> None:
        """Let time pass at once: bookmarks fall due, watches reach their `timeoutSeconds`, history ages."""
        self._registry.clock.elapse(seconds)
        for replica in self._registry.replicas:
            replica.follow()
            for cache in replica.caches.values():
                cache.wake()

    # Etcd.

    def compact(self, revision: int | None = None) -> None:
        """Let etcd forget what was overwritten before a revision (None: before now).

        A replica that lags behind it loses its place, and fills its caches anew.
        """
        store = self._registry.store
        store.compact(store.revision if revision is None else revision)
        for replica in self._registry.replicas:
            if replica.revision < store.compacted:
                replica.begin_anew()

    def expire(self, objects: Iterable[Object]) -> None:
        """Delete objects as etcd does when their common lease ends: all at one resourceVersion."""
        found = []
        for obj in objects:
            resource, metadata = self._registry.of(obj), obj["metadata"]
            found.append((resource, resource.key(metadata.get("namespace", ""), metadata["name"])))
        self._registry.expire(found)

    def touch(self, resource: str) -> None:
        """Write every object of a resource again as it is, as a storage migration does: new versions only."""
        self._registry.touch(self._registry.named(resource))

    def rollback(self, revision: int, *, bump_revisions: int = 0) -> None:
        """Restore etcd to an older revision, as from a backup; the API servers start anew on it.

        New writes use the same resourceVersions again, for other content. `bump_revisions` is
        `--bump-revision` with `--mark-compacted`: the counter goes on beyond, and older versions get a 410.
        """
        self._registry.store.rollback(revision, bump=bump_revisions)
        self._controllers.resume()
        self.forget()

    async def replace(self, *, first_revision: int | None = None) -> None:
        """Put another cluster behind the address: other uids, objects, revisions; connections drop."""
        await self.stop_listening()
        store = self._registry.store
        store.wipe(self.first_revision if first_revision is None else first_revision)
        self._controllers.resume()
        self.forget()
        self._found()
        await self.listen()

    # API servers.

    def forget(self, replica: int | None = None) -> None:
        """Empty all watch caches and end their watches: older versions get a 410 from now on."""
        for each in self._chosen(replica):
            each.begin_anew()

    async def restart(self, replica: int | None = None) -> None:
        """Restart: connections drop, and caches begin anew at a revision that has meanwhile grown.

        With a number, only that replica restarts; its clients' next connections go to the others in turn.
        """
        if replica is None:
            await self.stop_listening()
        else:
            self._server.balancer.drop(self._registry.replicas[replica])
        self._registry.store.bump(self.restart_revisions)
        self.forget(replica)
        if replica is None:
            await self.listen()

    def lag(self, replica: int, *, revisions: float = 0, seconds: float = 0.0) -> None:
        """Let a replica's watch caches stay behind etcd from now on, with `math.inf` for good; 0 ends it.

        Its watches stand still, its lists show the older state; NotOlderThan and Exact beyond it are a 504,
        a consistent list waits and then reads etcd. What has no watch cache (`events`) never lags.
        """
        self._registry.replicas[replica].lag(revisions=revisions, seconds=seconds)

    def steer(self, replica: int | None) -> None:
        """Send new connections to one replica; None: to each in turn."""
        self._server.balancer.steered = None if replica is None else self._registry.replicas[replica]

    @contextmanager
    def initializing(self, replica: int | None = None) -> Iterator[None]:
        """Keep the watch caches unfilled within the block: 429 "storage is (re)initializing".

        So the real server answers after a restart or a changed definition (seen), but for lists with a limit
        and no selector, which etcd answers.
        """
        chosen = self._chosen(replica)
        for each in chosen:
            each.initialize(done=False)
        try:
            yield
        finally:
            for each in chosen:
                each.initialize(done=True)

    async def stop_listening(self) -> None:
        """Begin an outage: connections drop, new ones are refused; the watch caches keep their history."""
        self._end_watches(Ending.ABORT)
        await self._listener.stop()

    async def listen(self) -> None:
        self.port = await self._listener.start(self.port)

    # Resources.

    def serve(
        self,
        api_version: str,
        plural: str,
        kind: str,
        *,
        namespaced: bool = True,
        verbs: Sequence[str] = ("get", "list"),
        versioned: bool = False,
    ) -> None:
        """Serve an aggregated API: by default without watch and without resourceVersions, as metrics are."""
        group, version = api_version.split("/")
        self._registry.serve(
            Resource(
                group=group,
                version=version,
                plural=plural,
                kind=kind,
                singular=kind.lower(),
                namespaced=namespaced,
                verbs=tuple(verbs),
                aggregated=True,
                versioned=versioned,
            )
        )

    @contextmanager
    def unavailable(self, group: str) -> Iterator[None]:
        """Let an aggregated API's own server be down: 503 in plain text, and stale in discovery (seen).

        While it lasts deleted namespaces are emptied but stay: who can't discover all can't clean up (seen).
        """
        self._registry.unavailable.add(group)
        try:
            yield
        finally:
            self._registry.unavailable.discard(group)
            self._controllers.retry()

    # Connections and answers.

    def hang_up(self) -> None:
        """End every watch cleanly, as servers and load balancers do at any time."""
        self._end_watches(Ending.CLEAN)

    def cut_mid_line(self, *, clean: bool = False) -> None:
        """Break every watch in the middle of a line; `clean`: with a proper end of the body even so."""
        self._end_watches(Ending.MID_LINE_CLEAN if clean else Ending.MID_LINE)

    @contextmanager
    def stall(self, path_contains: str = "") -> Iterator[None]:
        """Keep connections open and silent within the block: no byte is sent, requests get no answer.

        With a text only those whose path or query has it, such as one watch of several.
        """
        flow = self._server.faults.stall(path_contains)
        try:
            yield
        finally:
            flow()

    def fail(
        self,
        status: int,
        *,
        times: int = 1,
        verb: str = "",
        path_contains: str = "",
        retry_after: int | None = None,
        in_stream: bool = False,
    ) -> None:
        """Answer the next requests (those with a verb, and a text in path or query) with an error instead.

        `in_stream`: as an ERROR line in a body of status 200, as a watch gets most errors.
        """
        refusal = Refusal(status=status, retry_after=retry_after, in_stream=in_stream)
        self.script(refusal, times=times, verb=verb, path_contains=path_contains)

    def script(self, fault: Fault, *, times: int = 1, verb: str = "", path_contains: str = "") -> None:
        """Play a fault of `kexport.testing.faults` for the next requests that fit; orders are kept in line.

        Verbs are Kubernetes': get, list, watch, create, update, patch, delete, deletecollection.
        """
        self._server.faults.plan(fault, verb=verb, path_contains=path_contains, times=times)

    def _chosen(self, replica: int | None) -> list[Replica]:
        replicas = self._registry.replicas
        return list(replicas) if replica is None else [replicas[replica]]

    def _end_watches(self, ending: Ending) -> None:
        for replica in self._registry.replicas:
            replica.end(ending)

    def _found(self) -> None:
        """Make what every cluster has from its first moment on."""
        namespaces = self._registry.named("namespaces")
        for name in _SYSTEM_NAMESPACES:
            space = {"metadata": {"name": name}}
            self._registry.create(namespaces, "", space, manager="kube-apiserver", whole=True)
