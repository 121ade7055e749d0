"""A sink as lanes may use it, also as another's `rejects_to`: one write at a time, each within its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

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
        self._closed = False

    async def open(self) -> None:
        """One attempt, unless it is open; raises what the sink raises, TimeoutError when late."""
        async with self._one:
            if not self.opened:
                await self._call(self._sink.open, OPEN_SECONDS)
                self.opened = True
                if self._closed:  # meanwhile: what it has opened is not to stay
                    await self.close()

    async def write(self, events: Sequence[Event]) -> None:
        """One write; raises what the sink raises, TransientError when late, or closed."""
        async with self._one:
            started = time.monotonic()
            try:
                await self._call(lambda: self._sink.write(events), self._settings.timeout_seconds)
                self._stats.succeeded = time.monotonic()
            except TimeoutError as error:
                raise TransientError(
                    f"the write took longer than timeout_seconds = {self._settings.timeout_seconds:g}"
                ) from error
            finally:
                self._stats.writes.observe(time.monotonic() - started)

    async def _call(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        """A plugin may let out a cancellation that nobody asked for, as of a call of its own that it gave up.

        It would end the lane without a word.
        """
        if self._closed:
            raise TransientError("the sink is closed; another may have taken its place")
        try:
            async with asyncio.timeout(seconds):
                await work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            raise TransientError("the sink broke off by itself (CancelledError)") from None

    async def close(self) -> None:
        """Everything acknowledged is durable: what fails now is only said."""
        self._closed = True
        try:
            await self._sink.close()
        except Exception as error:  # noqa: BLE001  (the end goes on)
            get_log("delivery", sink=self._settings.name).exception("a sink failed to close", error)
