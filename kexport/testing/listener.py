"""The socket of the fake API server, which can close and come back on the same port."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from kexport.testing.port import Port
from kexport.waiting import ended

# The API server refuses bodies above 3 MiB.
_MOST_BODY_BYTES = 3 * 1024 * 1024
_SHUTDOWN_SECONDS = 0.2


class Listener:
    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        self._answer = answer
        self._http: web.Server | None = None
        self._sockets: asyncio.Server | None = None
        self._port: Port | None = None

    async def start(self, port: int) -> int:
        """Listen on loopback, and return the port: the one that was asked for, or a free one for 0.

        It stays ours until `close`, also while nobody listens.
        """
        if self._sockets:
            return port
        self._port = self._port or Port(port)
        loop = asyncio.get_running_loop()
        # Handlers end with their connection: an open watch whose client is gone must not linger.
        self._http = web.Server(
            self._answer, request_factory=_request, handler_cancellation=True, access_log=None
        )
        self._sockets = await loop.create_server(self._http, "127.0.0.1", self._port.number)
        return self._port.number

    async def stop(self) -> None:
        if not self._sockets or not self._http:
            return
        sockets, http = self._sockets, self._http
        self._sockets = self._http = None
        sockets.close()
        await ended(http.connections, http.shutdown(_SHUTDOWN_SECONDS))
        await sockets.wait_closed()

    async def close(self) -> None:
        await self.stop()
        if self._port:
            self._port.close()
            self._port = None


def _request(message: Any, body: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, body, protocol, writer, task, loop, client_max_size=_MOST_BODY_BYTES)
