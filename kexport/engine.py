"""Wires the path together, and knows the order in which it starts and stops.

Start: journal, lanes (what is stored is delivered even while the API server is away), cluster, informers.
Stop: informers, journal flushed, lanes drained for as long as allowed, sinks, journal.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping

from kexport import plan, route, statedir
from kexport.backoff import Backoff
from kexport.cluster import Cluster, Identity, survey
from kexport.config import Config
from kexport.control import Control
from kexport.discovery import Catalogue
from kexport.errors import (
    ApiError,
    ConfigError,
    ConnectionLostError,
    NewClusterError,
    ProtocolError,
)
from kexport.journal import Journal
from kexport.kube import Client
from kexport.lanes import Lanes
from kexport.push import Push, load
from kexport.reload import Reload, refuse_unchangeable
from kexport.route import Gates, RoutesStats, Wanted
from kexport.steering import Steering
from kexport.streams import Source, Streams
from kexport.telemetry import Stats, get_log
from kexport.view import View
from kexport.waiting import end
from kexport.web import Web

_log = get_log("engine")


class Engine:
    """The exporter, from a loaded configuration to a clean stop. `load` reads the configuration again."""

    def __init__(self, config: Config, load: Callable[[], Config] | None = None) -> None:
        self._config = config
        self._reload = Reload(load or (lambda: config), config)
        self._client: Client
        self._journal: Journal
        self._web: Web
        self._push: Push
        self._lanes: Lanes | None = None
        self._streams: Streams | None = None
        self._wanted: dict[str, Wanted] = {}  # what the routes in force give each sink
        self._failure: asyncio.Future[None]
        self.stats = Stats()
        self.stuck: set[str] = set()
        """Sinks that did not stop: their tasks still run."""

    @property
    def following(self) -> bool:
        """Whether every stream that is wanted and served has begun, and none has been told to end."""
        return self._streams is not None

    def reload(self) -> None:
        """Read the configuration again, soon; for signal handlers."""
        self._reload.ask()

    async def run(self, stop: asyncio.Event) -> None:
        """Export until `stop` is set; raises ConfigError, JournalError."""
        new_cluster = ""
        while not stop.is_set():
            try:
                return await self._once(stop, new_cluster)
            except NewClusterError as error:
                if self._config.root.cluster.on_new_cluster == "stop":
                    raise
                _log.error("another cluster answers; its objects are listed anew", error=error)
                new_cluster = error.uid
        return None

    async def _once(self, stop: asyncio.Event, new_cluster: str) -> None:
        if self._config.root.telemetry.otlp_endpoint:
            load()  # before anything is open
        self._client = Client(self._config.root.cluster)
        await self._client.open()
        self._journal = await Journal.open(self._config.root.journal, lanes=list(self._config.sinks))
        self._lanes = self._streams = None
        view = View(self.stats, self._journal, lambda: self._config)
        self._web = Web(self._config.root.http, view)
        steering = Steering(view, lanes=lambda: self._lanes, streams=lambda: self._streams)
        self._push = Push(view)
        self._failure = asyncio.get_running_loop().create_future()
        try:
            await self._web.open()
            if new_cluster:
                await self._journal.begin_anew(new_cluster, "new-cluster")
            async with Control(self._journal.directory, steering.answer), asyncio.TaskGroup() as group:
                writer = group.create_task(self._journal.run(), name="journal")
                watchdog = group.create_task(self._fail(), name="lanes")
                reading = group.create_task(self._read(), name="reading")
                pushing = group.create_task(self._push.run(), name="push")
                await stop.wait()
                _log.info("stopping")
                await end([reading])
                self._streams = None
                await self._drain()
                await end([watchdog, writer, pushing])
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        finally:
            await self._close()

    async def _fail(self) -> None:
        """Raise what ended a lane."""
        await self._failure

    def _lane_failed(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    # -- start --------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Connect, start the lanes, follow every stream and the configuration."""
        name = self._config.root.cluster.name or self._journal.cluster_uid
        # Routes by resource need to know what the server serves; without routes lanes need not wait for it.
        if name and not self._config.root.routes:
            self._start_lanes(name, None)
        cluster = await self._connect()
        identity = Identity(self._client, self._journal.cluster_uid or cluster.uid)
        identity.compare(cluster.uid)
        name = name or cluster.uid
        if not name:
            raise ConfigError(
                "cluster.name: must be set, since the kube-system namespace, whose uid it would be, is hidden"
            )
        await self._journal.register([], cluster_uid=cluster.uid)
        directory = self._journal.directory
        key = statedir.redaction_key(directory) if directory else secrets.token_bytes(32)
        source = Source(self._client, self._journal, identity, name, key)
        async with asyncio.TaskGroup() as group:
            streams = Streams(source, self.stats, group=group, root=self._config.root)
            if not self._lanes:
                self._start_lanes(name, cluster.catalogue)
            await streams.adjust(self._config.root, cluster.catalogue)
            self._streams = streams
            group.create_task(streams.run(self._route_anew), name="discovery")
            group.create_task(self._reload.run(self._apply, self.stats), name="reload")
            _log.info("exporting", cluster=name, streams=len(self.stats.streams), sinks=len(self.stats.lanes))

    async def _connect(self) -> Cluster:
        backoff = Backoff()
        while True:
            try:
                return await survey(self._client, before=self._journal.cluster_uid)
            except (ApiError, ConnectionLostError, ProtocolError) as error:
                wait = backoff.next(error.retry_after if isinstance(error, ApiError) else None)
                _log.warning("API server not available", error=error, again_in_seconds=round(wait, 1))
                await asyncio.sleep(wait)

    def _start_lanes(self, cluster: str, catalogue: Catalogue | None) -> None:
        lanes = Lanes(self._journal, self.stats.lanes, cluster=cluster, failed=self._lane_failed)
        gates = _gates(self._config, catalogue, self.stats.routes)
        self._wanted = _wanted(gates)
        lanes.start(self._config, self._wanted)
        self._lanes, self.stats.routes = lanes, route.counters(gates)

    # -- changes while it runs ----------------------------------------------------------------------------

    async def _apply(self, config: Config) -> None:
        """Go on with another configuration; raises ConfigError, and goes on with the old one."""
        assert self._streams
        assert self._lanes
        refuse_unchangeable(self._config.root, config.root)
        if config.root.telemetry.otlp_endpoint:
            load()
        self._streams.check(config.root)
        gates = _gates(config, self._streams.catalogue, self.stats.routes)
        before = self._config, self._wanted, self.stats.routes
        # From here on, not at the end: a discovery may find something new while lanes and streams follow,
        # and routes anew by what is in force.
        self._config, self._wanted, self.stats.routes = config, _wanted(gates), route.counters(gates)
        try:
            await self._lanes.adjust(config, self._wanted)
        except ConfigError:
            self._config, self._wanted, self.stats.routes = before
            raise
        await self._streams.adjust(config.root, self._streams.catalogue)

    async def _route_anew(self) -> None:
        """The server serves something else than before: names in routes may mean something else."""
        assert self._streams
        assert self._lanes
        gates = _gates(self._config, self._streams.catalogue, self.stats.routes)
        self._wanted |= _wanted(gates)  # in place: a reload under way starts its lanes with these
        self._lanes.want(self._wanted)
        self.stats.routes = route.counters(gates)

    # -- stop ---------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Deliver what is durable, for `shutdown_seconds` at most; the rest follows after the next start."""
        try:
            async with asyncio.timeout(self._config.root.shutdown_seconds):
                await self._journal.flush()
                if self._lanes:
                    await self._lanes.drained()
        except TimeoutError:
            left = {name: self._journal.committed - lane.cursor for name, lane in self.stats.lanes.items()}
            _log.warning("not everything was delivered in time; it stays in the journal", left=left)
        if self._lanes:
            await self._lanes.end()

    async def _close(self) -> None:
        await self._web.close()
        await self._push.close()
        self._failure.cancel()
        if self._lanes:
            await self._lanes.end()
            await self._lanes.close()
            self.stuck |= self._lanes.stuck
        await self._client.close()
        await self._journal.close()
        totals = {name: lane.written for name, lane in self.stats.lanes.items()}
        _log.info("stopped", written=totals)


def _gates(config: Config, catalogue: Catalogue | None, before: RoutesStats) -> dict[str, Gates]:
    """What stands before each sink; raises ConfigError for a route whose resource can't exist."""
    return route.gates(config.root.routes, config.sinks, plan.resolver(catalogue), before)


def _wanted(gates: Mapping[str, Gates]) -> dict[str, Wanted]:
    return {name: each.wants for name, each in gates.items()}


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the group: the others are its consequences."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
