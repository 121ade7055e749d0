"""The otlp sink over gRPC: what is sent, over which lines, and when `write` returns."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from kexport import ConfigError, TransientError
from kexport.testing import SinkLog
from kexport.testing.raw import forward, serving

from .grpc_arrangement import Failure, GrpcServer, opened
from .otlp_arrangement import Received, build, events
from .test_otlp_partial import deliver, first_arrivals

TLS = Path(__file__).parents[3] / "tests" / "tls"
CERTIFICATE, KEY = TLS / "untrusted.crt", TLS / "untrusted.key"


async def test_every_event_is_stored_in_order_when_write_returns() -> None:
    async with GrpcServer().running() as server, opened(server, max_request_bytes=20_000) as sink:
        sent = events(1, 100)
        await sink.write(sent)
        assert [record.body.string_value.encode() for record in server.stored] == [e.line for e in sent]
        assert len(server.requests) > 1


@pytest.mark.parametrize("poison", [{1}, {100}, {3, 4, 5, 70}, set(range(1, 101, 2))])
async def test_exactly_the_rejected_events_are_set_aside(poison: set[int]) -> None:
    async with GrpcServer().running() as server, opened(server) as sink:
        server.poison, server.message = poison, "no such tenant"
        rejected = await deliver(sink, events(1, 100))
        assert set(rejected) == poison
        assert all("no such tenant" in reason for reason in rejected.values())
        assert first_arrivals(server) == [each for each in range(1, 101) if each not in poison]


async def test_headers_go_as_metadata_in_small_letters_and_are_not_shown() -> None:
    log = SinkLog()
    headers = {"Authorization": "Bearer s3cret", "User-Agent": "me/1"}
    async with GrpcServer().running() as server, opened(server, headers=headers, log=log) as sink:
        server.scripted = [Failure(StatusCode.UNAUTHENTICATED, "unknown token: Bearer s3cret")]
        with pytest.raises(TransientError, match="unknown token") as failed:
            await sink.write(events(1, 1))
        await sink.write(events(1, 1))
        for request in server.requests:
            assert request.headers["authorization"] == "Bearer s3cret"
            assert request.headers["user-agent"].startswith("me/1 ")
    assert "s3cret" not in str(failed.value) + log.text


@pytest.mark.parametrize(("compression", "most"), [("gzip", 20_000), ("none", 400_000)])
async def test_requests_are_compressed_unless_told_otherwise(compression: str, most: int) -> None:
    """Counted on the wire: gRPC tells a server nothing of it."""
    counted = 0

    def count(chunk: bytes) -> None:
        nonlocal counted
        counted += len(chunk)

    async with (
        GrpcServer().running() as server,
        serving(partial(forward, int(server.endpoint.rpartition(":")[2]), sent=count)) as port,
    ):
        sink = build(f"http://127.0.0.1:{port}", protocol="grpc", compression=compression)
        await sink.write(events(1, 200))
        await sink.close()
        (request,) = server.requests
        assert len(request.body) > 100_000
        assert (counted < len(request.body) / 3) == (compression == "gzip")
        assert counted < most


async def test_a_restarted_server_goes_on_getting_events() -> None:
    async with GrpcServer().running() as server:
        sink = build(server.endpoint, protocol="grpc")
        await sink.open()
        await sink.write(events(1, 2))
        await server.stop()
        with pytest.raises(TransientError, match="cannot be reached") as failed:
            await sink.write(events(3, 4))
        assert failed.value.written == 0
        await server.start()
        await sink.write(events(3, 4))
        await sink.close()
    assert server.numbers == [1, 2, 3, 4]


async def test_cancelling_a_write_passes_and_writing_again_delivers_everything() -> None:
    reached = asyncio.Event()

    async def passes(_received: Received) -> None:
        return None

    async def never(_received: Received) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with GrpcServer().running() as server, opened(server, max_request_bytes=5_000) as sink:
        server.scripted = [passes, never]
        first = asyncio.ensure_future(sink.write(events(1, 20)))
        await reached.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert 0 < len(server.numbers) < 20
        await sink.write(events(1, 25))
        assert server.numbers == list(range(1, 26))


async def test_close_twice_and_after_a_failed_open_and_open_again() -> None:
    sink = build("http://127.0.0.1:1", protocol="grpc")
    await sink.close()
    with pytest.raises(TransientError, match="cannot be reached"):
        await sink.open()
    await sink.close()
    await sink.close()
    async with GrpcServer().running() as server:
        again = build(server.endpoint, protocol="grpc")
        for _ in range(2):
            await again.open()
            await again.write(events(1, 1))
            await again.close()
        assert server.numbers == [1, 1]


def server_tls(*, ask: bool = False) -> grpc.ServerCredentials:
    pair = (KEY.read_bytes(), CERTIFICATE.read_bytes())
    return grpc.ssl_server_credentials(
        [pair], root_certificates=CERTIFICATE.read_bytes() if ask else None, require_client_auth=ask
    )


async def test_tls_with_a_ca_file_and_with_a_certificate_of_our_own() -> None:
    ca = str(CERTIFICATE)
    async with GrpcServer().running(tls=server_tls()) as server, opened(server, ca_file=ca) as sink:
        await sink.write(events(1, 2))
        assert server.numbers == [1, 2]
    async with GrpcServer().running(tls=server_tls(ask=True)) as server:
        async with opened(server, ca_file=ca, cert_file=ca, key_file=str(KEY)) as sink:
            await sink.write(events(1, 2))
            assert server.numbers == [1, 2]
        without = build(server.endpoint, ca_file=ca, protocol="grpc")
        with pytest.raises(TransientError):
            await without.open()
        await without.close()


async def test_without_a_ca_file_the_systems_authorities_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with GrpcServer().running(tls=server_tls()) as server:
        sink = build(server.endpoint, protocol="grpc")
        with pytest.raises(ConfigError, match=r"certificate is not trusted.*ca_file"):
            await sink.open()
        await sink.close()
        monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(CERTIFICATE))
        async with opened(server) as trusting:
            await trusting.write(events(1, 1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ca_file": "/no/such.pem"}, r"sinks\.audit\.ca_file: cannot be used.*No such file"),
        ({"cert_file": str(CERTIFICATE), "key_file": str(CERTIFICATE)}, "key_file: cannot be used"),
    ],
)
async def test_files_that_cannot_be_used_are_named(settings: dict[str, Any], words: str) -> None:
    sink = build("https://127.0.0.1:1", protocol="grpc", **settings)
    with pytest.raises(ConfigError, match=words):
        await sink.open()
    await sink.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"endpoint": "http://h:4318/v1/logs"}, "gRPC has no path.*http://h:4318"),
        ({"endpoint": "http://h:4317?key=s3cret"}, "gRPC has no path"),
        ({"headers": {"token-bin": "s3cret"}}, "is no name of a header"),
        ({"headers": {"grpc-timeout": "s3cret"}}, "is no name of a header"),
        ({"headers": {"TE": "s3cret"}}, "TE is the sink's own"),
        ({"headers": {"a": "s3crét"}}, "gRPC can't send"),
    ],
)
def test_settings_that_cannot_work_over_grpc_are_refused_when_building(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        build(**{"endpoint": "http://collector:4317", "protocol": "grpc", **settings})
    assert "s3cr" not in str(refused.value)


def test_without_grpcio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(ConfigError, match=r"pip install 'kexport-otlp\[grpc\]'"):
        build("http://collector:4317", protocol="grpc")
    build("http://collector:4318")


def test_grpcio_is_imported_only_for_those_who_chose_it() -> None:
    program = (
        "import sys, kexport_otlp\n"
        "from kexport.testing import make_context\n"
        "for protocol in ('http/protobuf', 'grpc'):\n"
        "    config = kexport_otlp.OtlpConfig(endpoint='http://h:1', protocol=protocol)\n"
        "    kexport_otlp.otlp_sink.build(config, make_context())\n"
        "    print('grpc' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "True"]
