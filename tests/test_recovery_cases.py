"""The cases of recovery that the fake shares with the real server, and what streams learn from each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from kexport.change import Resource, Stream
from kexport.history import History
from kexport.kube import Client
from kexport.ledger import Done, Ledger
from kexport.testing.cluster import FakeCluster
from tests.recovery_cases import RecoveryCases
from tests.shop import Server
from tests.story import MAPS, STREAM, a_client
from tests.test_informer import FakeServer

SECRETS = Stream(resource=Resource(group="", version="v1", name="secrets", kind="Secret", namespaced=True))
LABELLED = Stream(resource=MAPS, label_selector="t=a")
ONE, OTHER = Stream(resource=MAPS, namespace="one"), Stream(resource=MAPS, namespace="other")


class TestRecovery(RecoveryCases):
    """On the fake."""

    @pytest.fixture
    async def server(self) -> AsyncIterator[Server]:
        async with FakeCluster() as fake, aiohttp.ClientSession() as session:
            yield FakeServer(fake, session)


async def learned(mine: tuple[Stream, Client], theirs: tuple[Stream, Client]) -> set[int]:
    """What one stream knows after another has explained versions 5 and 6."""
    ledger, here, there = Ledger(), History(*mine), History(*theirs)
    async with ledger.entered(mine[0].key), ledger.entered(theirs[0].key):
        explained, others = await asyncio.gather(ledger.explained(here), ledger.explained(there))
        explained.add([1])
        others.add([5, 6])
        await asyncio.gather(
            ledger.reached(mine[0].key, 9, Done.VERSIONS, here),
            ledger.reached(theirs[0].key, 9, Done.VERSIONS, there),
        )
    assert explained.within(range(9)) == sum(version in explained for version in range(9))
    return {version for version in range(9) if version in explained}


@pytest.mark.parametrize(
    ("mine", "theirs", "useful"),
    [
        (STREAM, SECRETS, True),
        (ONE, OTHER, True),
        (STREAM, LABELLED, False),  # an object of the one may be one of the other's
        (STREAM, ONE, False),
    ],
)
async def test_a_version_that_another_resource_explains_needs_no_look(
    mine: Stream, theirs: Stream, *, useful: bool
) -> None:
    async with FakeCluster() as fake, a_client(fake) as client:
        assert await learned((mine, client), (theirs, client)) == ({1, 5, 6} if useful else {1})


@pytest.mark.parametrize("first_revision", [900, 1100])
async def test_what_is_kept_in_another_etcd_explains_nothing(first_revision: int) -> None:
    async with (
        FakeCluster() as fake, FakeCluster(first_revision=first_revision) as events,
        a_client(fake) as client, a_client(events) as other,
    ):  # fmt: skip
        assert await learned((STREAM, client), (SECRETS, other)) == {1}


async def test_who_is_slow_is_waited_for_but_not_for_ever_and_the_wait_costs_no_budget() -> None:
    async with FakeCluster() as fake, a_client(fake, recover_max_seconds=2) as client:
        ledger = Ledger()
        async with ledger.entered(STREAM.key), ledger.entered(SECRETS.key):
            history = History(STREAM, client)
            await ledger.reached(STREAM.key, 9, Done.VERSIONS, history)
            assert history.seconds >= 1.9
            assert not history.exhausted


async def test_many_streams_ask_one_of_each_etcd_and_know_of_all_in_it() -> None:
    streams = [Stream(resource=MAPS, namespace=f"n{number}") for number in range(12)]
    async with (
        FakeCluster() as fake, FakeCluster(first_revision=900) as events,
        a_client(fake) as client, a_client(events) as other,
    ):  # fmt: skip
        ledger = Ledger()
        async with AsyncExitStack() as stack:
            explained = []
            for number, stream in enumerate(streams):
                await stack.enter_async_context(ledger.entered(stream.key))
                explained.append(await ledger.explained(History(stream, client if number % 2 else other)))
                explained[-1].add([number])
            assert len(fake.requests) + len(events.requests) <= 2 * 3 * len(streams)
            for number in range(12):
                knows = {version for version in range(12) if version in explained[number]}
                assert knows == set(range(number % 2, 12, 2))


async def test_one_of_an_etcd_that_cannot_be_read_does_not_hide_the_others() -> None:
    streams = [Stream(resource=MAPS, namespace=f"n{number}") for number in range(3)]
    async with FakeCluster() as fake, a_client(fake) as client:
        ledger, explained = Ledger(), []
        for number, stream in enumerate(streams):
            explained.append(await ledger.explained(History(stream, client)))
            explained[-1].add([number])
            fake.fail(403, path_contains="/n0/", times=100)
        assert 1 in explained[2]
