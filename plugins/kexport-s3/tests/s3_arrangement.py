"""What the tests of the object storage sink share: a sink on a fake server, events, and what is stored."""

from __future__ import annotations

import gzip
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pyarrow.parquet
import zstandard
from kexport_s3.config import S3Config
from kexport_s3.sink import S3Sink

from kexport import Event, SinkContext
from kexport.testing import SinkLog, make_context, make_event

from .fake_s3 import FakeS3

SECRET = "a-secret-that-nobody-may-see"


def context(log: SinkLog | None = None) -> SinkContext:
    return make_context("lake", log=log)


def settings(server: FakeS3, **changes: Any) -> S3Config:
    given: dict[str, Any] = {
        "url": "s3://lake/events",
        "endpoint": server.endpoint,
        "allow_http": True,
        "access_key_id": "someone",
        "secret_access_key": SECRET,
    }
    return S3Config(**{**given, **changes})


@asynccontextmanager
async def opened(server: FakeS3, *, log: SinkLog | None = None, **changes: Any) -> AsyncIterator[S3Sink]:
    sink = S3Sink(settings(server, **changes), context(log))
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


def mixed(first: int, last: int, *resources: str) -> list[Event]:
    """Events that take turns among the resources."""
    return [
        make_event(number, resource=resources[number % len(resources)]) for number in range(first, last + 1)
    ]


def unpack(key: str, body: bytes) -> bytes:
    if key.endswith(".zst"):
        return zstandard.ZstdDecompressor().decompress(body)
    return gzip.decompress(body) if key.endswith(".gz") else body


def rows(body: bytes) -> list[dict[str, Any]]:
    """What a Parquet object holds, row by row."""
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()
    return found


def lines(written: Sequence[Event]) -> bytes:
    return b"".join(event.encode() + b"\n" for event in written)


def numbers(server: FakeS3, part: str = "") -> list[int]:
    """The numbers of the stored events in the order of names, repeats included."""
    return [
        int(msgspec.json.decode(line)["sequence"])
        for key in server.names
        if part in key
        for line in unpack(key, server.objects[key]).splitlines()
    ]
