"""A sink under the whole engine, fed by a FakeCluster: what the fixture `exported` runs.

Beside the sink the engine feeds a witness, whose lane shares nothing with the sink's: it says what was there
to be stored, whatever the sink says that it stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kexport.event import Event
from kexport.sink import SinkType
from kexport.testing.cluster import FakeCluster
from kexport.testing.exporting import Exporter, Memory, toml_of

_WITNESS = "witness"
_ENGINE: dict[str, Any] = {
    "batch": {"max_wait_seconds": 0},
    "retry": {"min_seconds": 0.01, "max_seconds": 0.05},
}


class Export:
    """One run of the engine: what it has told, and waiting for what the sink acknowledges."""

    def __init__(self, exporter: Exporter, cluster: FakeCluster, sink: str, seconds: float) -> None:
        self._exporter = exporter
        self._cluster = cluster
        self._sink = sink
        self._seconds = seconds

    @property
    def events(self) -> list[Event]:
        """The events of this run so far, in order; when the block has ended: all of them."""
        return self._exporter.events

    async def written(self, count: int) -> None:
        """Wait until the sink has acknowledged so many events in this run."""
        await self._exporter.look(
            lambda: self._written >= count,
            seconds=self._seconds,
            what=lambda: f"{self._written} of {count} events are written: {self._state()}",
        )

    async def read(self) -> None:
        """Wait until the engine has read all that has happened in the cluster."""
        revision = self._cluster.revision
        await self._exporter.look(
            lambda: self._has_read(revision),
            seconds=self._seconds,
            what=lambda: f"the cluster is at {revision}, not all of it read: {self._state()}",
        )

    def check_delivered(self) -> None:
        """Fail when the engine stopped before the sink had taken what the witness has."""
        lanes = self._exporter.engine.stats.lanes
        assert lanes[self._sink].cursor == lanes[_WITNESS].cursor, (
            f"waited {self._seconds:g} s; {self._written} of {len(self.events)} events are written:"
            f" {self._state()}"
        )

    @property
    def _written(self) -> int:
        lane = self._exporter.engine.stats.lanes.get(self._sink)
        return lane.written if lane else 0

    def _has_read(self, revision: int) -> bool:
        self._cluster.bookmark()  # tells a watch how far the cluster is when its own objects don't change
        engine = self._exporter.engine
        streams = engine.stats.streams
        # One stream begins after the other: the first may have read everything before the last is there.
        return (
            engine.following
            and bool(streams)
            and all(
                # Servers keep no watch cache of events, and send no bookmarks for them.
                stream.synced and (key.startswith("events/") or int(stream.version or 0) >= revision)
                for key, stream in streams.items()
            )
        )

    def _state(self) -> str:
        stats = self._exporter.engine.stats
        streams = [f"{key} is {each.state} {each.error}".strip() for key, each in stats.streams.items()]
        lanes = [f"{name} is {each.state} {each.error}".strip() for name, each in stats.lanes.items()]
        return "; ".join([*streams, *lanes]) or "the engine has not begun"


class Exporting:
    """Runs the engine on one cluster; its journal stays, so that a second run goes on where one ended."""

    def __init__(self, cluster: FakeCluster, directory: Path) -> None:
        self._cluster = cluster
        self._directory = directory

    @asynccontextmanager
    async def __call__(
        self,
        sink_type: SinkType[Any],
        settings: Mapping[str, Any],
        *,
        resources: Sequence[str | Mapping[str, Any]] = ("configmaps",),
        seconds: float = 30.0,
    ) -> AsyncIterator[Export]:
        """Export within the block; it ends when the sink has everything, or fails after `seconds`.

        `settings` is the table of the sink as in config.toml, without its type; `resources` are names, or
        tables as in `[[resources]]`.
        """
        memory = Memory()
        text = self._configuration(sink_type.name, settings, resources, seconds)
        exporter = Exporter(text, memory, **{sink_type.name: sink_type, _WITNESS: memory.type(_WITNESS)})
        export = Export(exporter, self._cluster, sink_type.name, seconds)
        async with exporter:
            yield export
            await export.read()
        export.check_delivered()

    def _configuration(
        self, sink: str, settings: Mapping[str, Any], resources: Sequence[Any], seconds: float
    ) -> str:
        self._directory.mkdir(exist_ok=True)
        return toml_of(
            {
                "shutdown_seconds": seconds,
                "cluster": {"name": "test", "kubeconfig": str(self._cluster.kubeconfig(self._directory))},
                "journal": {"path": str(self._directory / "state")},
                "http": {"listen": ""},
                "resources": [
                    {"resource": each} if isinstance(each, str) else dict(each) for each in resources
                ],
                "sinks": {sink: {"type": sink, **_ENGINE, **settings}, _WITNESS: {"type": _WITNESS}},
            }
        )
