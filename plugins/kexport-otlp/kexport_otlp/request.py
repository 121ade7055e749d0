"""Records -> ExportLogsServiceRequests of bounded size.

Only the frame around serialized records is put together by hand. So a record is encoded once, however often
a request is split, and the size of a request is known before it is made. A test holds it against the
messages of opentelemetry-proto.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from kexport_otlp.config import OtlpConfig

_VERSION = version("kexport")
_RESOURCE_LOGS = b"\x0a"  # ExportLogsServiceRequest.resource_logs = 1, length-delimited
_FIELD_2 = b"\x12"  # ResourceLogs.scope_logs = 2, and ScopeLogs.log_records = 2
_FRAME_BYTES = 6  # most that a tag and a length take, for anything below 32 GB
_GZIP_LEVEL = 3  # half the time of the usual 6, and a few percent more bytes


class Frame(NamedTuple):
    """What is the same in every request: the resource and the scope, serialized."""

    resource: bytes
    scope: bytes

    @property
    def size(self) -> int:
        """Most bytes that a request has besides its records."""
        return len(self.resource) + len(self.scope) + 2 * _FRAME_BYTES

    def around(self, records: Sequence[bytes]) -> bytes:
        """The serialized request with these serialized LogRecords."""
        parts = [self.scope]
        for record in records:
            parts += (_FIELD_2, _varint(len(record)), record)
        scope_logs = b"".join(parts)
        length = _varint(len(scope_logs))
        size = _varint(len(self.resource) + len(_FIELD_2) + len(length) + len(scope_logs))
        return b"".join((_RESOURCE_LOGS, size, self.resource, _FIELD_2, length, scope_logs))


def frame(config: OtlpConfig) -> Frame:
    """The frame that settings and environment ask for; the scope is kexport and its version."""
    attributes = resource(config).attributes
    described = resource_pb2.Resource(
        attributes=[KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]
    )
    scope = InstrumentationScope(name="kexport", version=_VERSION)
    return Frame(
        ResourceLogs(resource=described).SerializeToString(), ScopeLogs(scope=scope).SerializeToString()
    )


def resource(config: OtlpConfig) -> Resource:
    """Our default, under OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, under the settings.

    Resource.create would add telemetry.sdk.*, which is not so: these records come from no SDK.
    """
    ours = Resource({"service.name": "kexport", "service.version": _VERSION})
    return ours.merge(OTELResourceDetector().detect()).merge(Resource(dict(config.resource_attributes)))


def split(sizes: Sequence[int], *, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Spans of records, in order, that fit into a request each; one too large is a span of its own."""
    first, total = 0, 0
    for index, size in enumerate(sizes):
        if index > first and total + size + _FRAME_BYTES > max_bytes:
            yield first, index
            first, total = index, 0
        total += size + _FRAME_BYTES
    if first < len(sizes):
        yield first, len(sizes)


def compress(request: bytes) -> bytes:
    return gzip.compress(request, compresslevel=_GZIP_LEVEL, mtime=0)


def _value(value: object) -> AnyValue:
    """A resource attribute's value; the environment gives strings, the settings plain scalars."""
    if isinstance(value, bool):  # before int, which it is, too
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=str(value))


def _varint(number: int) -> bytes:
    """Protobuf's form of a length: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
