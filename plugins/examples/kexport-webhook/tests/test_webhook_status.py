"""Endpoints that refuse and fail: what is asked again, what is set aside, what somebody must mend."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kexport_webhook.config import Mode

from kexport import ConfigError, RejectedError, TransientError
from kexport.testing.raw import serving

from .webhook_arrangement import Endpoint, Received, Recorder, build, events, opened

TLS = Path(__file__).parents[4] / "tests" / "tls"


async def failed_write(answer: web.Response, mode: Mode = "batched", **settings: Any) -> TransientError:
    """The error of a write that met this answer; the same sink can write behind it."""
    async with Endpoint().running() as endpoint, opened(endpoint, mode=mode, **settings) as sink:
        endpoint.scripted = [answer]
        with pytest.raises(TransientError) as failed:
            await sink.write(events(1, 3))
        assert failed.value.written == 0
        assert endpoint.numbers == []
        await sink.write(events(1, 3))
        assert endpoint.numbers == [1, 2, 3]
    return failed.value


@pytest.mark.parametrize("mode", ["binary", "structured", "batched"])
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_status_of_success_counts(mode: Mode, status: int) -> None:
    async with Endpoint().running() as endpoint, opened(endpoint, mode=mode) as sink:
        endpoint.scripted = [web.Response(status=status) for _ in range(3)]
        await sink.write(events(1, 3))
        assert len(endpoint.requests) == (1 if mode == "batched" else 3)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 507, 599])
async def test_trouble_of_the_moment_is_transient(status: int) -> None:
    error = await failed_write(web.Response(status=status, text="queue is full"))
    assert str(status) in str(error)
    assert "queue is full" in str(error)
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("7", 7, 7), ("0", 0, 0), ("1.5", 1.5, 1.5), ("DATE", 250, 300), ("PAST", 0, 0)],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_heard_as_seconds_and_as_a_date(
    said: str, least: float, most: float, status: int
) -> None:
    now = datetime.now(UTC)
    said = said.replace("DATE", format_datetime(now + timedelta(seconds=300), usegmt=True))
    said = said.replace("PAST", format_datetime(now - timedelta(days=1), usegmt=True))
    error = await failed_write(web.Response(status=status, headers={"Retry-After": said}))
    assert error.retry_after is not None
    assert least <= error.retry_after <= most


@pytest.mark.parametrize("said", ["soon", "", "nan", "inf"])
async def test_a_retry_after_without_a_meaning_is_none(said: str) -> None:
    assert (await failed_write(web.Response(status=503, headers={"Retry-After": said}))).retry_after is None


@pytest.mark.parametrize(
    ("status", "way_out"),
    [
        (401, "headers"), (403, "let these credentials"), (404, "check url"), (405, "method"),
        (406, "check url"), (407, "proxies"), (410, "given up"), (415, "another mode"), (421, "check url"),
        (426, "https"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["structured", "batched"])
async def test_what_is_about_the_endpoint_sets_no_event_aside(mode: Mode, status: int, way_out: str) -> None:
    assert way_out in str(await failed_write(web.Response(status=status), mode))


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_a_failure_and_no_secret_goes_there(status: int) -> None:
    async with Endpoint().running() as other:
        answer = web.Response(status=status, headers={"Location": other.url})
        error = await failed_write(answer, headers={"authorization": "Bearer s3cret"})
        assert "redirects are not followed" in str(error)
        assert other.requests == []


@pytest.mark.parametrize("mode", ["binary", "structured", "batched"])
@pytest.mark.parametrize("status", [400, 402, 409, 411, 413, 414, 417, 422, 431, 451])
async def test_any_other_4xx_refuses_the_event_and_nothing_before_it(mode: Mode, status: int) -> None:
    async def refuse(received: Received) -> web.Response | None:
        return web.Response(status=status, text="no") if 5 in received.numbers else None

    async with Endpoint().running() as endpoint, opened(endpoint, mode=mode) as sink:
        endpoint.scripted = [refuse] * 100
        with pytest.raises(RejectedError, match=rf"answers {status} .*\(no\) to this event alone") as failed:
            await sink.write(events(1, 12))
        assert failed.value.written == 4
        assert endpoint.numbers == [1, 2, 3, 4]
        await sink.write(events(6, 12))
        assert endpoint.numbers == [1, 2, 3, 4, *range(6, 13)]
        assert endpoint.requests[-1].numbers[-1] == 12


async def test_one_refused_event_of_a_hundred_is_found_by_halving() -> None:
    async with Endpoint().running() as endpoint, opened(endpoint, mode="batched") as sink:
        endpoint.poison = {73}
        with pytest.raises(RejectedError) as failed:
            await sink.write(events(1, 100))
        assert failed.value.written == 72
        assert endpoint.numbers == list(range(1, 73))
        assert len(endpoint.requests) <= 14  # twice the times that 100 can be halved


async def test_a_batch_that_is_too_large_is_split_and_smaller_ones_follow() -> None:
    log = Recorder()
    async with Endpoint().running() as endpoint, opened(endpoint, mode="batched", log=log) as sink:
        endpoint.most_bytes = 8_000
        await sink.write(events(1, 60))
        assert endpoint.numbers == list(range(1, 61))
        refused = len(endpoint.requests) - len(endpoint.taken)
        await sink.write(events(61, 100))
        assert endpoint.numbers == list(range(1, 101))
        assert len(endpoint.requests) - len(endpoint.taken) == refused > 0
    assert {(level, fields["endpoint"]) for level, _, fields in log.lines} == {
        ("warning", f"http://127.0.0.1:{endpoint.port}")
    }


async def test_a_failure_behind_some_requests_states_what_is_durable() -> None:
    async def passes(_received: Received) -> None:
        return None

    for mode, durable in (("batched", 20), ("structured", 2)):
        async with (
            Endpoint().running() as endpoint,
            opened(endpoint, mode=mode, max_request_events=10) as sink,
        ):
            endpoint.scripted = [passes, passes, web.Response(status=503, headers={"Retry-After": "3"})]
            with pytest.raises(TransientError) as failed:
                await sink.write(events(1, 50))
            assert (failed.value.written, failed.value.retry_after) == (durable, 3)
            assert endpoint.numbers == list(range(1, durable + 1))


async def test_a_write_that_is_cancelled_again_and_again_still_gets_on() -> None:
    """The engine's time limit cancels a write, and the whole batch is written again."""
    reached = asyncio.Event()

    async def passes(_received: Received) -> None:
        return None

    async def never(_received: Received) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with Endpoint().running() as endpoint, opened(endpoint) as sink:
        for durable in (2, 4):
            endpoint.scripted = [passes, passes, never]
            reached.clear()
            writing = asyncio.ensure_future(sink.write(events(1, 6)))
            await reached.wait()
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert endpoint.numbers == list(range(1, durable + 1))
        await sink.write(events(1, 6))
        assert endpoint.numbers == [1, 2, 3, 4, 5, 6]
        await sink.write(events(1, 6))  # a repeat that the engine wants is sent
        assert endpoint.numbers == [1, 2, 3, 4, 5, 6] * 2


