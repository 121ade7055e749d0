"""Waiting for the streams of a running exporter, and looking at them."""

from __future__ import annotations

from kexport.telemetry import StreamStats
from tests.exporter import Exporter
from tests.objects import eventually


def stats_of(exporter: Exporter, stream: str = "configmaps/*") -> StreamStats:
    return exporter.engine.stats.streams[stream]


async def watching(exporter: Exporter, streams: int = 1) -> None:
    """Wait until every stream is synced and its watch open."""
    await exporter.synced(streams)
    await eventually(lambda: all(each.watches for each in exporter.engine.stats.streams.values()))
