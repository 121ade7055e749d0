"""The informers of all streams, kept in step with the configuration and with what the server serves.

Resources come (a CRD is installed), go, come back, and change their version while we watch. That one is gone
is concluded from a discovery that answered and lacks it, when its own address says so, too, and its
definition is not there any more either; never from an error. An API server that starts serves before it knows
all that it will serve, and not everything ever had a definition: where objects are left, that must last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import NamedTuple

from kexport import plan
from kexport.asked import Told
from kexport.change import Stream, StreamKey
from kexport.cluster import Identity, survey
from kexport.discovery import Catalogue
from kexport.encoder import Encoder
from kexport.errors import ApiError, ConfigError, ConnectionLostError, ProtocolError
from kexport.informer import Informer
from kexport.journal import Journal
from kexport.kube import Client
from kexport.parts import Parts
from kexport.remembered import Remembered
from kexport.removal import defined, newest, retire
from kexport.shape import Shaper
from kexport.tables import Root
from kexport.telemetry import Stats, StreamStats, get_log
from kexport.trail import Trail
from kexport.transform import Rule
from kexport.waiting import end, wait_set

SOON_SECONDS = 2.0  # between two discoveries, however many streams ask for one
ABSENT_SECONDS = 30.0  # before a resource whose objects or definition may be there counts as gone
_log = get_log("engine")


class Source(NamedTuple):
    """What the streams have in common."""

    client: Client
    journal: Journal
    identity: Identity
    cluster: str
    redaction_key: bytes


class _Running(NamedTuple):
    stream: Stream
    rules: list[Rule]
    informer: Informer
    task: asyncio.Task[None]


class Streams:
    """`adjust` starts and ends informers; `run` asks again and again what the server serves."""

    def __init__(self, source: Source, stats: Stats, *, group: asyncio.TaskGroup, root: Root) -> None:
        self._source = source
        self._stats = stats
        self._group = group
        self._root = root
        self._slots = asyncio.Semaphore(root.cluster.max_snapshots)
        self._running: dict[StreamKey, _Running] = {}
        self._remembered = Remembered(source.journal.last_states)
        self._shapes: dict[StreamKey, str] | None = None
        self._absent: dict[StreamKey, float] = {}  # since when discovery lacks it
        self._wanted = asyncio.Event()
        self._one = asyncio.Lock()  # a reload and a discovery may come together
        self.catalogue: Catalogue

    # -- following the configuration ----------------------------------------------------------------------

    def check(self, root: Root) -> None:
        """Whether `adjust` could do this; raises ConfigError."""
        for stream in plan.make(root.resources, self.catalogue).streams:
            plan.shaping(root.transforms, stream.resource, self.catalogue)

    async def adjust(self, root: Root, catalogue: Catalogue) -> None:
        """Follow what is wanted and served, and nothing else; what is unchanged goes on undisturbed.

        Raises ConfigError before anything is changed.
        """
        async with self._one:
            await self._adjust(root, catalogue)

    async def _adjust(self, root: Root, catalogue: Catalogue) -> None:
        found = plan.make(root.resources, catalogue)
        wanted = {stream.key: stream for stream in found.streams}
        self._root, self.catalogue = root, catalogue
        self._tell_waiting(found.waiting)
        absent = self._find_absent()
        rules = {
            key: plan.shaping(root.transforms, each.resource, catalogue)
            for key, each in (wanted | absent).items()
        }
        await self._stop(key for key in self._running if key not in wanted and key not in absent)
        for key in absent:
            await self._look_after(absent[key])
        self._absent = {key: since for key, since in self._absent.items() if key in absent}
        await self._stop(
            key for key in self._running if key in wanted and self._differs(wanted[key], rules[key])
        )
        await self._source.journal.register(wanted)
        await self._keep_states(wanted | absent, rules)
        for key, stream in wanted.items():
            if key not in self._running:
                await self._start(stream, rules[key])

    def _differs(self, stream: Stream, rules: list[Rule]) -> bool:
        running = self._running[stream.key]
        same = running.stream.resource.api_version == stream.resource.api_version
        return not same or _told(running.stream) != _told(stream) or running.rules != rules

    async def _start(self, stream: Stream, rules: list[Rule]) -> None:
        source, key = self._source, stream.key
        encoder = Encoder(stream, source.cluster)
        before = source.journal.served.get(key)
        if before and before.api_version != stream.resource.api_version:
            _log.warning("a resource has another version now", stream=key, before=before.api_version)
            encoder.enter(source.journal.positions[key].epoch)
            version = source.journal.positions[key].version
            source.journal.append(key, [encoder.schema(before.api_version, version)], {})
            await source.journal.flush()
        if before != stream.resource:
            await source.journal.serve(key, stream.resource)
        stats = self._stats.streams[key] = StreamStats()
        shaper = self._shaper(stream, rules)
        trail = Trail(stream, self._remembered, stats) if stream.diff else None
        informer = Informer(
            Parts(stream, source.client, source.journal, encoder, shaper, stats, trail),
            identity=source.identity,
            slots=self._slots,
            missing=self._wanted.set,
        )
        task = self._group.create_task(informer.run(), name=f"informer {key}")
        self._running[key] = _Running(stream, rules, informer, task)

    def _shaper(self, stream: Stream, rules: list[Rule]) -> Shaper:
        key = self._source.redaction_key
        return Shaper(stream.resource.full_name, key, rules, managers=bool(stream.diff))

    async def _keep_states(self, wanted: dict[StreamKey, Stream], rules: dict[StreamKey, list[Rule]]) -> None:
        """What diffs compare with is only kept for streams that want them, and as they are shaped now."""
        shapes = {
            key: self._shaper(each, rules[key]).fingerprint for key, each in wanted.items() if each.diff
        }
        if shapes == self._shapes:
            return
        for key, shape in (self._shapes or {}).items():
            if shapes.get(key) != shape:
                self._remembered.forget(key)
        await self._source.journal.last_states.keep(shapes)
        self._shapes = shapes

    async def _stop(self, keys: Iterable[StreamKey]) -> None:
        """End these informers; their places stay."""
        stopped = [self._running.pop(key) for key in list(keys)]
        await end(each.task for each in stopped)
        for each in stopped:
            del self._stats.streams[each.stream.key]

    def _tell_waiting(self, names: list[str]) -> None:
        for name in names:
            if name not in self._stats.waiting:
                _log.warning("the server has no such resource; waiting for it to be installed", resource=name)
        self._stats.waiting = names

    def snapshot(self, resource: str, namespace: str) -> dict[StreamKey, Told]:
        """Tell again what exists in the streams of a resource; raises ConfigError where there is none.

        `namespace` picks the streams that follow just this one.
        """
        names = {each.full_name for each in self.catalogue.find(resource)}
        found = [each for each in self._running.values() if each.stream.resource.full_name in names]
        asked = [each for each in found if not namespace or each.stream.namespace == namespace]
        if not found:
            raise ConfigError(f"no stream follows {resource}; see [[resources]]")
        if not asked:
            keys = ", ".join(each.stream.key for each in found)
            raise ConfigError(
                f"no stream follows {resource} in {namespace} alone; without -n these are told again: {keys}"
            )
        return {each.stream.key: each.informer.snapshot() for each in asked}

    # -- following the server -----------------------------------------------------------------------------

    async def run(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Ask what is served, regularly and when a stream misses its resource, and adjust to it.

        `changed` is awaited after the answer was another than before. Raises NewClusterError.
        """
        while True:
            await wait_set(self._wanted, self._root.cluster.rediscover_seconds)
            self._wanted.clear()
            try:
                cluster = await survey(self._source.client, before=self._source.identity.uid)
            except (ApiError, ConnectionLostError, ProtocolError) as error:
                _log.debug("cannot ask what the server serves", error=error)
                self._absent.clear()  # nobody knows for how long it was so
            else:
                self._source.identity.compare(cluster.uid)
                await self._rediscovered(cluster.catalogue, changed)
            await asyncio.sleep(SOON_SECONDS)

    async def _rediscovered(self, catalogue: Catalogue, changed: Callable[[], Awaitable[None]]) -> None:
        new = catalogue != self.catalogue
        try:
            await self.adjust(self._root, catalogue)
            if new:
                await changed()
        except ConfigError as error:
            # What was right at the start no longer fits the server, a lost verb for example: others go on.
            _log.error("the configuration does not fit what the server serves now", error=error)

    def _find_absent(self) -> dict[StreamKey, Stream]:
        """The streams we followed, now or before a restart, and still want, whose resource isn't served."""
        served = self._source.journal.served
        names = {resource.full_name for resource in self.catalogue.resources}
        ghosts = {each.full_name: each for each in served.values() if each.full_name not in names}
        if not ghosts:
            return {}
        catalogue = self.catalogue._replace(resources=(*self.catalogue.resources, *ghosts.values()))
        streams = plan.make(self._root.resources, catalogue).streams
        return {
            each.key: each for each in streams if each.key in served and each.resource.full_name in ghosts
        }

    def _refused(self, stream: Stream) -> bool:
        """Whether its own address has nothing either; as long as a watch is open, the resource is served.

        The server ends a watch behind the deletions of the last objects, and an error says nothing.
        """
        running = stream.key in self._running
        return not running or self._stats.streams[stream.key].state in {"missing", "forbidden"}

    async def _look_after(self, stream: Stream) -> None:
        """A resource is not served: tell that its objects are gone, when that is certain."""
        if not self.catalogue.lacks(stream.resource) or not self._refused(stream):
            self._absent.pop(stream.key, None)  # its group is down, or another replica has it
            return
        since = self._absent.setdefault(stream.key, monotonic())
        soon = monotonic() - since < ABSENT_SECONDS
        try:
            known = await defined(self._source.client, stream.resource)
        except (ApiError, ConnectionLostError, ProtocolError) as error:
            _log.debug("cannot ask for a definition", stream=stream.key, error=error)
            self._absent.pop(stream.key, None)
            return
        if known or (soon and (known is None or await self._source.journal.known(stream.key))):
            if soon:
                self._wanted.set()  # it is on its way, in or out: look again
            return
        if self._refused(stream):
            await self._retire(stream, known=known)

    async def _retire(self, stream: Stream, *, known: bool | None) -> None:
        watched = stream.key in self._running and self._stats.streams[stream.key].watches > 0
        at = await newest(self._source.client) if known is False else ""
        await self._stop(key for key in self._running if key == stream.key)
        _log.warning("a resource is not served any more", stream=stream.key)
        await self._source.journal.register([stream.key])
        trail = Trail(stream, self._remembered, StreamStats()) if stream.diff else None
        encoder = Encoder(stream, self._source.cluster)
        await retire(stream, self._source.journal, encoder, trail, at=at, watched=watched)


def _told(stream: Stream) -> tuple[object, ...]:
    """What of its changes is told, and how."""
    return stream.initial, stream.deletions, stream.diff, stream.unchanged, stream.ignore
