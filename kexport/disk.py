"""The journal's file from the event loop's side: two threads, one that writes and one that reads.

A lane that catches up reads on a connection and thread of its own, so it never holds up a commit. What the
disk refuses (full, read-only, an I/O error) is tried again until it works; what says that the file is damaged
ends the process, and the next start sets the file aside.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from kexport import statedir
from kexport.database import bring_up_to_date, connect, lay_out, may_pass
from kexport.errors import JournalError
from kexport.event import Event
from kexport.places import Commit
from kexport.store import Store
from kexport.tables import JournalConfig
from kexport.telemetry import get_log

MEMORY = ":memory:"
RETRY_SECONDS = 1.0
_log = get_log("journal")
T = TypeVar("T")


class Disk:
    """An open, held store; `directory` is None when it is in memory."""

    def __init__(self, directory: statedir.StateDir | None) -> None:
        self._held = directory
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="kexport-journal")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="kexport-journal-read")
        self.store: Store
        self._stores: list[Store] = []  # one, or a second one to read with
        self._files: list[tuple[int, int]] = []
        self.lost = False
        """The file is damaged, or gone: nothing more is to be written."""
        self.failing = ""
        """Why it cannot be written at present."""

    @classmethod
    async def open(cls, config: JournalConfig) -> Disk:
        """Hold the directory and open the file; raises ConfigError, JournalLockedError."""
        held = None if config.path == MEMORY else statedir.hold(Path(config.path).expanduser())
        disk = cls(held)
        try:
            await disk.attempt(disk._open, config.synchronous)
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
                connection = connect(self._held.file, synchronous=level)
                bring_up_to_date(connection)
                self._stores.append(Store(connection))
            statedir.mark_open(self._held)
            self._files = _identities(self._held)
        self.store = self._stores[0]

    @property
    def directory(self) -> Path | None:
        return self._held.path if self._held else None

    @property
    def to_read(self) -> Store:
        """The connection to read with; for `consult`."""
        return self._stores[-1]

    def do(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Run `work` on the writing thread, behind what was asked of it before."""
        return asyncio.get_running_loop().run_in_executor(self._writer, work, *arguments)

    async def attempt(self, work: Callable[..., T], *arguments: object) -> T:
        """Run `work` once, as at start, when nothing can wait yet; raises JournalError when it fails."""
        try:
            return await self.do(work, *arguments)
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.DatabaseError):
                self.judge(error)
            raise JournalError(
                f"the journal in {self.directory} cannot be used now: {error};"
                " make room, or mend the disk, and start again"
            ) from error

    async def write(self, work: Callable[..., T], *arguments: object) -> T:
        """Run `work`, all or nothing, until the disk takes it; raises JournalError for a damaged file."""
        while True:
            try:
                done = await self.do(work, *arguments)
            except sqlite3.DatabaseError as error:
                self.refuse(error)
                await asyncio.sleep(RETRY_SECONDS)
            else:  # Not `accept`: what is this small may find room where the commit that waits does not.
                return done

    def refuse(self, error: sqlite3.DatabaseError) -> None:
        """It could not be written, which may pass; raises JournalError where it doesn't."""
        self.judge(error)
        if not self.failing:
            _log.error("cannot write the journal; reading is paused until it can", error=error)
        self.failing = str(error)

    def accept(self) -> None:
        """It can be written."""
        if self.failing:
            _log.info("the journal can be written again")
        self.failing = ""

    def judge(self, error: sqlite3.DatabaseError) -> None:
        """Return if it may pass; raises JournalError for damage, which the next start shall know of."""
        if isinstance(error, sqlite3.ProgrammingError):
            raise error
        if may_pass(error):
            return
        self.lost = True
        if self._held:
            statedir.condemn(self._held, str(error))
        raise JournalError(
            f"the journal in {self.directory} is damaged ({error}); start again, and it is set aside"
        ) from error

    def commit(self, commit: Commit) -> int:
        """Write it durably into the file that the next start will find; for `do`."""
        stored = self.store.commit(commit)
        self.look()
        return stored

    def look(self) -> None:
        """Whether the file is still there; raises JournalError: what is written goes nowhere; for `do`."""
        if not self._held:
            return
        try:
            if _identities(self._held) == self._files:
                return
        except FileNotFoundError:
            pass
        except OSError:
            return  # who can't be asked has not said no
        self.lost = True
        raise JournalError(
            f"the journal's file {self._held.file}, or its log, was deleted or replaced while it was in use;"
            " start again, and keep the directory to kexport alone"
        )

    async def read(self, after: int) -> list[Event]:
        """Some of the stored events behind position `after`; raises JournalError for a damaged chunk."""
        return await self.consult(self._read, after)

    async def consult(self, work: Callable[..., T], *arguments: object) -> T:
        """Run `work`, which only reads, on `to_read`, beside the writing; raises JournalError for damage."""
        thread = self._writer if self._held is None else self._reader
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
            except sqlite3.DatabaseError as error:
                self.judge(error)
                _log.warning("cannot read the journal; tried again", error=error)
            await asyncio.sleep(RETRY_SECONDS)

    def _read(self, after: int) -> list[Event]:
        events: list[Event] = []
        for chunk in self.to_read.read(after):
            first = chunk.last - len(chunk.lines) + 1
            events += [
                Event(line, position=position)
                for position, line in enumerate(chunk.lines, start=first)
                if position > after
            ]
        return events

    async def close(self) -> None:
        self._reader.shutdown()  # waits for a read under way
        if self._held and self._stores and not self.lost:
            statedir.mark_closed(self._held)
        for store in self._stores:
            await self.do(store.close)
        self._writer.shutdown()
        if self._held:
            self._held.release()


def _identities(directory: statedir.StateDir) -> list[tuple[int, int]]:
    """Which files have the names of the journal and its write-ahead log; raises OSError."""
    found = [file.stat() for file in (directory.file, directory.log)]
    return [(each.st_dev, each.st_ino) for each in found]
