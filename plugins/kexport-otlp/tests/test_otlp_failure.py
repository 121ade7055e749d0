"""Servers and networks that fail: unknown means not delivered, and every message names the way out."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess

from kexport import ConfigError, TransientError
from kexport.testing import SinkLog
from kexport.testing.raw import serving

from .otlp_arrangement import PROTOBUF, OtlpServer, Received, build, events, opened

TLS = Path(__file__).parents[3] / "tests" / "tls"


async def failed_write(answer: web.Response, **settings: Any) -> TransientError:
    """The error of a write that met this answer; the same sink can write behind it."""
    async with OtlpServer().running() as server, opened(server, **settings) as sink:
        server.scripted = [answer]
        with pytest.raises(TransientError) as failed:
            await sink.write(events(1, 3))
        assert failed.value.written == 0
        assert server.numbers == []
        await sink.write(events(1, 3))
        assert server.numbers == [1, 2, 3]
    return failed.value


@pytest.mark.parametrize("status", [408, 429, 501, 502, 503, 504])
async def test_trouble_of_the_server_is_transient(status: int) -> None:
    error = await failed_write(web.Response(status=status, text="queue is full"))
    assert str(status) in str(error)
    assert "queue is full" in str(error)
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("7", 7, 7), ("0", 0, 0), ("1.5", 1.5, 1.5), ("DATE", 250, 300), ("PAST", 0, 0)],
)
async def test_retry_after_is_heard_as_seconds_and_as_a_date(said: str, least: float, most: float) -> None:
    now = datetime.now(UTC)
    said = said.replace("DATE", format_datetime(now + timedelta(seconds=300), usegmt=True))
    said = said.replace("PAST", format_datetime(now - timedelta(days=1), usegmt=True))
    error = await failed_write(web.Response(status=429, headers={"Retry-After": said}))
    assert error.retry_after is not None
    assert least <= error.retry_after <= most


@pytest.mark.parametrize("said", ["soon", "", "nan", "inf"])
async def test_a_retry_after_without_a_meaning_is_none(said: str) -> None:
    assert (await failed_write(web.Response(status=503, headers={"Retry-After": said}))).retry_after is None


@pytest.mark.parametrize(
    ("status", "way_out"),
    [(401, "headers"), (403, "write logs"), (404, "4318"), (405, "4318"), (415, "gzip")],
)
async def test_a_refusal_is_transient_when_writing_and_final_when_opening(status: int, way_out: str) -> None:
    assert way_out in str(await failed_write(web.Response(status=status)))
    async with OtlpServer().running() as server:
        server.scripted = [web.Response(status=status)]
        sink = build(server.endpoint)
        with pytest.raises(ConfigError, match=rf"sinks\.audit.*{status}.*{way_out}"):
            await sink.open()
        await sink.close()


@pytest.mark.parametrize("status", [301, 302, 304, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(status: int) -> None:
    answer = web.Response(status=status, headers={"Location": "http://login.example.org/"})
    assert "redirects are not followed" in str(await failed_write(answer))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>please log in</html>", "text/html"),
        (b"OK", "text/plain"),
        (b"\xff\xff\xff", PROTOBUF),
        (b"[1]", "application/json"),
        (b"{", "application/json"),
        (b'{"partialSuccess":{"rejectedLogRecords":"many"}}', "application/json"),
        (b"", "text/html"),
    ],
)
async def test_an_answer_that_is_not_otlp_proves_nothing(body: bytes, kind: str) -> None:
    error = await failed_write(web.Response(body=body, content_type=kind))
    assert "no OTLP answer and proves nothing" in str(error)
    if kind == "text/html" and body:
        assert "please log in" in str(error)


async def test_an_endless_answer_is_cut_short() -> None:
    answer = web.Response(body=b"x" * 3_000_000, content_type=PROTOBUF)
    assert "more than 1000000 bytes" in str(await failed_write(answer))


async def test_the_servers_status_message_is_shown() -> None:
    status = ExportLogsPartialSuccess(rejected_log_records=14, error_message="exporter is down")
    answer = web.Response(status=503, body=status.SerializeToString(), content_type=PROTOBUF)
    assert "(exporter is down)" in str(await failed_write(answer))
    answer = web.Response(status=503, text='{"code":14,"message":"down"}', content_type="application/json")
    assert "(down)" in str(await failed_write(answer))


async def test_what_was_sent_in_secret_is_not_shown() -> None:
    log = SinkLog()
    answer = web.Response(status=401, text="unknown token: Bearer s3cret")
    error = await failed_write(answer, headers={"authorization": "Bearer s3cret"}, log=log)
    assert "unknown token" in str(error)
    assert "s3cret" not in str(error) + log.text


async def test_a_key_in_the_query_is_not_shown() -> None:
    sink = build("http://127.0.0.1:1/v1/logs?api-key=s3cret")
    with pytest.raises(TransientError) as failed:
        await sink.open()
    await sink.close()
    assert "127.0.0.1:1/v1/logs" in str(failed.value)
    assert "s3cret" not in str(failed.value)


async def test_an_endpoint_that_finds_an_empty_request_bad_is_asked_again() -> None:
    async with OtlpServer().running() as server:
        server.scripted = [web.Response(status=400, text="Client sent an HTTP request to an HTTPS server.")]
        sink = build(server.endpoint)
        with pytest.raises(TransientError, match="http or https"):
            await sink.open()
        await sink.open()
        await sink.close()


async def test_a_failure_behind_some_requests_states_what_is_durable() -> None:
    async def passes(_request: web.Request, _received: Received) -> None:
        return None

    async with OtlpServer().running() as server, opened(server, max_request_bytes=5_000) as sink:
        server.scripted = [passes, passes, web.Response(status=503, headers={"Retry-After": "3"})]
        with pytest.raises(TransientError) as failed:
            await sink.write(events(1, 20))
        assert failed.value.written == len(server.numbers) > 0
        assert failed.value.retry_after == 3
        await sink.write(events(1, 20)[failed.value.written :])
        assert server.numbers == list(range(1, 21))


async def test_a_server_that_is_away_is_transient() -> None:
    away = build("http://127.0.0.1:1")
    with pytest.raises(TransientError, match="cannot be reached"):
        await away.open()
    with pytest.raises(TransientError, match="cannot be reached"):
        await away.write(events(3, 4))
    await away.close()


async def test_a_restarted_server_goes_on_getting_events() -> None:
    async with OtlpServer().running() as server:
        sink = build(server.endpoint)
        await sink.open()
        await sink.write(events(1, 2))
        await server.stop()
        with pytest.raises(TransientError) as failed:
            await sink.write(events(3, 4))
        assert failed.value.written == 0
        await server.start()
        await sink.write(events(3, 4))
        await sink.close()
    assert server.numbers == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 9\r\n\r\n\x0a",
        b"SSH-2.0\r\n\r\n",
    ],
)
async def test_a_connection_that_ends_within_the_answer_leaves_the_fate_unknown(said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read(10)
        writer.write(said)
        await writer.drain()

    async with serving(serve) as port:
        sink = build(f"http://127.0.0.1:{port}")
        with pytest.raises(TransientError, match="before the answer was complete") as failed:
            await sink.write(events(1, 2))
        await sink.close()
    assert failed.value.written == 0


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    async def never(_request: web.Request, _received: Received) -> None:
        await asyncio.Event().wait()

    async with OtlpServer().running() as server, opened(server, request_timeout_seconds=3) as sink:
        server.scripted = [never]
        with pytest.raises(TransientError, match="request_timeout_seconds = 3"):
            await sink.write(events(1, 2))
        await sink.write(events(1, 2))


def server_tls() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(TLS / "untrusted.crt", TLS / "untrusted.key")
    return made


async def test_tls_with_a_ca_file() -> None:
    async with (
        OtlpServer().running(tls=server_tls()) as server,
        opened(server, ca_file=str(TLS / "untrusted.crt")) as sink,
    ):
        await sink.write(events(1, 2))
        assert server.numbers == [1, 2]


async def test_tls_with_a_certificate_of_our_own() -> None:
    tls = server_tls()
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(TLS / "untrusted.crt")
    ca, key = str(TLS / "untrusted.crt"), str(TLS / "untrusted.key")
    async with OtlpServer().running(tls=tls) as server:
        async with opened(server, ca_file=ca, cert_file=ca, key_file=key) as sink:
            await sink.write(events(1, 2))
            assert server.numbers == [1, 2]
        without = build(server.endpoint, ca_file=ca)
        with pytest.raises(TransientError):
            await without.open()
        await without.close()


async def test_an_untrusted_certificate_names_the_setting() -> None:
    async with OtlpServer().running(tls=server_tls()) as server:
        sink = build(server.endpoint)
        with pytest.raises(ConfigError, match=r"certificate is not trusted.*ca_file"):
            await sink.open()
        await sink.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ca_file": "/no/such.pem"}, r"sinks\.audit\.ca_file: cannot be used.*No such file"),
        ({"cert_file": "/no/such.pem"}, r"cert_file: cannot be used"),
        ({"ca_file": str(TLS / "untrusted.key")}, "ca_file: cannot be used"),
        (
            {"cert_file": str(TLS / "untrusted.crt"), "key_file": str(TLS / "untrusted.crt")},
            "key_file: cannot be used",
        ),
    ],
)
async def test_files_that_cannot_be_used_are_named(settings: dict[str, Any], words: str) -> None:
    sink = build("https://127.0.0.1:1", **settings)
    with pytest.raises(ConfigError, match=words):
        await sink.open()
    await sink.close()
