"""gRPC servers that fail or refuse: what every code and answer means for the events."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from kexport import ConfigError, RejectedError, TransientError

from .grpc_arrangement import Failure, GrpcServer, opened, partial, retry_info
from .otlp_arrangement import OtlpServer, Received, build, events

TLS = Path(__file__).parents[3] / "tests" / "tls"
CERTIFICATE, KEY = TLS / "untrusted.crt", TLS / "untrusted.key"


async def failed_write(answer: Failure | bytes, **settings: Any) -> TransientError:
    """The error of a write that met this answer; the same sink can write behind it."""
    async with GrpcServer().running() as server, opened(server, **settings) as sink:
        server.scripted = [answer]
        with pytest.raises(TransientError) as failed:
            await sink.write(events(1, 3))
        assert failed.value.written == 0
        assert server.numbers == []
        await sink.write(events(1, 3))
        assert server.numbers == [1, 2, 3]
    return failed.value


@pytest.mark.parametrize(
    "code",
    [
        StatusCode.CANCELLED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.ABORTED,
        StatusCode.OUT_OF_RANGE,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    ],
)
async def test_codes_that_otlp_lets_repeat_are_transient(code: StatusCode) -> None:
    error = await failed_write(Failure(code, "queue is full"))
    assert error.retry_after is None
    if code is not StatusCode.DEADLINE_EXCEEDED:
        assert f"{code.name} (queue is full)" in str(error)


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED])
async def test_the_delay_of_retry_info_is_heard(code: StatusCode) -> None:
    error = await failed_write(Failure(code, "slow down", retry_info(7, 500_000_000)))
    assert error.retry_after == 7.5


@pytest.mark.parametrize(
    "details", [b"\xff\xff", b"\x1a\x02\x0a", retry_info(7, kind="google.rpc.QuotaFailure")]
)
async def test_details_without_a_retry_info_that_can_be_read_are_none(details: bytes) -> None:
    error = await failed_write(Failure(StatusCode.UNAVAILABLE, "down", details))
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        (StatusCode.UNAUTHENTICATED, "headers"),
        (StatusCode.PERMISSION_DENIED, "write logs"),
        (StatusCode.UNIMPLEMENTED, "4317"),
    ],
)
async def test_a_refusal_is_transient_when_writing_and_final_when_opening(
    code: StatusCode, way_out: str
) -> None:
    assert way_out in str(await failed_write(Failure(code)))
    async with GrpcServer().running() as server:
        server.scripted = [Failure(code)]
        sink = build(server.endpoint, protocol="grpc")
        with pytest.raises(ConfigError, match=rf"sinks\.audit.*{code.name}.*{way_out}"):
            await sink.open()
        await sink.close()


@pytest.mark.parametrize(
    "code",
    [
        StatusCode.UNKNOWN,
        StatusCode.INTERNAL,
        StatusCode.NOT_FOUND,
        StatusCode.ALREADY_EXISTS,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.INVALID_ARGUMENT,
    ],
)
async def test_a_code_that_is_not_to_be_repeated_leads_to_the_one_event_that_causes_it(
    code: StatusCode,
) -> None:
    async def strict(received: Received) -> Failure | None:
        server.scripted.append(strict)
        return Failure(code, "bad record") if 13 in received.numbers else None

    async with GrpcServer().running() as server, opened(server) as sink:
        server.scripted = [strict]
        batch, rejected, attempts = events(1, 30), [], 0
        while batch and attempts < 10:
            attempts += 1
            try:
                await sink.write(batch)
                batch = []
            except RejectedError as error:
                rejected.append((batch[error.written].attributes.sequence.lstrip("0"), str(error)))
                batch = batch[error.written + 1 :]
            except TransientError as error:
                batch = batch[error.written :]
        ((sequence, reason),) = rejected
        assert sequence == "13"
        assert f"answers {code.name} (bad record) to this event alone" in reason
        assert sorted(set(server.numbers)) == [each for each in range(1, 31) if each != 13]
        assert attempts == (2 if code is StatusCode.INVALID_ARGUMENT else 4)


@pytest.mark.parametrize(
    "words",
    [
        "SERVER: Received message larger than max (5000000 vs. 4194304)",
        "gRPC message exceeds maximum size 4194304: 5000000",
        "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes",
    ],
)
@pytest.mark.parametrize("code", [StatusCode.RESOURCE_EXHAUSTED, StatusCode.OUT_OF_RANGE])
async def test_a_request_that_is_too_large_is_split_and_later_ones_are_smaller(
    code: StatusCode, words: str
) -> None:
    async def small(received: Received) -> Failure | None:
        server.scripted.append(small)
        return Failure(code, words) if len(received.body) > 10_000 else None

    async with GrpcServer().running() as server, opened(server) as sink:
        server.scripted = [small]
        await sink.write(events(1, 60))
        server.requests.clear()
        await sink.write(events(61, 120))
        assert server.numbers == list(range(1, 121))
        assert all(len(request.body) <= 10_000 for request in server.requests)


@pytest.mark.parametrize("response", [b"\xff\xff", partial(-1), b"x" * 5_000_000])
async def test_a_response_that_is_not_otlp_proves_nothing(response: bytes) -> None:
    assert "no OTLP answer" in str(await failed_write(response))


async def test_an_http_server_is_no_grpc_server() -> None:
    async with OtlpServer().running() as server:
        sink = build(server.endpoint, protocol="grpc", request_timeout_seconds=5)
        with pytest.raises(TransientError, match=r"sinks\.audit"):
            await sink.open()
        await sink.close()


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    async def never(_received: Received) -> None:
        await asyncio.Event().wait()

    async with GrpcServer().running() as server, opened(server, request_timeout_seconds=3) as sink:
        server.scripted = [never]
        with pytest.raises(TransientError, match="request_timeout_seconds = 3"):
            await sink.write(events(1, 2))
        await sink.write(events(1, 2))
