"""What FakeCluster does as time goes by, which `elapse` lets pass at once: bookmarks, timeouts, history."""

from collections.abc import AsyncIterator

import pytest

from tests.fakeclient import ALL_MAPS, Client, config_map, kinds_of, running, version_of

BOOKMARKED = f"{ALL_MAPS}?watch=1&allowWatchBookmarks=true"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(fresh_wait_seconds=0.05) as client:
        yield client


async def test_a_bookmark_comes_each_minute(client):
    start = client.cluster.revision
    async with client.watch(f"{BOOKMARKED}&timeoutSeconds=600&resourceVersion={start}") as stream:
        client.cluster.heartbeat()
        client.cluster.elapse(50)  # the real time until here counts as well
        await stream.silent()
        client.cluster.elapse(11)
        first = await stream.line()
        client.cluster.heartbeat()
        client.cluster.elapse(61)
        second = await stream.line()
    assert [first["type"], second["type"]] == ["BOOKMARK", "BOOKMARK"]
    assert [version_of(each["object"]) for each in (first, second)] == [start + 1, start + 2]


async def test_the_last_bookmark_comes_two_seconds_before_the_end_that_was_asked_for(client):
    start = client.cluster.revision
    async with client.watch(f"{BOOKMARKED}&timeoutSeconds=30&resourceVersion={start}") as stream:
        client.cluster.heartbeat()
        client.cluster.elapse(20)
        await stream.silent()
        client.cluster.elapse(8.5)
        assert (await stream.line())["type"] == "BOOKMARK"
        client.cluster.elapse(2)
        assert await stream.rest() == b""


async def test_a_watch_ends_cleanly_at_its_timeout_and_the_bookmark_due_before_is_not_left_out(client):
    start = client.cluster.revision
    async with client.watch(f"{BOOKMARKED}&timeoutSeconds=300&resourceVersion={start}") as stream:
        client.cluster.create(config_map("a"))
        assert kinds_of([await stream.line()]) == [("ADDED", "a")]
        client.cluster.heartbeat()
        client.cluster.elapse(301)
        left = (await stream.rest()).splitlines()
    assert len(left) == 1
    assert b'"BOOKMARK"' in left[0]


async def test_without_a_timeout_of_its_own_a_watch_ends_within_an_hour(client):
    path = f"{ALL_MAPS}?watch=1&resourceVersion={client.cluster.revision}"
    async with client.watch(path) as stream:
        client.cluster.elapse(1799)
        await stream.silent()
        client.cluster.elapse(1802)
        assert await stream.rest() == b""


@pytest.mark.parametrize("count", [101, 1000])
async def test_a_burst_stays_in_the_history_for_75_seconds(client, count):
    start = client.cluster.revision
    for number in range(count):
        client.cluster.create(config_map(f"m{number}"))
    client.cluster.elapse(74)
    client.cluster.create(config_map("last"))
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
        assert kinds_of(await stream.lines(count + 1))[-1] == ("ADDED", "last")


async def test_of_a_quiet_resource_the_last_hundred_changes_stay_however_old(client):
    start = client.cluster.revision
    for number in range(100):
        client.cluster.create(config_map(f"m{number}"))
        client.cluster.elapse(3600)
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
        assert len(await stream.lines(100)) == 100
    client.cluster.create(config_map("more"))
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
        error = (await stream.line())["object"]
    assert error["message"] == f"too old resource version: {start} ({start + 1})"


async def test_a_history_that_grew_in_a_burst_shrinks_again_when_it_is_quiet(client):
    for number in range(200):
        client.cluster.create(config_map(f"m{number}"))
    middle = client.cluster.revision
    for number in range(100):
        client.cluster.elapse(100)
        client.cluster.patch("configmaps", "default", "m0", {"data": {"n": str(number)}})
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={middle - 1}") as stream:
        assert (await stream.line())["object"]["code"] == 410
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={middle}") as stream:
        assert len(await stream.lines(100)) == 100
