"""The server of otlp_arrangement behind gRPC: the same records, poison and script, other answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as Packed  # type: ignore[import-untyped, unused-ignore]
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from kexport.testing import SinkLog

from .otlp_arrangement import OtlpServer, Received, build, number

SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"


class Failure(NamedTuple):
    """What the server answers in place of a response."""

    code: grpc.StatusCode
    message: str = ""
    details: bytes = b""

    def say(self, context: grpc.ServicerContext) -> NoReturn:
        if self.details:
            context.set_trailing_metadata((("grpc-status-details-bin", self.details),))
        context.abort(self.code, self.message)
        raise AssertionError("abort raises")


class GrpcServer(OtlpServer):
    """`scripted` steps are Failures, responses as bytes, or coroutine functions that give one or None."""

    def _export(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Runs in a thread of gRPC's; what the test has scripted runs in the test's own loop."""
        judged = asyncio.run_coroutine_threadsafe(
            self._judged(request, dict(context.invocation_metadata())), self._loop
        )
        context.add_callback(judged.cancel)
        answer = judged.result()
        if isinstance(answer, Failure):
            answer.say(context)
        return answer

    async def _judged(self, request: bytes, metadata: Mapping[str, str]) -> Failure | bytes:
        message = ExportLogsServiceRequest.FromString(request)
        received = Received("", metadata, len(request), request, message)
        self.requests.append(received)
        step = self.scripted.pop(0) if self.scripted else None
        if callable(step):
            step = await step(received)
        return step if isinstance(step, Failure | bytes) else self.answer(received)

    def answer(self, received: Received) -> bytes:
        good: list[LogRecord] = [each for each in received.records if number(each) not in self.poison]
        self.stored += good
        return partial(len(received.records) - len(good), self.message)

    async def start(self, *, tls: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        method = grpc.unary_unary_rpc_method_handler(self._export)
        # On threads: an aio server's tasks would be in one loop with the sink's, and be taken for them.
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"Export": method}),)
        )
        address, add = f"127.0.0.1:{self.port}", self._server.add_insecure_port
        assert self.port == (self._server.add_secure_port(address, tls) if tls else add(address))
        self._server.start()

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.stop(None).wait)


def partial(rejected: int = 0, message: str = "") -> bytes:
    answer = ExportLogsServiceResponse()
    if rejected or message:
        answer.partial_success.rejected_log_records = rejected
        answer.partial_success.error_message = message
    return bytes(answer.SerializeToString())


def retry_info(seconds: int, nanos: int = 0, *, kind: str = "google.rpc.RetryInfo") -> bytes:
    """A google.rpc.Status with a code, a message, and this detail behind another one."""
    delay = Duration(seconds=seconds, nanos=nanos).SerializeToString()
    info = b"\x0a" + bytes([len(delay)]) + delay
    details = [
        Packed(type_url="type.googleapis.com/google.rpc.DebugInfo", value=b"\x12\x01x"),
        Packed(type_url=f"type.googleapis.com/{kind}", value=info),
    ]
    encoded = [each.SerializeToString() for each in details]
    return b"\x08\x08\x12\x04full" + b"".join(b"\x1a" + bytes([len(each)]) + each for each in encoded)


@asynccontextmanager
async def opened(server: OtlpServer, *, log: SinkLog | None = None, **settings: Any) -> AsyncIterator[Any]:
    sink = build(server.endpoint, log=log, protocol="grpc", **settings)
    try:
        await sink.open()
        server.requests.clear()
        yield sink
    finally:
        await sink.close()
