"""A TCP proxy between kexport and one far end, whose connections can be cut, halved, stalled and slowed down.

It runs on a loop and a thread of its own; all its methods may be called from any other thread. It takes no
part in what is sent: bytes are passed on in order, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.testbed import free_port

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends RST and not FIN


class _Link:
    """One connection and its other half."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.ends = (client, server)
        self.halve = False
        self.dead = False

    def reset(self) -> None:
        for end in self.ends:
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()

    def close(self) -> None:
        for end in self.ends:
            end.close()


class Proxy:
    """`with Proxy(port) as proxy`: listens on `proxy.port`, leads to that port of 127.0.0.1."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {target}", daemon=True)
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._delay = 0.0
        self._bytes_per_second = 0.0

    def cut(self) -> None:
        """Every connection is reset now; new ones are taken."""
        self._on_each(_Link.reset)

    def halve(self) -> None:
        """Of what the far end sends next on a connection one half arrives, and then a reset."""
        self._on_each(lambda link: setattr(link, "halve", True))

    def forget(self) -> None:
        """What is open stays open and passes nothing any more, as behind a NAT that forgot; new ones work."""
        self._on_each(lambda link: setattr(link, "dead", True))

    def stall(self) -> None:
        """Nothing passes until `recover`, on old connections and new ones."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def slow(self, *, delay: float = 0.0, bytes_per_second: float = 0.0) -> None:
        """Each piece waits `delay` seconds; at most so many bytes pass in each direction of a connection."""
        self._delay, self._bytes_per_second = delay, bytes_per_second

    def recover(self) -> None:
        """Pass everything on again at once."""
        self.slow()
        self._loop.call_soon_threadsafe(self._open.set)

    def __enter__(self) -> Self:
        self._thread.start()
        self._open.set()
        starting = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _on_each(self, do: Callable[[_Link], None]) -> None:
        def all_of_them() -> None:
            for link in list(self._links):
                do(link)

        self._loop.call_soon_threadsafe(all_of_them)

    async def _end(self) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports that were closed tell their protocols

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # The callback of start_server must not end with an exception or as cancelled: asyncio would complain.
        with contextlib.suppress(asyncio.CancelledError):
            await self._link(reader, writer)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            up = asyncio.create_task(self._pass(reader, far_writer, link, downwards=False))
            down = asyncio.create_task(self._pass(far_reader, writer, link, downwards=True))
            try:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel()
                down.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        finally:
            self._links.discard(link)
            link.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link, *, downwards: bool
    ) -> None:
        """Until one end closes; then both are closed, since none of our protocols closes by halves."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._open.wait()
                if link.dead:
                    await asyncio.Event().wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                if link.halve and downwards:
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    link.reset()
                    return
                await self._send(writer, data)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while data:
            size = max(1, int(self._bytes_per_second / 20)) if self._bytes_per_second else len(data)
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            if data:
                await asyncio.sleep(0.05)
