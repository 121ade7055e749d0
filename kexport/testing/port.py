"""A port of loopback for a server that may go away and come back: nobody else gets it in between."""

import socket
import sys
from types import TracebackType
from typing import Self


class Port:
    """`number` is free, or the one that was asked for; a socket that does not listen holds it until `close`.

    Who connects meanwhile is refused. The server binds its own socket beside it, with SO_REUSEADDR, which
    servers of asyncio and gRPC set. Only Linux allows that; elsewhere the port is found free, and not held.
    """

    def __init__(self, number: int = 0) -> None:
        self._socket = socket.socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("127.0.0.1", number))
            self.number: int = self._socket.getsockname()[1]
        except OSError:
            self._socket.close()
            raise
        if sys.platform != "linux":
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()
