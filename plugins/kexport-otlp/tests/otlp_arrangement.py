"""What the tests of the otlp sink share: a server on loopback that takes OTLP logs, a sink, events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import msgspec
from aiohttp import web
from kexport_otlp.config import OtlpConfig
from kexport_otlp.sink import OtlpSink
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from kexport import Event, SinkContext
from kexport.testing import SinkLog, make_context, make_event
from kexport.testing.port import Port

PROTOBUF = "application/x-protobuf"


class Received(NamedTuple):
    """One request, and its records before the server judged them."""

    path: str
    headers: Mapping[str, str]
    sent_bytes: int
    body: bytes
    message: ExportLogsServiceRequest

    @property
    def records(self) -> list[LogRecord]:
        return [
            record for each in self.message.resource_logs for scope in each.scope_logs
            for record in scope.log_records
        ]  # fmt: skip

    @property
    def numbers(self) -> list[int]:
        return [number(record) for record in self.records]


class OtlpServer:
    """Keeps the records that it takes; `poison` says which it rejects, `scripted` answers come first."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.stored: list[LogRecord] = []
        self.poison: set[int] = set()
        self.message = ""
        self.scripted: list[Any] = []  # answers, and coroutine functions that give one or None
        self.endpoint = ""
        self.port = 0

    @property
    def numbers(self) -> list[int]:
        """Which made-up events are stored, in order, with repeats."""
        return [number(record) for record in self.stored]

    @property
    def exports(self) -> list[Received]:
        """The requests that carried records."""
        return [request for request in self.requests if request.records]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()  # decompressed by aiohttp
        received = Received(
            request.path_qs, request.headers, request.content_length or 0, body,
            ExportLogsServiceRequest.FromString(body),
        )  # fmt: skip
        self.requests.append(received)
        if self.scripted:
            step = self.scripted.pop(0)
            if isinstance(step, web.Response):
                return step
            answer: web.StreamResponse | None = await step(request, received)
            if answer is not None:
                return answer
        return self.take(received)

    def take(self, received: Received) -> web.Response:
        good = [record for record in received.records if number(record) not in self.poison]
        self.stored += good
        return partial(len(received.records) - len(good), self.message)

    @asynccontextmanager
    async def running(self, *, tls: Any = None) -> AsyncIterator[Self]:
        with Port() as port:
            self.port = port.number
            self.endpoint = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
            await self.start(tls=tls)
            try:
                yield self
            finally:
                await self.stop()

    async def start(self, *, tls: Any = None) -> None:
        """Listen, after `stop` once more; the port is held until the block of `running` ends."""
        app = web.Application(client_max_size=64_000_000)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls).start()

    async def stop(self) -> None:
        """Connections end, requests under way too, and nobody listens any more."""
        await self._runner.cleanup()


def partial(rejected: int = 0, message: str = "") -> web.Response:
    """A protobuf answer; without a rejection and a message it is empty, as the Collector's."""
    answer = ExportLogsServiceResponse()
    if rejected or message:
        answer.partial_success.CopyFrom(
            ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=message)
        )
    return web.Response(body=answer.SerializeToString(), content_type=PROTOBUF)


def context(log: SinkLog | None = None) -> SinkContext:
    return make_context("audit", log=log)


def build(endpoint: str, *, log: SinkLog | None = None, **settings: Any) -> OtlpSink:
    return OtlpSink(OtlpConfig(endpoint=endpoint, **settings), context(log))


@asynccontextmanager
async def opened(
    server: OtlpServer, *, log: SinkLog | None = None, **settings: Any
) -> AsyncIterator[OtlpSink]:
    sink = build(server.endpoint, log=log, **settings)
    try:
        await sink.open()
        server.requests.clear()
        yield sink
    finally:
        await sink.close()


def events(first: int, last: int) -> list[Event]:
    return [make_event(number) for number in range(first, last + 1)]


def large(number: int, size: int = 5_000) -> Event:
    return make_event(number, data={"object": {"data": {"text": "x" * size}}})


def number(record: LogRecord) -> int:
    """Which made-up event a record holds."""
    return int(msgspec.json.decode(record.body.string_value)["sequence"])


def attributes(record: LogRecord) -> dict[str, str]:
    return {each.key: each.value.string_value for each in record.attributes}
