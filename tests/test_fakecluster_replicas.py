"""Several API servers behind one address: each speaks for its own watch caches alone."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakeclient import (
    ALL_MAPS,
    MAPS,
    WATCH_LIST,
    Client,
    config_map,
    event,
    kinds_of,
    names,
    running,
    version_of,
)


@contextlib.asynccontextmanager
async def two(**options: object) -> AsyncIterator[tuple[Client, Client]]:
    """A client of each of two replicas, on connections of their own."""
    async with (
        running(replicas=2, fresh_wait_seconds=0.05, **options) as first,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session,
    ):
        second = Client(first.cluster, session)
        first.cluster.steer(0)
        await first.get("/readyz")
        await first.versions()
        first.cluster.steer(1)
        await second.versions()
        first.cluster.steer(0)
        yield first, second


async def test_a_replica_that_lags_shows_an_older_state_and_is_silent_until_it_catches_up():
    async with two() as (ahead, behind):
        cluster = ahead.cluster
        start = version_of(cluster.create(config_map("a")))
        cluster.lag(1, revisions=math.inf)
        cluster.create(config_map("b"))
        assert names((await ahead.get(f"{ALL_MAPS}?resourceVersion=0"))["items"]) == ["a", "b"]
        old = await behind.get(f"{ALL_MAPS}?resourceVersion=0")
        assert (names(old["items"]), version_of(old)) == (["a"], start)
        cluster.steer(1)
        async with behind.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
            await stream.silent()
            cluster.lag(1)
            assert kinds_of([await stream.line()]) == [("ADDED", "b")]


async def test_a_watch_at_a_version_that_a_replica_has_not_reached_is_silent_then_goes_on():
    async with two() as (ahead, behind):
        cluster = ahead.cluster
        cluster.lag(1, revisions=math.inf)
        future = version_of(cluster.create(config_map("a")))
        async with behind.watch(
            f"{ALL_MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={future}"
        ) as stream:
            cluster.bookmark()
            await stream.silent()
            cluster.lag(1)
            cluster.create(config_map("b"))
            assert kinds_of([await stream.line()]) == [("ADDED", "b")]


@pytest.mark.parametrize("match", ["NotOlderThan", "Exact"])
async def test_a_lagging_replica_answers_504_beyond_what_it_has_seen(match):
    async with two() as (ahead, behind):
        cluster = ahead.cluster
        seen = cluster.revision
        cluster.lag(1, revisions=math.inf)
        wanted = version_of(cluster.create(config_map("a")))
        path = f"{ALL_MAPS}?limit=1&resourceVersion={wanted}&resourceVersionMatch={match}"
        assert names((await ahead.get(path))["items"]) == ["a"]
        status, body = await behind.ask("GET", path)
        assert (status, body["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")
        assert body["message"] == f"Timeout: Too large resource version: {wanted}, current: {seen}"
        status, _ = await behind.ask("GET", f"{MAPS}/a?resourceVersion={wanted}")
        assert status == 504
        assert (await behind.ask("GET", f"{MAPS}/a"))[0] == 200  # without a version etcd itself is read


async def test_a_consistent_list_waits_for_the_caches_and_then_reads_etcd():
    async with two() as (ahead, behind):
        cluster = ahead.cluster
        cluster.lag(1, revisions=math.inf)
        wanted = version_of(cluster.create(config_map("a")))
        body = await behind.get(ALL_MAPS)
        assert (names(body["items"]), version_of(body)) == (["a"], wanted)
        cluster.fresh_wait_seconds = 30.0
        asking = asyncio.ensure_future(behind.get(ALL_MAPS))
        await ahead.get("/readyz")
        assert not asking.done()
        cluster.lag(1)
        assert version_of(await asking) == wanted


async def test_a_watch_list_of_a_lagging_replica_is_an_error_line_until_it_has_the_newest():
    async with two() as (ahead, behind):
        cluster = ahead.cluster
        cluster.create(config_map("a"))
        cluster.lag(1, revisions=math.inf)
        cluster.create(config_map("b"))
        async with behind.watch(f"{ALL_MAPS}?{WATCH_LIST}") as stream:
            error = await stream.line()
        assert (error["type"], error["object"]["code"]) == ("ERROR", 504)
        async with behind.watch(f"{ALL_MAPS}?watch=1") as stream:  # the old form takes any state
            assert kinds_of([await stream.line()]) == [("ADDED", "a")]
        cluster.lag(1)
        cluster.steer(1)
        async with behind.watch(f"{ALL_MAPS}?{WATCH_LIST}") as stream:
            assert sorted(kinds_of(await stream.lines(2))) == [("ADDED", "a"), ("ADDED", "b")]


async def test_lag_can_be_counted_in_revisions_and_in_seconds():
    async with two() as (_, behind):
        cluster = behind.cluster
        cluster.lag(1, revisions=2)
        made = [version_of(cluster.create(config_map(name))) for name in "abc"]
        assert version_of(await behind.get(f"{ALL_MAPS}?resourceVersion=0")) == made[0]
        cluster.lag(1, seconds=60)
        cluster.create(config_map("d"))
        assert version_of(await behind.get(f"{ALL_MAPS}?resourceVersion=0")) < cluster.revision
        cluster.elapse(61)
        assert version_of(await behind.get(f"{ALL_MAPS}?resourceVersion=0")) == cluster.revision


async def test_what_has_no_watch_cache_does_not_lag():
    async with two() as (_, behind):
        cluster = behind.cluster
        cluster.lag(1, revisions=math.inf)
        start = cluster.revision
        async with behind.watch(f"/api/v1/events?watch=1&resourceVersion={start}") as stream:
            cluster.create(event("e"))
            assert kinds_of([await stream.line()]) == [("ADDED", "e")]


async def test_one_replica_restarts_alone_and_forgets_alone():
    async with two() as (first, second):
        cluster = first.cluster
        start = version_of(cluster.create(config_map("a")))
        path = f"{ALL_MAPS}?watch=1&resourceVersion={start}"
        async with first.watch(path) as kept:
            cluster.steer(1)
            async with second.watch(path) as cut:
                await cluster.restart(replica=1)
                with pytest.raises(aiohttp.ClientPayloadError):
                    await cut.rest()
            async with second.watch(path) as stream:
                assert (await stream.line())["object"]["code"] == 410
            cluster.create(config_map("b"))
            assert kinds_of([await kept.line()]) == [("ADDED", "b")]
        cluster.steer(0)
        async with first.watch(path) as stream:  # the other replica remembers
            assert kinds_of([await stream.line()]) == [("ADDED", "b")]


async def test_connections_are_dealt_out_in_turn_and_stay_with_their_replica():
    async with running(replicas=2) as client:
        cluster = client.cluster
        cluster.create(config_map("a"))
        cluster.lag(1, revisions=math.inf)
        cluster.create(config_map("b"))
        seen = []
        for _ in range(4):
            async with aiohttp.ClientSession() as session:
                new = Client(cluster, session)
                seen.append(
                    [len((await new.get(f"{ALL_MAPS}?resourceVersion=0"))["items"]) for _ in range(2)]
                )
        assert sorted(seen[:2]) == [[1, 1], [2, 2]]
        assert seen[2:] == seen[:2]


async def test_a_balancer_of_requests_changes_the_replica_within_a_connection():
    async with running(replicas=2, sticky=False) as client:
        cluster = client.cluster
        cluster.lag(1, revisions=math.inf)
        cluster.create(config_map("a"))
        seen = [len((await client.get(f"{ALL_MAPS}?resourceVersion=0"))["items"]) for _ in range(4)]
        assert seen in ([1, 0, 1, 0], [0, 1, 0, 1])


async def test_a_compaction_beyond_a_lagging_replica_makes_it_begin_anew():
    async with two() as (_, behind):
        cluster = behind.cluster
        start = version_of(cluster.create(config_map("a")))
        cluster.lag(1, revisions=math.inf)
        cluster.patch("configmaps", "default", "a", {"data": {"k": "1"}})
        cluster.steer(1)
        async with behind.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
            cluster.compact()
            assert await stream.rest() == b""
        async with behind.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
            assert (await stream.line())["object"]["code"] == 410


async def test_caches_that_are_not_filled_yet_refuse_with_429_what_etcd_does_not_answer():
    async with running() as client:
        client.cluster.create(config_map("a"))
        version = client.cluster.revision
        with client.cluster.initializing():
            async with client.session.get(
                client.cluster.url + f"{ALL_MAPS}?watch=1&resourceVersion={version}"
            ) as response:
                body = await response.json()
                assert (response.status, response.headers["Retry-After"]) == (429, "1")
            assert (body["reason"], body["message"]) == ("TooManyRequests", "storage is (re)initializing")
            assert (await client.ask("GET", ALL_MAPS))[0] == 429
            assert (await client.ask("GET", f"{ALL_MAPS}?limit=5&labelSelector=a%3Db"))[0] == 429
            assert names((await client.get(f"{ALL_MAPS}?limit=5"))["items"]) == ["a"]
            assert (await client.ask("GET", f"{MAPS}/a"))[0] == 200
            assert (await client.ask("GET", "/api/v1/events"))[0] == 200
            client.cluster.elapse(40)
            status, body = await client.ask("GET", ALL_MAPS)
            assert status == 429
            assert 11 <= body["details"]["retryAfterSeconds"] < 30  # 11 after 40 s, and time goes on
            client.cluster.elapse(60)
            assert (await client.ask("GET", ALL_MAPS))[1]["details"]["retryAfterSeconds"] == 30
        assert (await client.ask("GET", ALL_MAPS))[0] == 200
