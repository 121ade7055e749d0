"""When a stream is audited: every few hours, beside its watch, which goes on meanwhile."""

from __future__ import annotations

import asyncio
import random
from time import monotonic

from kexport import audit
from kexport.errors import ApiError, ConnectionLostError, ProtocolError
from kexport.parts import Parts
from kexport.places import Position
from kexport.telemetry import get_log
from kexport.waiting import end


class Auditor:
    """Audits one stream for ever. `slots` bounds how many streams are listed at the same time."""

    def __init__(self, parts: Parts, slots: asyncio.Semaphore) -> None:
        self._parts = parts
        self._slots = slots
        self._audit: asyncio.Task[None] | None = None
        self._wrong = 0  # how many objects an audit found to differ
        self._at = self._next()
        self._log = get_log("informer", stream=parts.stream.key)

    async def differs(self, position: Position) -> bool:
        """Begin an audit that is due, or look how one ends; whether the stream must be compared now."""
        if monotonic() < self._at:
            return False
        if self._audit is None:
            if not position.held:
                # Nothing is read meanwhile, so this is the index as of the position.
                known = await self._parts.journal.known(self._parts.stream.key)
                auditing = self._compare(audit.Index(known, position.version))
                self._audit = asyncio.create_task(auditing, name=f"audit {self._parts.stream.key}")
            return False
        if not self._audit.done():
            return False
        ended, self._audit, self._at = self._audit, None, self._next()
        ended.result()
        return bool(self._wrong)

    async def end(self) -> None:
        if self._audit:
            await end([self._audit])

    def _next(self) -> float:
        seconds = self._parts.client.config.audit_seconds
        return monotonic() + seconds * random.uniform(0.8, 1.2) if seconds else float("inf")

    async def _compare(self, index: audit.Index) -> None:
        self._wrong = 0
        stats = self._parts.stats
        try:
            async with self._slots:
                self._wrong = await audit.differences(self._parts.client, self._parts.stream, index)
        except (ApiError, ConnectionLostError, ProtocolError) as error:
            self._log.info("no audit this time", error=error)
            return
        stats.audits += 1
        stats.audit_differences += self._wrong
        if self._wrong:
            self._log.error(
                "an audit found differences; they are told after a comparison", objects=self._wrong
            )
