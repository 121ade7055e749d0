"""Snapshots of one stream that an operator asked for, from the asking until all is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kexport.errors import KexportError

Told = asyncio.Future[int | KexportError]
"""How many objects were told, or why it came to nothing."""


class Asked:
    """An informer's; a snapshot that has begun answers only those who asked before."""

    def __init__(self) -> None:
        self._waiting: list[Told] = []
        self._begun: list[Told] = []
        self._watch: asyncio.Timeout | None = None

    @property
    def wanted(self) -> bool:
        """Whether a snapshot must begin."""
        return bool(self._waiting)

    @property
    def begun(self) -> bool:
        """Whether somebody waits for the one that has begun."""
        return bool(self._begun)

    def ask(self, *, interrupt: bool) -> Told:
        """Want one; with `interrupt` a watch that is open ends for it now, else at its next change."""
        told: Told = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        if self._watch and interrupt and not self._watch.expired():
            self._watch.reschedule(asyncio.get_running_loop().time())
        return told

    @asynccontextmanager
    async def interrupting(self) -> AsyncIterator[None]:
        """What is done in here ends when somebody asks, and that is no error."""
        watch = self._watch = asyncio.timeout(None)
        try:
            async with watch:
                yield
        except TimeoutError:
            if not watch.expired():
                raise
        finally:
            self._watch = None

    def begin(self) -> None:
        self._begun += self._waiting
        self._waiting = []

    def done(self, objects: int) -> None:
        """All is told, and durable."""
        _answer(self._begun, objects)
        self._begun = []

    def end(self) -> None:
        """Nobody follows the stream any more."""
        _answer([*self._begun, *self._waiting], KexportError("the stream was ended before all was told"))
        self._begun, self._waiting = [], []


def _answer(waiting: list[Told], answer: int | KexportError) -> None:
    for each in waiting:
        if not each.done():
            each.set_result(answer)
