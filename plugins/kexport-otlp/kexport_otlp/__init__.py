"""The otlp sink: events as OpenTelemetry log records, over OTLP/HTTP with protobuf or OTLP/gRPC.

`write` returns when the server has answered every request with full success. An answer that says that
records were rejected leads to a search for them: they are set aside, and all others are delivered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kexport import BatchConfig, SinkType, hookimpl
from kexport_otlp.config import OtlpConfig
from kexport_otlp.sink import OtlpSink

# A record is up to 600 bytes longer than its event: a full batch still fits into one request of 4 MB.
otlp_sink = SinkType("otlp", OtlpConfig, OtlpSink, batch=BatchConfig(max_events=1000, max_bytes=3_200_000))


@hookimpl
def kexport_sinks() -> Iterable[SinkType[Any]]:
    return [otlp_sink]
