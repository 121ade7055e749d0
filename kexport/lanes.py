"""The lanes of all sinks: they come, change and go with the configuration, each at its own place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kexport.config import Config, SinkSettings
from kexport.delivery import Lane
from kexport.errors import ConfigError, placed
from kexport.journal import Journal
from kexport.route import Wanted
from kexport.settings import nearest
from kexport.sink import Sink, SinkContext
from kexport.telemetry import LaneStats, get_log
from kexport.waiting import end

CLOSE_SECONDS = 10.0
_log = get_log("engine")


class _Running(NamedTuple):
    settings: SinkSettings
    lane: Lane
    task: asyncio.Task[None]


class Lanes:
    """`failed` is told what ends a lane. A lane that came with a reload never ends."""

    def __init__(
        self,
        journal: Journal,
        stats: dict[str, LaneStats],
        *,
        cluster: str,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._journal = journal
        self._stats = stats
        self._cluster = cluster
        self._failed = failed
        self._lanes: dict[str, Lane] = {}
        self._running: dict[str, _Running] = {}
        self.stuck: set[str] = set()
        """Sinks that did not stop when they were told to."""

    def start(self, config: Config, wanted: Mapping[str, Wanted]) -> None:
        """Every sink of the configuration; raises ConfigError before any of them is started."""
        sinks = build_sinks(config.sinks, self._cluster)
        for name, sink in sinks.items():
            # Where it once worked, what is wrong with one sink now is no reason to keep the others waiting.
            lasting = self._journal.lane(name).cursor > 0
            self._start(config.sinks[name], sink, wanted[name], lasting=lasting)

    def _start(self, settings: SinkSettings, sink: Sink, wanted: Wanted, *, lasting: bool) -> None:
        name = settings.name
        stats = self._stats[name] = LaneStats()
        lane = self._lanes[name] = Lane(
            settings,
            sink,
            journal=self._journal,
            wanted=wanted,
            stats=stats,
            others=self._lanes,
            cluster=self._cluster,
            lasting=lasting,
        )
        task = asyncio.create_task(lane.run(), name=f"lane {name}")
        task.add_done_callback(self._ended)
        self._running[name] = _Running(settings, lane, task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            if error := task.exception():
                self._failed(error)
        elif not task.cancelling():  # nobody asked for that, and events would wait for ever without a word
            self._failed(RuntimeError(f"{task.get_name()} was broken off"))

    async def adjust(self, config: Config, wanted: Mapping[str, Wanted]) -> None:
        """As this configuration has it; what is unchanged goes on undisturbed. Raises ConfigError before."""
        changed = {
            name: settings
            for name, settings in config.sinks.items()
            if name not in self._running or self._running[name].settings != settings
        }
        sinks = build_sinks(changed, self._cluster)
        for name in [name for name in self._running if name not in config.sinks]:
            await self._stop(name)
            del self._stats[name]  # first: who has figures has a place in the journal
            await self._journal.remove_lane(name)
            _log.info("sink removed", sink=name)
        for name, settings in changed.items():
            if name in self._running:
                await self._stop(name)
            else:
                await self._journal.add_lane(name)
            self._start(settings, sinks[name], wanted[name], lasting=True)
            _log.info("sink started anew", sink=name)
        self.want(wanted)

    def find(self, name: str) -> Lane:
        """The lane of this sink; raises ConfigError."""
        if running := self._running.get(name):
            return running.lane
        raise ConfigError(f"no sink named {name!r}{nearest(name, self._running)}")

    def want(self, wanted: Mapping[str, Wanted]) -> None:
        """Each lane delivers, from here on, what its routes want; one that is about to be removed goes on."""
        for name, running in self._running.items():
            if name in wanted:
                running.lane.want(wanted[name])

    async def _stop(self, name: str) -> None:
        running = self._running[name]
        running.lane.stop()
        if await end([running.task], seconds=CLOSE_SECONDS):
            self._stick(name)
        del self._lanes[name]
        await self._close({name: running.lane})
        del self._running[name]  # at last: a stop that comes between closes it

    def _stick(self, name: str) -> None:
        self.stuck.add(name)
        _log.error(
            "a sink does not stop when it is cancelled; its plugin must let cancellation pass", sink=name
        )

    # -- the end ------------------------------------------------------------------------------------------

    async def drained(self) -> None:
        """Wait until everything durable has been delivered everywhere."""
        await asyncio.gather(*(self._journal.delivered(name) for name in self._running))

    async def end(self) -> None:
        """Stop delivering; cursors stay where they are."""
        names = {each.task: name for name, each in self._running.items() if name not in self.stuck}
        for task in await end(names, seconds=CLOSE_SECONDS):
            self._stick(names[task])

    async def close(self) -> None:
        await self._close({name: running.lane for name, running in self._running.items()})

    async def _close(self, lanes: Mapping[str, Lane]) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*(lane.close() for lane in lanes.values()))
        except TimeoutError:
            _log.warning("not every sink closed in time; what they acknowledged is durable", sinks=[*lanes])


def build_sinks(settings: Mapping[str, SinkSettings], cluster: str) -> dict[str, Sink]:
    """A sink for each [sinks.NAME]; raises ConfigError that names the table."""
    sinks = {}
    for name, each in settings.items():
        context = SinkContext(name=name, cluster=cluster, log=get_log("sink", sink=name))
        try:
            sinks[name] = each.type.build(each.config, context)
        except ConfigError as error:
            raise ConfigError(placed(f"sinks.{name}", error)) from error
        except Exception as error:
            problem = f"type {each.type.name} cannot be built: {type(error).__name__}: {error}"
            raise ConfigError(f"sinks.{name}: {problem}; that is a bug of its plugin") from error
    return sinks
