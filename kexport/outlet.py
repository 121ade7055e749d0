"""A sink as lanes may use it, also as another's `rejects_to`: one write at a time, each within its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from kexport.config import SinkSettings
from kexport.errors import TransientError
from kexport.event import Event
from kexport.sink import Sink
from kexport.telemetry import LaneStats, get_log

OPEN_SECONDS = 60.0


class Outlet:
    """One sink, with the engine's part of its settings."""

    def __init__(self, settings: SinkSettings, sink: Sink, stats: LaneStats) -> None:
        self._settings = settings
        self._sink = sink
        self._stats = stats
        self._one = asyncio.Lock()
        self.opened = False

    async def open(self) -> None:
        """One attempt, unless it is open; raises what the sink raises, TimeoutError when late."""
        async with self._one:
            if not self.opened:
                async with asyncio.timeout(OPEN_SECONDS):
                    await self._sink.open()
                self.opened = True

    async def write(self, events: Sequence[Event]) -> None:
        """One write; raises what the sink raises, TransientError when late."""
        async with self._one:
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._settings.timeout_seconds):
                    await self._sink.write(events)
                self._stats.succeeded = time.monotonic()
            except TimeoutError as error:
                raise TransientError(
                    f"the write took longer than timeout_seconds = {self._settings.timeout_seconds:g}"
                ) from error
            finally:
                self._stats.writes.observe(time.monotonic() - started)

    async def close(self) -> None:
        """Everything acknowledged is durable: what fails now is only said."""
        try:
            await self._sink.close()
        except Exception as error:  # noqa: BLE001  (the end goes on)
            get_log("delivery", sink=self._settings.name).exception("a sink failed to close", error)
