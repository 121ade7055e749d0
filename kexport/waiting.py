"""Waiting that neither loses a cancellation nor leaves work half known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Any, Protocol


class Connection(Protocol):
    """One of a server's, as aiohttp has them; without a transport once it is closed."""

    @property
    def transport(self) -> asyncio.Transport | None: ...


async def ended(connections: Iterable[Connection], end: Awaitable[None]) -> None:
    """Let a server end; a connection that a slow reader would keep open is dropped then."""
    transports = [connection.transport for connection in connections]
    await end
    for transport in transports:
        if transport:
            transport.abort()


async def wait_set(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, or so many seconds; not `wait_for`, which can swallow a cancellation (3.11)."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def settled(work: asyncio.Future[Any]) -> bool:
    """Wait until `work` is done, come what may; whether we were cancelled meanwhile."""
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


async def end(tasks: Iterable[asyncio.Task[Any]], *, seconds: float | None = None) -> set[asyncio.Task[Any]]:
    """Cancel and wait for them, so many seconds at most; those that go on even so."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    return (await asyncio.wait(tasks, timeout=seconds))[1] if tasks else set()
