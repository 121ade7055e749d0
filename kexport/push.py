"""The metrics, sent over OTLP/HTTP every `telemetry.interval_seconds`.

Nothing here is in the way of an event: a reading costs about what three looks at `/metrics` cost, the
encoding has a thread, and a far end that is down, slow or mad costs one request at a time, of limited
length. Such a request is not repeated, since the next reading has all that it had. That it failed is said
when it begins, when it ends, and in the metrics. OpenTelemetry is an extra, and imported only where an
endpoint is configured.
"""

from __future__ import annotations

import asyncio
import gzip
import ssl
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from kexport import __version__
from kexport.errors import ConfigError, PushError
from kexport.tables import TelemetryConfig
from kexport.telemetry import get_log
from kexport.view import View

PATH = "/v1/metrics"
MOST_ANSWER_BYTES = 64 << 10
LAST_SECONDS = 2.0
_PROTOBUF = "application/x-protobuf"
_log = get_log("push")


def load() -> ModuleType:
    """What knows OpenTelemetry (kexport.points); raises ConfigError where it is not installed."""
    try:
        from kexport import points  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"telemetry.otlp_endpoint: needs {error.name}, which is not installed:"
            " pip install 'kexport[otlp-metrics]', or remove the key"
        ) from error
    return points


class Push:
    """`run` until cancelled, then `close`, which sends once more. Each push is as configured at that time."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._stats = view.stats
        self._points: Any = None  # of a module that may not be there
        self._sender: Sender | None = None

    @property
    def _config(self) -> TelemetryConfig:
        return self._view.config().root.telemetry

    async def run(self) -> None:
        while True:
            if self._config.otlp_endpoint:
                await self.once(self._config.timeout_seconds)
            await asyncio.sleep(self._config.interval_seconds)

    async def once(self, seconds: float) -> None:
        """Read and send; whatever goes wrong is counted, and said when it begins."""
        sender = await self._current()
        try:
            module = load()
            self._points = self._points or module.Points(self._view)
            async with asyncio.timeout(seconds):
                data = self._points.read(self._config.resource_attributes)
                module.check(await sender.send(await asyncio.to_thread(module.encoded, data)))
        except Exception as error:  # noqa: BLE001  (metrics must not end what they are about)
            self._failed(_told(error, seconds), sender.shown)
        else:
            self._stats.pushes += 1
            if self._stats.push_error:
                _log.info("metrics are accepted again", url=sender.shown)
            self._stats.push_error = ""

    async def _current(self) -> Sender:
        """What sends as the configuration now has it."""
        config = self._config
        if self._sender and self._sender.config == config:
            return self._sender
        if self._sender:
            await self._sender.close()
        self._sender = Sender(config)
        _log.info("metrics are sent over OTLP", url=self._sender.shown, every=config.interval_seconds)
        return self._sender

    def _failed(self, why: str, url: str) -> None:
        self._stats.push_failures += 1
        if not self._stats.push_error:
            _log.warning("metrics cannot be sent; exporting goes on", url=url, error=why)
        self._stats.push_error = why

    async def close(self) -> None:
        """The last figures, to a far end that answered lately."""
        if self._config.otlp_endpoint and not self._stats.push_error:
            await self.once(min(LAST_SECONDS, self._config.timeout_seconds))
        if self._sender:
            await self._sender.close()


async def probe(config: TelemetryConfig, seconds: float) -> str:
    """What a request without a metric comes to; raises PushError, ConfigError."""
    points, sender = load(), Sender(config)
    try:
        async with asyncio.timeout(seconds):
            points.check(await sender.send(gzip.compress(b"")))
    except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
        raise PushError(f"{sender.shown}: {_told(error, seconds)}") from error
    finally:
        await sender.close()
    return f"{sender.shown} takes metrics over OTLP"


class Sender:
    """One POST at a time; raises PushError, ConfigError and what aiohttp raises."""

    def __init__(self, config: TelemetryConfig) -> None:
        self.config = config
        self._url = config.otlp_endpoint
        if urlsplit(self._url).path in {"", "/"}:
            head, mark, query = self._url.partition("?")
            self._url = head.rstrip("/") + PATH + mark + query
        self.shown = self._url.partition("?")[0]  # a query may hold a key
        self._session: aiohttp.ClientSession | None = None

    async def send(self, body: bytes) -> bytes:
        """The answer to a request, which is gzipped."""
        session = self._session = self._session or self._opened()
        async with session.post(self._url, data=body, allow_redirects=False) as response:
            answer = await _read(response.content)
            if response.status != 200:
                told = answer[:200].decode(errors="replace").strip()
                raise PushError(f"HTTP {response.status} {response.reason}{': ' if told else ''}{told}")
        return answer

    def _opened(self) -> aiohttp.ClientSession:
        headers = {
            "User-Agent": f"kexport/{__version__}",
            **self.config.otlp_headers,
            "Content-Type": _PROTOBUF,
            "Content-Encoding": "gzip",
        }
        return aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(ssl=self._tls()))

    def _tls(self) -> ssl.SSLContext | bool:
        if not self.config.otlp_ca_file:
            return True
        try:
            return ssl.create_default_context(cafile=self.config.otlp_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"telemetry.otlp_ca_file: {self.config.otlp_ca_file} cannot be used: {error}"
            ) from error

    async def close(self) -> None:
        if self._session:
            await self._session.close()


async def _read(stream: aiohttp.StreamReader) -> bytes:
    body = b""
    async for chunk in stream.iter_any():
        body += chunk
        if len(body) > MOST_ANSWER_BYTES:
            raise PushError(f"an answer of more than {MOST_ANSWER_BYTES} bytes, which is no OTLP answer")
    return body


def _told(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    return str(error) or type(error).__name__
