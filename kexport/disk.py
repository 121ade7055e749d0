"""The journal's file from the event loop's side: two threads, one that writes and one that reads.

A lane that catches up reads on a connection and thread of its own, so it never holds up a commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from kexport import statedir
from kexport.database import connect, lay_out
from kexport.event import Event
from kexport.store import Store
from kexport.tables import JournalConfig

MEMORY = ":memory:"
T = TypeVar("T")


class Disk:
    """An open, held store; `directory` is None when it is in memory."""

    def __init__(self, directory: statedir.StateDir | None) -> None:
        self._held = directory
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="kexport-journal")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="kexport-journal-read")
        self.store: Store
        self._stores: list[Store] = []  # one, or a second one to read with

    @classmethod
    async def open(cls, config: JournalConfig) -> Disk:
        """Hold the directory and open the file; raises ConfigError, JournalLockedError."""
        held = None if config.path == MEMORY else statedir.hold(Path(config.path).expanduser())
        disk = cls(held)
        try:
            await disk.do(disk._open, config.synchronous)
        except BaseException:
            await disk.close()
            raise
        return disk

    def _open(self, synchronous: str) -> None:
        if self._held is None:
            connection = connect(MEMORY)
            lay_out(connection)
            self._stores = [Store(connection)]
        else:
            statedir.prepare(self._held)
            for level in (synchronous, "full"):
                self._stores.append(Store(connect(self._held.file, synchronous=level)))
        self.store = self._stores[0]

    @property
    def directory(self) -> Path | None:
        return self._held.path if self._held else None

    def do(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Run `work` on the writing thread, behind what was asked of it before."""
        return asyncio.get_running_loop().run_in_executor(self._writer, work, *arguments)

    async def read(self, after: int) -> list[Event]:
        """Some of the stored events behind position `after`; raises JournalError for a damaged chunk."""
        thread = self._writer if self._held is None else self._reader
        return await asyncio.get_running_loop().run_in_executor(thread, self._read, after)

    def _read(self, after: int) -> list[Event]:
        events: list[Event] = []
        for chunk in self._stores[-1].read(after):
            first = chunk.last - len(chunk.lines) + 1
            events += [
                Event(line, position=position)
                for position, line in enumerate(chunk.lines, start=first)
                if position > after
            ]
        return events

    async def close(self) -> None:
        self._reader.shutdown()  # waits for a read under way
        for store in self._stores:
            await self.do(store.close)
        self._writer.shutdown()
        if self._held:
            self._held.release()
