"""A sink for measuring: it stores nothing, or lets another sink store, and can tell how long events took."""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from typing_extensions import override

from kexport import Event, Sink, SinkConfig, SinkContext, SinkType, TransientError, hookimpl
from kexport.plugins import load
from tests.bench.objects import SENT


class BenchConfig(SinkConfig, frozen=True):
    report: Annotated[
        str, msgspec.Meta(description="File for what was measured; empty: measure nothing.")
    ] = ""
    refuse: Annotated[bool, msgspec.Meta(description="Be unavailable.")] = False
    inner: Annotated[str, msgspec.Meta(description="Type of the sink that stores; empty: nothing does.")] = ""
    settings: Annotated[dict[str, Any], msgspec.Meta(description="Its settings.")] = msgspec.field(
        default_factory=dict
    )


class BenchSink(Sink):
    """Writes its report at close: when it was open, its first acknowledgement, delays in ns."""

    def __init__(self, config: BenchConfig, context: SinkContext) -> None:
        self._config = config
        self._inner: Sink | None = None
        if config.inner:
            kind = load().types[config.inner]
            self._inner = kind.build(msgspec.convert(config.settings, kind.config), context)
        self._opened = self._first = 0.0
        self._delays = array("q")

    @override
    async def open(self) -> None:
        if self._inner:
            await self._inner.open()
        self._opened = time.monotonic()

    @override
    async def write(self, events: Sequence[Event]) -> None:
        if self._config.refuse:
            raise TransientError("this sink is off; the bench turns it on later")
        if self._inner:
            await self._inner.write(events)
        if self._config.report:
            self._measure(events)

    def _measure(self, events: Sequence[Event]) -> None:
        now = time.time_ns()
        self._first = self._first or time.monotonic()
        for event in events:
            at = event.line.find(SENT)
            sent = int(event.line[at + len(SENT) : at + len(SENT) + 19]) if at >= 0 else 0
            if sent:
                self._delays.append(now - sent)

    @override
    async def close(self) -> None:
        if self._inner:
            await self._inner.close()
        if self._config.report:
            times = {"opened": self._opened, "first": self._first, "delays_ns": self._delays.tolist()}
            Path(self._config.report).write_text(json.dumps(times))


@hookimpl
def kexport_sinks() -> Iterable[SinkType[Any]]:
    return [SinkType("bench", BenchConfig, BenchSink)]
