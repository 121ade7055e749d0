"""The object storage sink: events as compressed files in S3, Google Cloud Storage or Azure.

An object holds the events of one batch and one folder, and appears whole or not at all. Its name follows
from the events in it, so that a repeated upload is the same object. `write` returns when all are stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kexport import BatchConfig, SinkType, hookimpl
from kexport_s3.config import S3Config
from kexport_s3.sink import S3Sink

# Large and waited for: thousands of small objects cost more to read than to store. Meanwhile the events are
# in the journal, and only there.
s3_sink = SinkType(
    "s3", S3Config, S3Sink, batch=BatchConfig(max_events=50_000, max_bytes=64_000_000, max_wait_seconds=60)
)


@hookimpl
def kexport_sinks() -> Iterable[SinkType[Any]]:
    return [s3_sink]
