"""What etcd does behind a FakeCluster: shared revisions, restores, other clusters, rewritten objects."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from kexport.testing.failure import ApiFailure
from tests.fakeclient import (
    ALL_MAPS,
    Client,
    config_map,
    definition,
    event,
    kinds_of,
    names,
    running,
    version_of,
)

EVENTS = "/api/v1/events"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(fresh_wait_seconds=0.05) as client:
        yield client


async def test_expired_objects_go_at_one_version_and_a_watch_at_it_has_missed_them(client):
    made = [client.cluster.create(event(name)) for name in "abc"]
    start = client.cluster.revision
    async with client.watch(f"{EVENTS}?watch=1&resourceVersion={start}") as stream:
        client.cluster.expire(made)
        lines = await stream.lines(3)
    assert kinds_of(lines) == [("DELETED", "a"), ("DELETED", "b"), ("DELETED", "c")]
    assert {version_of(line["object"]) for line in lines} == {start + 1}
    async with client.watch(f"{EVENTS}?watch=1&resourceVersion={start}") as stream:
        assert kinds_of(await stream.lines(3)) == kinds_of(lines)
    async with client.watch(f"{EVENTS}?watch=1&resourceVersion={start + 1}") as stream:
        client.cluster.create(event("d"))
        assert kinds_of([await stream.line()]) == [("ADDED", "d")]


async def test_only_what_exists_expires(client):
    made = client.cluster.create(event("a"))
    before = client.cluster.revision
    with pytest.raises(ApiFailure, match='events "nope" not found'):
        client.cluster.expire([made, event("nope") | {"metadata": {"name": "nope", "namespace": "default"}}])
    assert client.cluster.revision == before
    assert names((await client.get(EVENTS))["items"]) == ["a"]


async def test_after_a_restore_versions_are_used_again_for_other_content(client):
    cluster = client.cluster
    cut = version_of(cluster.create(config_map("a", data={"k": "1"})))
    lost = version_of(cluster.patch("configmaps", "default", "a", {"data": {"k": "lost"}}))
    cluster.rollback(cut)
    again = version_of(cluster.patch("configmaps", "default", "a", {"data": {"k": "other"}}))
    assert again == lost
    exact = await client.get(f"{ALL_MAPS}?resourceVersion={lost}&resourceVersionMatch=Exact")
    assert [item["data"]["k"] for item in exact["items"]] == ["other"]
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={lost}") as stream:
        cluster.create(config_map("b"))
        assert kinds_of([await stream.line()]) == [("ADDED", "b")]


async def test_after_a_restore_a_watch_from_before_hears_nothing_until_the_counter_has_passed(client):
    cluster = client.cluster
    cut = version_of(cluster.create(config_map("a")))
    for number in range(3):
        last = version_of(cluster.patch("configmaps", "default", "a", {"data": {"k": str(number)}}))
    cluster.rollback(cut)
    async with client.watch(f"{ALL_MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={last}") as stream:
        for name in "xyz":
            cluster.create(config_map(name))
        cluster.elapse(61)
        await stream.silent()
        cluster.create(config_map("heard"))
        assert kinds_of([await stream.line()]) == [("ADDED", "heard")]


async def test_a_restore_with_a_bumped_revision_is_a_clean_410(client):
    cluster = client.cluster
    cut = version_of(cluster.create(config_map("a")))
    last = version_of(cluster.create(config_map("b")))
    cluster.rollback(cut, bump_revisions=1_000_000)
    assert cluster.revision == cut + 1_000_000
    assert names((await client.get(ALL_MAPS))["items"]) == ["a"]
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={last}") as stream:
        assert (await stream.line())["object"]["code"] == 410
    path = f"{ALL_MAPS}?resourceVersion={last}&resourceVersionMatch=Exact"
    assert (await client.ask("GET", path))[0] == 410


async def test_no_backup_has_what_was_compacted(client):
    old = client.cluster.revision
    client.cluster.heartbeat(5)
    client.cluster.compact()
    with pytest.raises(ValueError, match=f"revision {old} was compacted"):
        client.cluster.rollback(old)


async def test_another_cluster_behind_the_address_has_other_uids_objects_and_versions(client):
    async def system_uid() -> str:
        return str((await client.get("/api/v1/namespaces/kube-system"))["metadata"]["uid"])

    cluster, url = client.cluster, client.cluster.url
    cluster.create(definition())
    last = version_of(cluster.create(config_map("a")))
    uid = await system_uid()
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={last}") as stream:
        await cluster.replace(first_revision=50)
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
    assert cluster.url == url
    assert await system_uid() != uid
    body = await client.get(ALL_MAPS)
    assert (body["items"], version_of(body) < last) == ([], True)
    assert (await client.ask("GET", "/apis/x.io/v1/foos"))[0] == 404
    assert version_of(cluster.create(config_map("a"))) == cluster.revision < last


async def test_touched_objects_are_modified_in_nothing_but_their_version(client):
    before = client.cluster.create(config_map("a", data={"k": "v"}))
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={version_of(before)}") as stream:
        client.cluster.touch("configmaps")
        line = await stream.line()
    after = line["object"]
    assert (line["type"], version_of(after)) == ("MODIFIED", version_of(before) + 1)
    after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
    assert after == before
