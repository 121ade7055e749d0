"""Journals that a test opens, fills and reads, and what is on the disk of them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from kexport.change import StreamKey
from kexport.event import Event
from kexport.journal import Journal
from kexport.tables import JournalConfig
from kexport.testing import make_event

PODS = StreamKey("pods/*")


def config(path: Path | str, **settings: Any) -> JournalConfig:
    return JournalConfig(path=str(path), **settings)


@asynccontextmanager
async def running(settings: JournalConfig, lanes: tuple[str, ...] = ("a",)) -> AsyncIterator[Journal]:
    journal = await Journal.open(settings, lanes=lanes)
    writer = asyncio.create_task(journal.run())
    try:
        await journal.register([PODS], cluster_uid="uid-1")
        yield journal
    finally:
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer
        await journal.close()


def events(first: int, count: int, size: int = 0) -> list[Event]:
    def data() -> Any:
        return {"object": {"padding": os.urandom(size // 2).hex()}} if size else None

    return [make_event(number, data=data()) for number in range(first, first + count)]


async def everything(journal: Journal, after: int = 0) -> list[Event]:
    found: list[Event] = []
    while more := await journal.read(after):
        found += more
        after = found[-1].position
    return found


def chunks(directory: Path) -> list[int]:
    with closing(sqlite3.connect(directory / "journal.db", timeout=30)) as db:
        return [last for (last,) in db.execute("SELECT last FROM chunks ORDER BY last")]
