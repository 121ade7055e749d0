"""A server that answers 500: its own trouble is waited for, an event that causes it is found."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from aiohttp import web
from kexport_otlp.sink import OtlpSink

from kexport import Event, RejectedError, TransientError

from .otlp_arrangement import OtlpServer, Received, events, opened
from .test_otlp_partial import first_arrivals

_MOST_WRITES = 40


async def insist(sink: OtlpSink, batch: Sequence[Event]) -> tuple[dict[int, str], list[str]]:
    """What the engine does, up to a number of writes: who was set aside and why, and what was transient."""
    rejected, transient = {}, []
    for _ in range(_MOST_WRITES):
        if not batch:
            break
        try:
            await sink.write(batch)
            batch = []
        except RejectedError as error:
            rejected[int(batch[error.written].attributes.sequence)] = str(error)
            batch = batch[error.written + 1 :]
        except TransientError as error:
            transient.append(str(error))
            batch = batch[error.written :]
    return rejected, transient


class Crashing(OtlpServer):
    """Answers 500 to every request with one of these, and to every request at all while `down`."""

    def __init__(self, *numbers: int, down: bool = False) -> None:
        super().__init__()
        self.crash = set(numbers)
        self.down = down
        self.scripted = [self._step]

    async def _step(self, _request: web.Request, received: Received) -> web.Response | None:
        self.scripted.append(self._step)
        crashes = received.numbers and (self.down or self.crash & set(received.numbers))
        return web.Response(status=500, text="index out of range") if crashes else None


async def test_one_500_among_good_answers_is_outlived() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        server.scripted = [web.Response(status=500)]
        await sink.write(events(1, 20))
        assert server.numbers == list(range(1, 21))


async def test_a_500_to_an_event_alone_is_first_of_all_transient() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        await sink.write(events(1, 1))
        for _ in range(2):
            server.scripted = [web.Response(status=500, text="oops")]
            with pytest.raises(TransientError, match=r"500 Internal Server Error \(oops\) to this event"):
                await sink.write(events(2, 2))
        await sink.write(events(2, 2))
        assert server.numbers == [1, 2]


async def test_the_events_that_cause_it_are_found_and_all_others_are_delivered() -> None:
    for crash in ({1}, {40}, {13, 14, 30}, {1, 2}):
        async with Crashing(*crash).running() as server, opened(server) as sink:
            rejected, transient = await insist(sink, events(1, 40))
            assert set(rejected) == crash
            assert all("500" in reason and "index out of range" in reason for reason in rejected.values())
            assert len(crash) < len(transient) <= 2 * len(crash)
            arrived = first_arrivals(server)
            assert sorted(arrived) == [each for each in range(1, 41) if each not in crash]
            for key in range(10):
                same = [each for each in arrived if each % 10 == key]
                assert same == sorted(same)


async def test_no_event_is_condemned_while_the_server_takes_nothing() -> None:
    async with Crashing().running() as server, opened(server) as sink:
        await sink.write(events(1, 5))
        server.down = True
        rejected, transient = await insist(sink, events(6, 30))
        assert not rejected
        assert len(transient) == _MOST_WRITES
        assert "has taken no other one since" in transient[-1]
        server.down = False
        assert await insist(sink, events(6, 30)) == ({}, [])
        assert first_arrivals(server) == list(range(1, 31))


async def test_an_event_with_no_other_to_compare_it_with_is_held() -> None:
    async with Crashing(1).running() as server, opened(server) as sink:
        rejected, transient = await insist(sink, events(1, 1))
        assert (rejected, len(transient)) == ({}, _MOST_WRITES)
        rejected, _ = await insist(sink, events(1, 3))
        assert set(rejected) == {1}
        assert server.numbers == [2, 3]


async def test_a_server_that_fails_at_an_empty_request_is_spared_the_search() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        server.scripted = [web.Response(status=500) for _ in range(2)]
        rejected, transient = await insist(sink, events(1, 30))
        assert not rejected
        assert len(transient) == 1
        assert "to an empty request" in transient[0]
        assert server.numbers == list(range(1, 31))
