"""What the tests of the file sink share: a sink on a path, events, and the bytes that they must become."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kexport_file.config import FileConfig
from kexport_file.sink import FileSink

from kexport import Event, SinkContext
from kexport.testing import SinkLog, make_context, make_event


class Clock:
    def __init__(self) -> None:
        self.now = 1_767_225_600.0  # 2026-01-01T00:00:00Z, the time of every made-up event

    def __call__(self) -> float:
        return self.now


def context(log: SinkLog | None = None) -> SinkContext:
    return make_context("audit", log=log)


def build(path: Path, *, log: SinkLog | None = None, clock: Clock | None = None, **settings: Any) -> FileSink:
    config = FileConfig(path=str(path), **settings)
    return FileSink(config, context(log), clock=clock) if clock else FileSink(config, context(log))


@asynccontextmanager
async def opened(path: Path, **settings: Any) -> AsyncIterator[FileSink]:
    sink = build(path, **settings)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


def events(first: int, last: int) -> list[Event]:
    return [make_event(number) for number in range(first, last + 1)]


def lines(written: Sequence[Event]) -> bytes:
    return b"".join(event.encode() + b"\n" for event in written)


def rotated(path: Path) -> list[Path]:
    return sorted(each for each in path.parent.iterdir() if each != path)