async def test_a_restarted_endpoint_goes_on_getting_events() -> None:
    async with Endpoint().running() as endpoint:
        sink = build(endpoint.url)
        await sink.open()
        await sink.write(events(1, 2))
        await endpoint.stop()
        with pytest.raises(TransientError, match=r"cannot be reached|connection broke") as failed:
            await sink.write(events(3, 4))
        assert failed.value.written == 0
        await endpoint.start()
        await sink.write(events(3, 4))
        await sink.close()
    assert endpoint.numbers == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", b"SSH-2.0\r\n\r\n"],
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


async def test_an_endpoint_that_says_nothing_is_given_up_in_time() -> None:
    async def never(_received: Received) -> None:
        await asyncio.Event().wait()

    async with Endpoint().running() as endpoint, opened(endpoint, request_timeout_seconds=3) as sink:
        endpoint.scripted = [never]
        with pytest.raises(TransientError, match="request_timeout_seconds = 3"):
            await sink.write(events(1, 2))
        await sink.write(events(1, 2))


async def test_a_long_answer_is_cut_and_counts_all_the_same() -> None:
    async with Endpoint().running() as endpoint, opened(endpoint) as sink:
        endpoint.scripted = [web.Response(body=b"x" * 3_000_000)]
        await sink.write(events(1, 2))
        assert endpoint.numbers == [2]


async def test_what_was_sent_in_secret_is_not_shown() -> None:
    told = "bad: Bearer s3cret at /hooks/t0ps3cret?key=k3ys3cret"
    async with Endpoint().running() as endpoint:
        url = f"http://127.0.0.1:{endpoint.port}/hooks/t0ps3cret?key=k3ys3cret"
        sink = build(url, headers={"authorization": "Bearer s3cret"})
        endpoint.scripted = [web.Response(status=401, text=told), web.Response(status=400, text=told)]
        for error in (TransientError, RejectedError):
            with pytest.raises(error, match="bad") as failed:
                await sink.write(events(1, 1))
            assert "s3cret" not in str(failed.value)
        await sink.close()


def server_tls() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(TLS / "untrusted.crt", TLS / "untrusted.key")
    return made


async def test_tls_with_a_ca_file_and_a_certificate_of_our_own() -> None:
    tls = server_tls()
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(TLS / "untrusted.crt")
    ca, key = str(TLS / "untrusted.crt"), str(TLS / "untrusted.key")
    async with Endpoint().running(tls=tls) as endpoint:
        async with opened(endpoint, ca_file=ca, cert_file=ca, key_file=key) as sink:
            await sink.write(events(1, 2))
            assert endpoint.numbers == [1, 2]
        async with opened(endpoint, ca_file=ca) as without:
            with pytest.raises(TransientError):
                await without.write(events(3, 4))
        assert endpoint.numbers == [1, 2]


async def test_an_untrusted_certificate_names_the_setting() -> None:
    async with Endpoint().running(tls=server_tls()) as endpoint, opened(endpoint) as sink:
        with pytest.raises(TransientError, match=r"certificate is not trusted.*ca_file"):
            await sink.write(events(1, 2))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ca_file": "/no/such.pem"}, r"sinks\.audit\.ca_file: cannot be used.*No such file"),
        ({"cert_file": "/no/such.pem"}, r"cert_file: cannot be used"),
        (
            {"cert_file": str(TLS / "untrusted.crt"), "key_file": str(TLS / "untrusted.crt")},
            "key_file: cannot be used",
        ),
    ],
)
async def test_files_that_cannot_be_used_are_named_when_opening(settings: dict[str, Any], words: str) -> None:
    sink = build("https://127.0.0.1:1", **settings)
    with pytest.raises(ConfigError, match=words):
        await sink.open()
    await sink.close()
