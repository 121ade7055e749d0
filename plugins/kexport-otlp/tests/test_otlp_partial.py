"""Servers that refuse some records: exactly those are set aside, and all others are delivered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from aiohttp import web
from kexport_otlp.sink import OtlpSink

from kexport import Event, RejectedError, TransientError
from kexport.testing import SinkLog, make_event

from .otlp_arrangement import OtlpServer, Received, events, large, number, opened, partial


async def deliver(sink: OtlpSink, batch: Sequence[Event]) -> dict[int, str]:
    """What the engine does; the numbers of the events that were set aside, and why."""
    rejected = {}
    while batch:
        try:
            await sink.write(batch)
        except RejectedError as error:
            event = batch[error.written]
            rejected[int(event.attributes.sequence)] = str(error)
            batch = batch[error.written + 1 :]
        else:
            break
    return rejected


def first_arrivals(server: OtlpServer) -> list[int]:
    return list(dict.fromkeys(server.numbers))


@pytest.mark.parametrize(
    "poison", [{1}, {100}, {50}, {1, 100}, {3, 4, 5, 70}, set(range(1, 101)), set(range(1, 101, 2))]
)
async def test_exactly_the_rejected_events_are_set_aside(poison: set[int]) -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        server.poison, server.message = poison, "no such tenant"
        rejected = await deliver(sink, events(1, 100))
        assert set(rejected) == poison
        assert all("no such tenant" in reason for reason in rejected.values())
        assert first_arrivals(server) == [each for each in range(1, 101) if each not in poison]


async def test_the_prefix_is_truthful() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        server.poison = {8}
        with pytest.raises(RejectedError) as rejected:
            await sink.write(events(1, 20))
        assert rejected.value.written == 7
        assert set(range(1, 8)) <= set(server.numbers)


async def test_what_the_search_settled_is_not_sent_again() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        server.poison = {8, 12}
        with pytest.raises(RejectedError):
            await sink.write(events(1, 20))
        server.requests.clear()
        assert set(await deliver(sink, events(9, 20))) == {12}
        # 18 is of the same object as 8, and had to wait for what becomes of it.
        assert [request.numbers for request in server.exports] == [[18]]


async def test_what_was_settled_for_one_batch_is_forgotten_with_it() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        server.poison = {2}
        assert set(await deliver(sink, events(1, 3))) == {2}
        server.poison = set()
        await sink.write(events(4, 5))
        await sink.write(events(2, 3))
        assert server.numbers[-2:] == [2, 3]


async def test_a_rejected_event_sent_alone_needs_one_request() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        server.poison = {1}
        with pytest.raises(RejectedError) as rejected:
            await sink.write(events(1, 1))
        assert rejected.value.written == 0
        assert len(server.requests) == 1


async def test_rejections_in_json_are_understood() -> None:
    said = '{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}'
    async with OtlpServer().running() as server, opened(server) as sink:
        server.scripted = [web.Response(text=said, content_type="application/json")]
        with pytest.raises(RejectedError, match="too old"):
            await sink.write(events(1, 1))


async def test_an_outage_in_the_middle_of_the_search_loses_nothing() -> None:
    chance = random.Random(7)

    async def moody(_request: web.Request, received: Received) -> web.Response | None:
        server.scripted.append(moody)
        if received.records and chance.random() < 0.3:
            return web.Response(status=503)
        return None

    async with OtlpServer().running() as server, opened(server) as sink:
        server.poison, server.scripted = {5, 30}, [moody]
        batch, rejected = events(1, 40), []
        while batch:
            try:
                await sink.write(batch)
                break
            except RejectedError as error:
                rejected.append(int(batch[error.written].attributes.sequence))
                batch = batch[error.written + 1 :]
            except TransientError as error:
                batch = batch[error.written :]
        assert rejected == [5, 30]
        assert first_arrivals(server) == [each for each in range(1, 41) if each not in {5, 30}]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_request_refused_for_one_event_is_split_until_it_is_found(status: int) -> None:
    async def strict(_request: web.Request, received: Received) -> web.Response | None:
        server.scripted.append(strict)
        return web.Response(status=status, text="bad record") if 13 in received.numbers else None

    async with OtlpServer().running() as server, opened(server) as sink:
        server.scripted = [strict]
        rejected = await deliver(sink, events(1, 30))
        assert set(rejected) == {13}
        assert f"answers {status}" in rejected[13]
        assert "bad record" in rejected[13]
        assert sorted(server.numbers) == [each for each in range(1, 31) if each != 13]
        for key in range(10):
            arrived = [each for each in server.numbers if each % 10 == key]
            assert arrived == sorted(arrived)


async def test_a_server_with_a_smaller_limit_gets_smaller_requests_from_then_on() -> None:
    async def small(_request: web.Request, received: Received) -> web.Response | None:
        server.scripted.append(small)
        return web.Response(status=413) if len(received.body) > 10_000 else None

    log = SinkLog()
    async with OtlpServer().running() as server, opened(server, log=log) as sink:
        server.scripted = [small]
        await sink.write(events(1, 60))
        server.requests.clear()
        await sink.write(events(61, 120))
        assert server.numbers == list(range(1, 121))
        assert all(len(request.body) <= 10_000 for request in server.requests)
        assert all(int(str(entry.fields["max_request_bytes"])) >= 5_000 for entry in log.entries)
        assert set(await deliver(sink, [*events(1, 3), large(4, 20_000), *events(5, 6)])) == {4}


async def test_a_server_that_refuses_everything_condemns_no_event() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        server.scripted = [web.Response(status=400, text="tls, please") for _ in range(2)]
        with pytest.raises(TransientError, match=r"tls, please.*empty request") as failed:
            await sink.write(events(1, 1))
        assert failed.value.written == 0
        await sink.write(events(1, 1))
        assert server.numbers == [1]


async def test_an_event_that_cannot_be_a_record_is_rejected_and_the_others_go_on() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        bad = make_event(3, time="yesterday")
        rejected = await deliver(sink, [*events(1, 2), bad, *events(4, 6)])
        assert set(rejected) == {3}
        assert "cannot be written as a log record" in rejected[3]
        assert server.numbers == [1, 2, 4, 5, 6]


async def test_cancelling_the_search_keeps_what_it_found() -> None:
    reached = asyncio.Event()

    async def never(_request: web.Request, _received: Received) -> None:
        reached.set()
        await asyncio.Event().wait()

    async def passes(_request: web.Request, _received: Received) -> None:
        return None

    async with OtlpServer().running() as server, opened(server) as sink:
        server.poison, server.scripted = {2}, [passes, passes, passes, passes, never]
        first = asyncio.ensure_future(sink.write(events(1, 8)))
        await reached.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        server.requests.clear()
        assert set(await deliver(sink, events(1, 8))) == {2}
        assert 1 not in [each for request in server.exports for each in request.numbers]


async def test_negative_counts_are_not_believed() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        server.scripted = [partial(-1)]
        with pytest.raises(TransientError, match="proves nothing"):
            await sink.write(events(1, 2))
        assert [number(record) for record in server.stored] == []


async def test_events_of_a_refused_events_object_wait_behind_it() -> None:
    mended = False

    async def strict(_request: web.Request, received: Received) -> web.Response | None:
        server.scripted.append(strict)
        return web.Response(status=400) if not mended and 13 in received.numbers else None

    async with OtlpServer().running() as server, opened(server) as sink:
        server.scripted = [strict]
        for _ in range(2):
            with pytest.raises(RejectedError) as rejected:
                await sink.write(events(1, 40))
            assert rejected.value.written == 12
            assert not {13, 23, 33} & set(server.numbers)
        mended = True
        await sink.write(events(13, 40))
        arrived = [each for each in first_arrivals(server) if each % 10 == 3]
        assert arrived == [3, 13, 23, 33]
        assert set(server.numbers) == set(range(1, 41))
