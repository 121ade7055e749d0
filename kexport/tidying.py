"""What is no longer wanted leaves the journal; a lane whose place is set back must not lose that race."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

from kexport.cursors import Cursors
from kexport.disk import Disk
from kexport.replay import Repeat
from kexport.retention import Retention
from kexport.store import Store
from kexport.tally import Tally
from kexport.telemetry import get_log
from kexport.waiting import settled

_log = get_log("journal")


class Tidying:
    """The retention of an open journal, on its disk's threads."""

    def __init__(self, disk: Disk, retention: Retention, cursors: Cursors, tally: Tally) -> None:
        self._disk = disk
        self._retention = retention
        self._cursors = cursors
        self._tally = tally
        self._one = asyncio.Lock()  # what is being deleted can't be wanted again, and the reverse

    async def make_room(self, newest: int) -> None:
        """The disk is full: events that are only kept for replay give way."""
        async with self._one:
            try:
                await self._disk.do(self._retention.give_way, self._cursors.passed(newest))
            except sqlite3.DatabaseError as error:
                self._disk.judge(error)

    async def trim(self, newest: int) -> None:
        """Delete what may go, if it is time; a cancellation waits for it."""
        if not self._retention.due:
            return
        async with self._one:
            before = self._cursors.all()
            work = self._disk.do(self._retention.trim, before, newest)
            cancelled = await settled(work)
            try:
                self._cursors.overrun(before, work.result())
                self._tally.marks.forget(self._retention.first)
            except sqlite3.DatabaseError as error:
                self._disk.judge(error)
                _log.warning("cannot tidy the journal; tried again", error=error)
        if cancelled:
            raise asyncio.CancelledError

    async def settled(self) -> None:
        """Wait until what is being deleted is gone, and the places say so."""
        async with self._one:
            pass

    async def set_back(self, name: str, begin: Callable[[Store], int]) -> Repeat:
        """Set a lane's place back to where `begin` finds, if it is further; raises what `begin` raises."""
        # It may take its time: nothing waits for it.
        position = await self._disk.consult(begin, self._disk.to_read)
        async with self._one:
            while position < self._retention.first:  # deleted meanwhile
                position = await self._disk.consult(begin, self._disk.to_read)
            return Repeat(position + 1, self._cursors.set_back(name, position))
