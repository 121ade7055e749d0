"""Wires the path together, and knows the order in which it starts and stops.

Start: journal, lanes (what is stored is delivered even while the API server is away), cluster, informers.
Stop: informers, journal flushed, lanes drained for as long as allowed, sinks, journal.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from kexport import plan, route, statedir
from kexport.backoff import Backoff
from kexport.change import Metadata, Stream
from kexport.config import Config
from kexport.delivery import Lane
from kexport.discovery import Catalogue, discover
from kexport.encoder import Encoder
from kexport.errors import ApiError, ConfigError, ConnectionLostError, ProtocolError
from kexport.informer import Informer
from kexport.journal import Journal
from kexport.kube import Client
from kexport.shape import Shaper
from kexport.sink import Sink, SinkContext
from kexport.telemetry import LaneStats, Stats, StreamStats, get_log

CLOSE_SECONDS = 10.0
_log = get_log("engine")


class Cluster(NamedTuple):
    """What had to be asked of the API server before anything can be watched."""

    uid: str
    catalogue: Catalogue


class _Object(msgspec.Struct):
    metadata: Metadata


async def survey(client: Client) -> Cluster:
    """The cluster's identity and what it serves; raises ApiError or ConnectionLostError."""
    try:
        namespace = await client.get("/api/v1/namespaces/kube-system")
        uid = msgspec.json.decode(namespace, type=_Object).metadata.uid
    except msgspec.DecodeError as error:
        raise ProtocolError(f"the namespace kube-system is not an object: {error}") from error
    except ApiError as error:
        if error.status not in {403, 404}:
            raise
        uid = ""  # not ours to see: then cluster.name is needed, and another cluster can't be told apart
    return Cluster(uid, await discover(client))


class Engine:
    """One run of the exporter, from a loaded configuration to a clean stop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._client = Client(config.root.cluster)
        self._journal: Journal
        self._lanes: dict[str, Lane] = {}
        self._lane_tasks: list[asyncio.Task[None]] = []
        self.stats = Stats()

    async def run(self, stop: asyncio.Event) -> None:
        """Export until `stop` is set; raises ConfigError, JournalError."""
        await self._client.open()
        self._journal = await Journal.open(self._config.root.journal, lanes=list(self._config.sinks))
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._journal.run(), name="journal")
                reading = group.create_task(self._read(group), name="reading")
                await stop.wait()
                _log.info("stopping")
                await _end([reading])
                await self._drain()
                await _end(self._lane_tasks)
                await _end([writer])
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        finally:
            await self._close()

    # -- start --------------------------------------------------------------------------------------------

    async def _read(self, group: asyncio.TaskGroup) -> None:
        """Connect, start the lanes, follow every stream."""
        name = self._config.root.cluster.name or self._journal.cluster_uid
        # Routes by pattern need to know what the server serves; without routes lanes need not wait for it.
        if name and not self._config.root.routes:
            self._start_lanes(group, name, None)
        cluster = await self._connect()
        streams = plan.streams(self._config.root.resources, cluster.catalogue)
        name = name or cluster.uid
        if not name:
            raise ConfigError(
                "cluster.name: must be set, since the kube-system namespace, whose uid it would be, is hidden"
            )
        await self._journal.register([stream.key for stream in streams], cluster_uid=cluster.uid)
        if not self._lanes:
            self._start_lanes(group, name, cluster.catalogue)
        await self._follow(streams, cluster.catalogue, name)

    async def _connect(self) -> Cluster:
        backoff = Backoff()
        while True:
            try:
                return await survey(self._client)
            except (ApiError, ConnectionLostError, ProtocolError) as error:
                wait = backoff.next(error.retry_after if isinstance(error, ApiError) else None)
                _log.warning("API server not available", error=error, again_in_seconds=round(wait, 1))
                await asyncio.sleep(wait)

    def _start_lanes(self, group: asyncio.TaskGroup, cluster: str, catalogue: Catalogue | None) -> None:
        def resolve(pattern: str) -> Iterable[str]:
            return [each.full_name for each in catalogue.find(pattern)] if catalogue else []

        wanted = route.filters(self._config.root.routes, self._config.sinks, resolve)
        sinks = build_sinks(self._config, cluster)
        for name, settings in self._config.sinks.items():
            stats = self.stats.lanes[name] = LaneStats()
            self._lanes[name] = Lane(
                settings,
                sinks[name],
                journal=self._journal,
                wanted=wanted[name],
                stats=stats,
                others=self._lanes,
                cluster=cluster,
            )
        self._lane_tasks = [
            group.create_task(lane.run(), name=f"lane {name}") for name, lane in self._lanes.items()
        ]

    async def _follow(self, streams: Iterable[Stream], catalogue: Catalogue, name: str) -> None:
        slots = asyncio.Semaphore(self._config.root.cluster.max_snapshots)
        directory = self._journal.directory
        key = statedir.redaction_key(directory) if directory else secrets.token_bytes(32)
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                stats = self.stats.streams[stream.key] = StreamStats()
                drop = plan.dropped(self._config.root.transforms, stream.resource, catalogue)
                informer = Informer(
                    stream,
                    client=self._client,
                    journal=self._journal,
                    encoder=Encoder(stream, name),
                    shaper=Shaper(stream.resource.full_name, key, drop),
                    stats=stats,
                    snapshot_slots=slots,
                )
                group.create_task(informer.run(), name=f"informer {stream.key}")
            _log.info("exporting", cluster=name, streams=len(self.stats.streams), sinks=len(self._lanes))

    # -- stop ---------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Deliver what is durable, for `shutdown_seconds` at most; the rest follows after the next start."""
        try:
            async with asyncio.timeout(self._config.root.shutdown_seconds):
                await self._journal.flush()
                await asyncio.gather(*(lane.drained() for lane in self._lanes.values()))
        except TimeoutError:
            left = {name: self._journal.committed - lane.cursor for name, lane in self.stats.lanes.items()}
            _log.warning("not everything was delivered in time; it stays in the journal", left=left)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*(lane.close() for lane in self._lanes.values()))
        except TimeoutError:
            _log.warning("not every sink closed in time; what they acknowledged is durable")
        await self._client.close()
        await self._journal.close()
        totals = {name: lane.written for name, lane in self.stats.lanes.items()}
        _log.info("stopped", written=totals)


def build_sinks(config: Config, cluster: str) -> dict[str, Sink]:
    """A sink for each [sinks.NAME]; raises ConfigError that names the table."""
    sinks = {}
    for name, settings in config.sinks.items():
        context = SinkContext(name=name, cluster=cluster, log=get_log("sink", sink=name))
        try:
            sinks[name] = settings.type.build(settings.config, context)
        except ConfigError as error:
            raise ConfigError(f"sinks.{name}: {error}") from error
    return sinks


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the group: the others are its consequences."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
