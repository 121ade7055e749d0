"""A server of raw connections, for answers that no HTTP library would give."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from ssl import SSLContext

from kexport.waiting import end

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(talk: Talk, *, ssl: SSLContext | None = None) -> AsyncIterator[int]:
    """Serve each connection by `talk`, on a free port of loopback, which this gives.

    A connection ends with its `talk`, also when the client left in the middle of it, and at the latest with
    the block. What else `talk` raises fails the block, as an ExceptionGroup.
    """
    talks: set[asyncio.Task[None]] = set()
    errors: list[Exception] = []

    # Not a coroutine: one that is cancelled before its first step could not even close the connection.
    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            talks.discard(task)
            writer.close()
            if not task.cancelled() and isinstance(error := task.exception(), Exception):
                errors.append(error)

        task = asyncio.ensure_future(_until_left(talk, reader, writer))
        talks.add(task)
        task.add_done_callback(ended)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=ssl)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await end(talks)
        await asyncio.sleep(0)  # closed transports tell their protocols
    if errors:
        raise ExceptionGroup("a server of raw connections failed", errors)


async def _until_left(talk: Talk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await talk(reader, writer)
    except (OSError, asyncio.IncompleteReadError):
        writer.transport.abort()


async def forward(
    port: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    sent: Callable[[bytes], object] = len,
) -> None:
    """A `talk` that passes everything on to another port of loopback; `sent` sees what the client sent."""
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, far_writer, sent))
            both.create_task(_copy(far_reader, writer, len))
    except* OSError:
        writer.transport.abort()  # one side left
    finally:
        far_writer.transport.abort()


async def _copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, seen: Callable[[bytes], object]
) -> None:
    while piece := await source.read(1 << 16):
        seen(piece)
        target.write(piece)
        await target.drain()
    target.close()
