"""Requests to one HTTPS server over connections that are kept and shared by all threads."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path

# The API server closes a connection that is idle for 90 s; one that old isn't used again.
_REUSE_WITHIN_SECONDS = 30.0


class HttpsClient:
    """A client of the server on that loopback port, whose certificate is in `ca_file`."""

    def __init__(self, port: int, *, ca_file: Path) -> None:
        self._port = port
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._kept: list[tuple[float, http.client.HTTPSConnection]] = []
        self._closed_times = 0

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        max_wait_seconds: float,
    ) -> tuple[int, bytes]:
        """Status and whole body. Nothing is sent twice: a write could happen twice."""
        closed_times = self._closed_times
        connection = self._take() or self._connect()
        try:
            if connection.sock is None:
                connection.timeout = max_wait_seconds
            else:
                connection.sock.settimeout(max_wait_seconds)
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            answer = response.read()
        except BaseException:
            connection.close()
            raise
        self._keep(connection, closed_times=closed_times)
        return response.status, answer

    def close(self) -> None:
        """Close what is kept now, and what is in use now when its request ends."""
        with self._lock:
            self._closed_times += 1
            kept, self._kept = self._kept, []
        for _, connection in kept:
            connection.close()

    def _take(self) -> http.client.HTTPSConnection | None:
        with self._lock:
            if not self._kept:
                return None
            kept_at, connection = self._kept.pop()
        if time.monotonic() - kept_at < _REUSE_WITHIN_SECONDS:
            return connection
        connection.close()
        return None

    def _keep(self, connection: http.client.HTTPSConnection, *, closed_times: int) -> None:
        with self._lock:
            if closed_times == self._closed_times:
                self._kept.append((time.monotonic(), connection))
                return
        connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self._ca_file))
        return http.client.HTTPSConnection("127.0.0.1", self._port, context=context)
