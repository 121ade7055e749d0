"""A watch of FakeCluster sends, and leaves out, what the real API server's would."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.fakeclient import (
    ALL_MAPS,
    MAPS,
    WATCH_LIST,
    Client,
    config_map,
    event,
    kinds_of,
    labelled,
    running,
    version_of,
)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(fresh_wait_seconds=0.05) as client:
        yield client


async def test_a_watch_sends_each_change_as_one_compact_line_in_the_order_of_versions(client):
    async with client.watch(f"{ALL_MAPS}?watch=true&resourceVersion={client.cluster.revision}") as stream:
        client.cluster.create(config_map("a"))
        client.cluster.patch("configmaps", "default", "a", {"data": {"k": "v"}})
        client.cluster.delete("configmaps", "default", "a")
        raw = await stream.response.content.readline()
        lines = await stream.lines(2)
    assert raw.startswith(
        b'{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a",'
    )
    assert stream.response.headers["Transfer-Encoding"] == "chunked"
    assert kinds_of(lines) == [("MODIFIED", "a"), ("DELETED", "a")]
    assert lines[1]["object"]["data"] == {"k": "v"}
    assert version_of(lines[1]["object"]) == version_of(lines[0]["object"]) + 1 == client.cluster.revision


async def test_a_watch_at_an_older_version_replays_what_came_after_it(client):
    start = version_of(client.cluster.create(config_map("a")))
    client.cluster.create(config_map("b"))
    async with client.watch(f"{MAPS}?watch=1&resourceVersion={start}") as stream:
        client.cluster.create(config_map("c"))
        assert kinds_of(await stream.lines(2)) == [("ADDED", "b"), ("ADDED", "c")]


async def test_a_namespaced_watch_sees_its_namespace_only(client):
    async with client.watch(f"{MAPS}?watch=1&resourceVersion={client.cluster.revision}") as stream:
        client.cluster.create({**config_map("x"), "metadata": {"name": "x", "namespace": "kube-system"}})
        client.cluster.create(config_map("a"))
        assert kinds_of([await stream.line()]) == [("ADDED", "a")]


async def test_a_version_that_left_the_ring_is_one_error_line_with_410_and_the_oldest_version():
    async with running(ring_capacity=2) as client:
        start = client.cluster.revision
        for name in "abc":
            client.cluster.create(config_map(name))
        async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
            error = await stream.line()
            assert await stream.rest() == b""
        oldest = start + 1
        assert error["type"] == "ERROR"
        assert (error["object"]["code"], error["object"]["reason"]) == (410, "Expired")
        assert error["object"]["message"] == f"too old resource version: {start} ({oldest})"
        async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={oldest}") as stream:
            assert kinds_of(await stream.lines(2)) == [("ADDED", "b"), ("ADDED", "c")]


async def test_a_watch_at_a_version_of_the_future_is_silent_until_the_counter_passes_it(client):
    future = client.cluster.revision + 2
    async with client.watch(
        f"{ALL_MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={future}"
    ) as stream:
        client.cluster.create(config_map("lost"))
        client.cluster.bookmark()
        await stream.silent()
        client.cluster.create(config_map("lost-too"))
        client.cluster.create(config_map("seen"))
        assert kinds_of([await stream.line()]) == [("ADDED", "seen")]


@pytest.mark.parametrize("version", ["", "&resourceVersion=0"])
async def test_a_watch_without_a_version_begins_with_everything_as_added(client, version):
    for name in "ab":
        client.cluster.create(config_map(name))
    async with client.watch(f"{ALL_MAPS}?watch=1{version}") as stream:
        assert sorted(kinds_of(await stream.lines(2))) == [("ADDED", "a"), ("ADDED", "b")]
        client.cluster.delete("configmaps", "default", "a")
        assert kinds_of([await stream.line()]) == [("DELETED", "a")]


async def test_a_watch_list_ends_its_snapshot_with_a_marked_bookmark(client):
    for number in range(20):
        client.cluster.create(config_map(f"m{number:02}"))
    async with client.watch(f"{ALL_MAPS}?{WATCH_LIST}") as stream:
        *added, bookmark = await stream.lines(21)
        client.cluster.create(config_map("live"))
        live = await stream.line()
    found = [name for verb, name in kinds_of(added) if verb == "ADDED"]
    assert sorted(found) == [f"m{number:02}" for number in range(20)]
    assert found != sorted(found)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert version_of(live["object"]) == version_of(bookmark["object"]) + 1


async def test_a_watch_list_at_a_version_of_the_future_is_an_error_line(client):
    async with client.watch(f"{ALL_MAPS}?{WATCH_LIST}&resourceVersion=99999") as stream:
        error = await stream.line()
    assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 504, "Timeout")


async def test_a_watch_that_wants_no_initial_events_begins_now(client):
    client.cluster.create(config_map("a"))
    query = "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
    async with client.watch(f"{ALL_MAPS}?{query}") as stream:
        client.cluster.create(config_map("b"))
        assert kinds_of([await stream.line()]) == [("ADDED", "b")]


async def test_a_server_without_watch_lists_forbids_them_and_marks_no_bookmark():
    async with running(watch_list=False) as client:
        status, body = await client.ask("GET", f"{ALL_MAPS}?{WATCH_LIST}")
        assert (status, body["reason"]) == (422, "Invalid")
        assert "sendInitialEvents: Forbidden" in body["message"]
        client.cluster.create(config_map("a"))
        async with client.watch(f"{ALL_MAPS}?watch=1&allowWatchBookmarks=true") as stream:
            await stream.line()
            client.cluster.heartbeat()
            client.cluster.bookmark()
            assert "annotations" not in (await stream.line())["object"]["metadata"]


async def test_bookmarks_carry_a_version_and_go_to_those_who_asked(client):
    start = client.cluster.revision
    async with (
        client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}&allowWatchBookmarks=true") as asked,
        client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as not_asked,
    ):
        client.cluster.bookmark()  # not beyond the version that the watch began with: not sent
        client.cluster.heartbeat()
        client.cluster.bookmark()
        bookmark = await asked.line()
        client.cluster.create(config_map("a"))
        assert kinds_of([await not_asked.line()]) == [("ADDED", "a")]
    metadata = {"resourceVersion": str(start + 1)}
    assert bookmark == {
        "type": "BOOKMARK",
        "object": {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata},
    }


async def test_bookmarks_come_by_themselves():
    async with running(bookmark_seconds=0.02, heartbeat_seconds=0.01) as client:
        async with client.watch(
            f"{ALL_MAPS}?watch=1&resourceVersion=1004&allowWatchBookmarks=true"
        ) as stream:
            first, second = await stream.lines(2)
        assert first["type"] == second["type"] == "BOOKMARK"
        assert version_of(first["object"]) <= version_of(second["object"])


async def test_timeout_seconds_end_a_watch_cleanly(client):
    async with client.watch(
        f"{ALL_MAPS}?watch=1&timeoutSeconds=1&resourceVersion={client.cluster.revision}"
    ) as stream:
        assert await stream.rest() == b""


async def test_entering_and_leaving_a_selection_are_added_and_deleted(client):
    client.cluster.create(labelled("a", {"x": "1"}))
    client.cluster.create(config_map("b"))
    path = f"{ALL_MAPS}?watch=1&labelSelector=x%3D1&resourceVersion={client.cluster.revision}"
    async with client.watch(path) as stream:
        client.cluster.patch("configmaps", "default", "b", {"metadata": {"labels": {"x": "1"}}})
        gone = client.cluster.patch("configmaps", "default", "a", {"metadata": {"labels": {"x": "2"}}})
        client.cluster.delete("configmaps", "default", "a")
        client.cluster.delete("configmaps", "default", "b")
        lines = await stream.lines(3)
    assert kinds_of(lines) == [("ADDED", "b"), ("DELETED", "a"), ("DELETED", "b")]
    assert lines[1]["object"]["metadata"]["labels"] == {"x": "1"}
    assert version_of(lines[1]["object"]) == version_of(gone)


async def test_events_have_no_bookmarks_but_the_one_of_a_watch_list(client):
    client.cluster.create(event("e"))
    async with client.watch(f"/api/v1/events?{WATCH_LIST}") as stream:
        added, end = await stream.lines(2)
        client.cluster.heartbeat()
        client.cluster.bookmark()
        client.cluster.create(event("f"))
        live = await stream.line()
    assert [added["type"], end["type"], live["type"]] == ["ADDED", "BOOKMARK", "ADDED"]


async def test_events_can_be_watched_from_any_version_that_is_not_compacted():
    async with running(ring_capacity=1) as client:
        start = client.cluster.revision
        for name in "abc":
            client.cluster.create(event(name))
        client.cluster.forget()
        async with client.watch(f"/api/v1/events?watch=1&resourceVersion={start}") as stream:
            assert kinds_of(await stream.lines(3)) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]
        client.cluster.compact()
        async with client.watch(f"/api/v1/events?watch=1&resourceVersion={start}") as stream:
            error = (await stream.line())["object"]
            assert await stream.rest() == b""
        assert error["message"] == "The resourceVersion for the provided watch is too old."
        assert (error["code"], error["reason"]) == (410, "Expired")


async def test_a_client_that_does_not_read_is_dropped_without_a_word():
    async with running(watcher_buffer=10) as client:
        data = {"k": "v" * 1_000_000}
        client.cluster.create(config_map("a", data=data))
        start = client.cluster.revision
        async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
            for number in range(200):
                if not client.cluster.watch_count:
                    break
                client.cluster.patch("configmaps", "default", "a", {"data": {"n": str(number)}})
                await asyncio.sleep(0)
            assert client.cluster.watch_count == 0
            received = (await stream.rest()).splitlines()
        versions = [version_of(json.loads(line)["object"]) for line in received]
        assert versions == list(range(start + 1, start + 1 + len(versions)))
        assert start + len(versions) < client.cluster.revision


async def test_thousands_of_changes_in_one_burst_reach_a_client_that_reads(client):
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={client.cluster.revision}") as stream:
        for number in range(3000):
            client.cluster.create(config_map(f"m{number}"))
        lines = await stream.lines(3000)
    assert [version_of(line["object"]) for line in lines] == list(
        range(client.cluster.revision - 2999, client.cluster.revision + 1)
    )
