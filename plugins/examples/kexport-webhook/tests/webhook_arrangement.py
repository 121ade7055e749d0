"""What the tests of the webhook sink share: an endpoint on loopback, a sink, events."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

import msgspec
from aiohttp import web
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from kexport_webhook.config import WebhookConfig
from kexport_webhook.sink import WebhookSink

from kexport import Event, SinkContext
from kexport.testing import make_event
from kexport.testing.port import Port

_BATCH = "application/cloudevents-batch+json"


class Recorder:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda sentence, **fields: self.lines.append((level, sentence, fields))


class Received(NamedTuple):
    """One request; its events are read by the CloudEvents SDK, which shares nothing with the sink."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    peer: object

    @property
    def events(self) -> list[BaseCloudEvent]:
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers["content-type"].startswith(_BATCH):
            lines = msgspec.json.decode(self.body, type=list[msgspec.Raw])
            return [JSONFormat().read(None, bytes(line)) for line in lines]
        return [from_http_event(HTTPMessage(headers, self.body))]

    @property
    def numbers(self) -> list[int]:
        return [number(event) for event in self.events]


Handler = Callable[[Received], Awaitable[web.StreamResponse | None]]


class Endpoint:
    """Keeps the requests that it takes; `scripted` answers come first, then refusals of `poison`."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.taken: list[Received] = []
        self.poison: set[int] = set()
        self.most_bytes = 64_000_000
        self.scripted: list[Handler | web.Response] = []
        self.url = ""
        self.port = 0

    @property
    def numbers(self) -> list[int]:
        """Which made-up events were taken, in order, with repeats."""
        return [each for request in self.taken for each in request.numbers]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        body = await request.read()
        received = Received(request.method, request.path_qs, request.headers, body, peer)
        self.requests.append(received)
        if self.scripted:
            step = self.scripted.pop(0)
            if isinstance(step, web.Response):
                return step
            if (answer := await step(received)) is not None:
                return answer
        if len(body) > self.most_bytes:
            return web.Response(status=413)
        if self.poison & set(received.numbers):
            return web.Response(status=400, text="I do not like one of these")
        self.taken.append(received)
        return web.Response(status=202)

    @asynccontextmanager
    async def running(self, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
        with Port() as port:
            self.port = port.number
            self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/hook"
            await self.start(tls=tls)
            try:
                yield self
            finally:
                await self.stop()

    async def start(self, *, tls: ssl.SSLContext | None = None) -> None:
        """Listen, after `stop` once more; the port is held until the block of `running` ends."""
        app = web.Application(client_max_size=64_000_000)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls).start()

    async def stop(self) -> None:
        """Connections end, requests under way too, and nobody listens any more."""
        await self._runner.cleanup()


def build(url: str, *, log: Recorder | None = None, **settings: Any) -> WebhookSink:
    context = SinkContext(name="audit", cluster="test", log=cast("Any", log or Recorder()))
    return WebhookSink(WebhookConfig(url=url, **settings), context)


@asynccontextmanager
async def opened(
    endpoint: Endpoint, *, log: Recorder | None = None, **settings: Any
) -> AsyncIterator[WebhookSink]:
    sink = build(endpoint.url, log=log, **settings)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


def events(first: int, last: int) -> list[Event]:
    return [make_event(number) for number in range(first, last + 1)]


def number(event: BaseCloudEvent) -> int:
    """Which made-up event this is."""
    return int(event.get_attributes()["sequence"])
