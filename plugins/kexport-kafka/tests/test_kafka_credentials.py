"""The Kafka sink and brokers that do not let it in: named, never shown, and not retried in silence."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaError
from kexport_kafka import failure

from kexport import ConfigError, TransientError
from kexport.testing import SinkLog
from kexport.testing.raw import serving

from .kafka_arrangement import build
from .mock_kafka import METADATA


@asynccontextmanager
async def broker_that_knows_nobody() -> AsyncIterator[str]:
    """A broker that speaks as much Kafka as it takes to refuse a password."""

    def answer(key: int, version: int) -> bytes:
        if key == 18:  # ApiVersions: we know version 0 of it, SaslHandshake 1 and SaslAuthenticate 0
            versions = [(18, 0, 0), (17, 0, 1), (36, 0, 0), (METADATA, 0, 1)]
            return struct.pack(">hi", 35 if version else 0, len(versions)) + b"".join(
                struct.pack(">hhh", *v) for v in versions
            )
        if key == 17:
            return struct.pack(">hih5s", 0, 1, 5, b"PLAIN")
        return struct.pack(">hh9si", 58, 9, b"who is it", 0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            key, version, correlation = struct.unpack(">hhi", (await reader.readexactly(size))[:8])
            body = struct.pack(">i", correlation) + answer(key, version)
            writer.write(struct.pack(">i", len(body)) + body)

    async with serving(serve) as port:
        yield f"127.0.0.1:{port}"


async def test_a_wrong_password_is_refused_at_open_and_never_shown() -> None:
    async with broker_that_knows_nobody() as bootstrap:
        log = SinkLog()
        sink = build(bootstrap, log=log, username="ann", password="s3cret", sasl_mechanism="PLAIN")
        with pytest.raises(ConfigError, match=r"refuse the credentials.*who is it") as refused:
            await sink.open()
        await sink.close()
    assert "s3cret" not in str(refused.value) + str(log.entries)


def test_a_password_refused_later_is_named_when_records_time_out() -> None:
    timed_out, refused = KafkaError(KafkaError._MSG_TIMED_OUT), KafkaError(KafkaError._AUTHENTICATION)
    error = failure.failure(timed_out, place="sinks.audit", topic="t", written=3, heard=[refused, timed_out])
    assert isinstance(error, TransientError)
    assert "refuse the credentials" in str(error)
    assert error.written == 3


def test_an_untrusted_certificate_names_the_setting() -> None:
    refused = KafkaError(KafkaError._SSL, "SSL handshake failed: certificate verify failed")
    error = failure.opening_failure([refused], place="sinks.audit", topic="", brokers="b:1")
    assert isinstance(error, ConfigError)
    assert "ca_file" in str(error)


@pytest.mark.parametrize("setting", ["ca_file", "cert_file"])
async def test_a_file_that_is_not_there_is_named(setting: str) -> None:
    files: dict[str, Any] = {setting: "/no/such.pem"}
    sink = build("b:1", tls=True, **files)
    with pytest.raises(ConfigError, match=rf"sinks\.audit\.{setting}: there is no file /no/such\.pem"):
        await sink.open()
    await sink.close()
